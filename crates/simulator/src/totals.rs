//! [`Totals`]: what one or many runs covered. Counts only; nothing is decided by them.

use std::collections::BTreeMap;

use journal::disk::Tally;

use crate::fact::{Fact, JobAnswer, JobWish, Micros, WorkFact};
use crate::fault::Kind;

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// Events and facts.
    pub steps: u64,
    /// Virtual time covered.
    pub virtual_micros: Micros,
    /// Ends of the server of every kind.
    pub crashes: u64,
    /// Connections that reached the server.
    pub connections: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that the server said yes to.
    pub confirmed: u64,
    /// Messages that reached a client.
    pub delivered: u64,
    /// Acknowledgements sent.
    pub acked: u64,
    /// Transactions sent.
    pub steps_committed: u64,
    /// Jobs that were inserted, reserved and deleted.
    pub jobs: [u64; 3],
    /// Inputs of workers: taken in, handed out, completed.
    pub works: [u64; 3],
    /// How often the disk was compared with the node.
    pub compared: u64,
    /// Backups taken whole.
    pub backups: u64,
    /// Faults done, by kind.
    pub faults: BTreeMap<Kind, u64>,
    /// Whether an alarm is on: for the world's own use.
    pub(crate) is_alarmed: bool,
}

impl Totals {
    pub(crate) fn fault(&mut self, kind: Kind) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub(crate) fn count(&mut self, fact: &Fact) {
        let [inserted, reserved, deleted] = &mut self.jobs;
        let [taken_in, handed_out, completed] = &mut self.works;
        let counter = match fact {
            Fact::Sent(_) => &mut self.sent,
            Fact::Confirmed(..) => &mut self.confirmed,
            Fact::Delivered(_) => &mut self.delivered,
            Fact::Acked(_) => &mut self.acked,
            Fact::Step { .. } => &mut self.steps_committed,
            Fact::Work(WorkFact::PutDone(_)) => taken_in,
            Fact::Work(WorkFact::Taken { .. }) => handed_out,
            Fact::Work(WorkFact::Stored { .. }) => completed,
            Fact::JobAnswered(it) => match (&it.answer, &it.ask.wish) {
                (JobAnswer::Inserted(_), _) => inserted,
                (JobAnswer::Reserved(..), _) => reserved,
                (JobAnswer::Yes, JobWish::Delete(_)) => deleted,
                _ => return,
            },
            Fact::Compared { .. } => &mut self.compared,
            Fact::BackedUp { .. } => &mut self.backups,
            _ => return,
        };
        *counter += 1;
    }

    /// Takes in what a disk did.
    pub(crate) fn disk(&mut self, tally: &Tally) {
        for (kind, count) in [
            (Kind::ReadError, tally.read_errors),
            (Kind::WriteError, tally.write_errors),
            (Kind::SyncError, tally.sync_errors),
            (Kind::DiskFull, tally.full),
            (Kind::ShortWrites, tally.short_writes),
            (Kind::Misdirected, tally.lies),
            (Kind::BitRot, tally.flipped_bits),
        ] {
            if count > 0 {
                *self.faults.entry(kind).or_default() += count;
            }
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.virtual_micros += other.virtual_micros;
        self.crashes += other.crashes;
        self.connections += other.connections;
        self.sent += other.sent;
        self.confirmed += other.confirmed;
        self.delivered += other.delivered;
        self.acked += other.acked;
        self.steps_committed += other.steps_committed;
        for (sum, count) in self.works.iter_mut().zip(other.works) {
            *sum += count;
        }
        for (sum, count) in self.jobs.iter_mut().zip(other.jobs) {
            *sum += count;
        }
        self.compared += other.compared;
        self.backups += other.backups;
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
    }
}
