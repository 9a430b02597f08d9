//! The promises as watchers: one file per invariant. Each listens to the facts of a run and objects
//! at the first one that breaks it. None of them knows the server; each knows one sentence.
//!
//! Called by `world` after every step. Every file has a test that feeds it a history which breaks
//! the sentence: a checker counts only after it has caught something.

mod acknowledged_loss;
mod backup;
mod completions;
mod credit;
mod damage;
mod disk_failure;
mod gone;
mod job_buried;
mod job_delays;
mod job_deleted;
mod job_kicks;
mod job_leases;
mod job_loss;
mod job_order;
mod job_owners;
mod job_progress;
mod job_states;
mod one_commit;
mod order;
mod owners;
mod poison;
mod pressure;
mod progress;
mod redelivery;
mod refused;
mod replay;
mod settled;
mod timers;

use crate::fact::{Fact, Micros};
use crate::garden::Garden;

/// One sentence about every run.
pub trait Invariant {
    /// Its name, for reports: the name of its file.
    fn name(&self) -> &'static str;

    /// Takes a fact in.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn hear(&mut self, fact: &Fact) -> Result<(), String>;
}

/// A broken sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant objects.
    pub invariant: &'static str,
    /// Why.
    pub detail: String,
    /// When.
    pub now: Micros,
}

/// All invariants of a run.
pub(crate) struct Judge {
    bench: Vec<Box<dyn Invariant>>,
}

impl Judge {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { bench: all(garden) }
    }

    /// The first objection.
    pub(crate) fn hear(&mut self, fact: &Fact, now: Micros) -> Option<Violation> {
        self.bench.iter_mut().find_map(|one| {
            let detail = one.hear(fact).err()?;
            Some(Violation { invariant: one.name(), detail, now })
        })
    }
}

/// One of each.
#[must_use]
pub fn all(garden: &Garden) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(damage::Damage::new(garden)),
        Box::new(owners::Owners::default()),
        Box::new(settled::Settled::default()),
        Box::new(order::Order::new(garden)),
        Box::new(redelivery::Redelivery::default()),
        Box::new(refused::Refused::default()),
        Box::new(credit::Credit::default()),
        Box::new(gone::Gone::new(garden)),
        Box::new(timers::Timers::new(garden)),
        Box::new(poison::Poison::new(garden)),
        Box::new(disk_failure::DiskFailure::default()),
        Box::new(pressure::Pressure::default()),
        Box::new(backup::Backup),
        Box::new(replay::Replay::default()),
        Box::new(one_commit::OneCommit::new(garden)),
        Box::new(progress::Progress::new(garden)),
        Box::new(job_deleted::JobDeleted::default()),
        Box::new(job_owners::JobOwners::default()),
        Box::new(job_leases::JobLeases::default()),
        Box::new(job_delays::JobDelays::default()),
        Box::new(job_buried::JobBuried::default()),
        Box::new(job_states::JobStates::default()),
        Box::new(job_order::JobOrder::default()),
        Box::new(job_kicks::JobKicks::default()),
        Box::new(job_progress::JobProgress),
        Box::new(job_loss::JobLoss::default()),
        Box::new(completions::Completions::default()),
        Box::new(acknowledged_loss::AcknowledgedLoss::new(garden)),
    ]
}

/// Feeds a history to a checker; the first objection ends it.
#[cfg(test)]
pub(crate) fn try_history(invariant: &mut dyn Invariant, history: &[Fact]) -> Result<(), String> {
    history.iter().try_for_each(|fact| invariant.hear(fact))
}
