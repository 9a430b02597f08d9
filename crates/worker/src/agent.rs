//! [`Agent`]: the worker's one loop. It owns what is held, what waits, what runs and what is to be
//! told; calls to the server and items run as tasks and report back to it. At most one claim, one
//! renewal, one write to the spool and one delivery are on their way at a time; while one is, the
//! next gathers.
//!
//! Here: the state and the loop. In the folder: claiming (`claims`), renewing (`leases`), results
//! (`results`), the end (`drain`). Not here: running an item (`ending::Perform`), the wire
//! (`server::Server`).

mod claims;
mod drain;
mod leases;
mod results;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::api::{Claimed, Item, Lease, Renewed};
use crate::appetite::Appetite;
use crate::backoff::Backoff;
use crate::ending::{Ending, Failure, Perform};
use crate::figures::{Figures, Snapshot};
use crate::hardware::Gpu;
use crate::heartbeat::Heartbeat;
use crate::lanes::Lanes;
use crate::plan::{EndingPlan, Policy};
use crate::server::{Server, Trouble};
use crate::spool::{Spool, Stored};
use crate::stop::Order;
use crate::{Fault, Plan};
use results::{Results, Sent};

/// First and longest pause between tries to reach the server.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often the drain file is looked for.
const GLANCE: Duration = Duration::from_secs(1);

/// What the agent is told at the start.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) name: String,
    pub(crate) queues: Vec<String>,
    pub(crate) lease: Duration,
    pub(crate) policy: Policy,
    pub(crate) spool_bytes_max: u64,
    pub(crate) ending: EndingPlan,
    pub(crate) price_per_hour: Option<f64>,
    pub(crate) status_every: Duration,
}

impl Rules {
    pub(crate) fn of(plan: &Plan, name: String) -> Self {
        Self {
            name,
            queues: plan.queues.clone(),
            lease: plan.lease,
            policy: plan.policy,
            spool_bytes_max: plan.spool.bytes_max,
            ending: plan.ending.clone(),
            price_per_hour: plan.price_per_hour,
            status_every: plan.status_every,
        }
    }
}

/// What the agent works with.
#[derive(Debug)]
pub(crate) struct Parts<S, P> {
    pub(crate) server: Arc<S>,
    pub(crate) performer: Arc<P>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) spool: Arc<Spool>,
    /// Batches of earlier workers.
    pub(crate) found: Vec<Stored>,
}

/// Where the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Delivers what an earlier worker left and gives back what it held.
    Starting,
    /// Takes items.
    Working,
    /// Takes none and waits for those that run, until then.
    Draining(Instant),
    /// Everything that runs was stopped; results are delivered, until then.
    Closing(Instant),
}

/// An item that is ours.
#[derive(Debug)]
struct Held {
    attempt: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Running(AbortHandle),
    /// Ended; the server does not know yet.
    Ended,
}

/// What a task that talked to the server or to the disk brings back.
#[derive(Debug)]
enum Heard {
    Claimed {
        result: Result<Claimed, Trouble>,
        took: Duration,
    },
    Renewed(Result<Renewed, Trouble>),
    /// Whether an item that was lost is still to be done.
    Looked {
        id: String,
        result: Result<bool, Trouble>,
    },
    Released(Result<(), Trouble>),
    Stored(results::Entry),
    Sent(Sent),
    /// It does not matter what was answered.
    Nothing,
}

/// The loop and all that it owns.
pub(crate) struct Agent<S, P> {
    server: Arc<S>,
    performer: Arc<P>,
    lanes: Arc<Lanes>,
    spool: Arc<Spool>,
    rules: Rules,
    phase: Phase,
    held: HashMap<String, Held>,
    waiting: VecDeque<Arc<Item>>,
    running: JoinSet<(Ending, Duration)>,
    items: HashMap<Id, Arc<Item>>,
    calls: JoinSet<Heard>,
    claims: claims::Claims,
    heart: Heartbeat,
    is_renewing: bool,
    /// Leases that the server says we have and we do not know, seen once.
    suspects: HashSet<String>,
    results: Results,
    /// A call that gives everything back is on its way, or was answered.
    settling: drain::Settling,
    figures: Figures,
    gpus: Vec<Gpu>,
    is_connected: bool,
    was_connected: bool,
    next_status: Instant,
    /// Since when nothing can run.
    down_since: Option<Instant>,
    busy_at: Instant,
}

impl<S: Server, P: Perform> Agent<S, P> {
    pub(crate) fn new(parts: Parts<S, P>, rules: Rules, now: Instant) -> Self {
        let backoff = || Backoff::new(PAUSES.0, PAUSES.1);
        Self {
            server: parts.server,
            performer: parts.performer,
            lanes: parts.lanes,
            spool: parts.spool,
            phase: Phase::Starting,
            held: HashMap::new(),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            items: HashMap::new(),
            calls: JoinSet::new(),
            claims: claims::Claims::new(backoff(), Appetite::default()),
            heart: Heartbeat::new(rules.lease, now),
            is_renewing: false,
            suspects: HashSet::new(),
            results: Results::new(backoff(), parts.found),
            settling: drain::Settling::new(backoff()),
            figures: Figures::new(now, rules.price_per_hour),
            gpus: Vec::new(),
            is_connected: false,
            was_connected: false,
            next_status: now,
            down_since: None,
            busy_at: now,
            rules,
        }
    }

    /// Works until told to end. `tell` gets figures now and then, `gpus` is asked before.
    ///
    /// # Errors
    /// The server never let the worker in.
    pub(crate) async fn run(
        mut self,
        mut orders: watch::Receiver<Order>,
        mut gpus: impl FnMut() -> Vec<Gpu>,
        mut tell: impl FnMut(&Snapshot),
    ) -> Result<Snapshot, Fault> {
        let mut heard_all_orders = false;
        let lanes = Arc::clone(&self.lanes);
        loop {
            // Before anything is looked at, so that no change falls in between.
            let mut changed = std::pin::pin!(lanes.changed());
            changed.as_mut().enable();
            let order = *orders.borrow_and_update();
            if self.obey(order) {
                break;
            }
            self.step();
            if self.is_over() {
                break;
            }
            if self.next_status <= Instant::now() {
                self.next_status = Instant::now() + self.rules.status_every;
                self.gpus = gpus();
                tell(&self.snapshot());
            }
            let wake = self.wake_at();
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.on_all_ended(ended),
                Some(heard) = self.calls.join_next() => self.on_heard(heard)?,
                () = changed => {}
                more = orders.changed(), if !heard_all_orders => heard_all_orders = more.is_err(),
                () = sleep_until(wake) => {}
            }
        }
        let last = self.close().await;
        tell(&last);
        Ok(last)
    }

    /// Everything that can be done now without waiting.
    fn step(&mut self) {
        self.watch_time();
        self.start_items();
        self.settle();
        self.claim();
        self.renew();
        self.store();
        self.send();
    }

    /// When something is to be done even if nothing is heard.
    fn wake_at(&self) -> Instant {
        let times = [
            Some(self.next_status),
            self.heart.due().filter(|_| !self.held.is_empty()),
            self.claims.wake_at().filter(|_| self.phase == Phase::Working),
            self.results.wake_at(),
            self.settling.wake_at(),
            self.lanes.next_release(),
            self.rules.ending.drain_file.as_ref().map(|_| Instant::now() + GLANCE),
            self.deadline(),
        ];
        let soonest = times.into_iter().flatten().min();
        soonest.unwrap_or_else(|| Instant::now() + GLANCE)
    }

    /// Runs what waits, as far as there is room.
    fn start_items(&mut self) {
        if matches!(self.phase, Phase::Closing(_)) {
            return;
        }
        while !self.waiting.is_empty() {
            let Some(slot) = self.lanes.take(None) else { break };
            let Some(item) = self.waiting.pop_front() else { break };
            let performer = Arc::clone(&self.performer);
            let work = {
                let item = Arc::clone(&item);
                async move {
                    let began = Instant::now();
                    let ending = performer.perform(item, slot).await;
                    (ending, began.elapsed())
                }
            };
            let handle = self.running.spawn(work);
            let _new = self.items.insert(handle.id(), Arc::clone(&item));
            if let Some(held) = self.held.get_mut(&item.id) {
                held.stage = Stage::Running(handle);
            }
        }
    }

    /// One ended, and whatever ended with it: one batch for all.
    fn on_all_ended(&mut self, first: Result<(Id, (Ending, Duration)), JoinError>) {
        self.on_ended(first);
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.on_ended(ended);
        }
    }

    fn on_ended(&mut self, ended: Result<(Id, (Ending, Duration)), JoinError>) {
        let (id, ending) = match ended {
            Ok((id, (ending, took))) => {
                if matches!(ending, Ending::Done { .. }) {
                    self.claims.appetite.saw_item(took);
                }
                (id, Some(ending))
            }
            Err(error) if error.is_panic() => {
                let failure = Failure::new("worker_bug", error.to_string());
                (error.id(), Some(Ending::Failed(failure)))
            }
            // Stopped by us: what is to be said was said there.
            Err(error) => (error.id(), None),
        };
        self.busy_at = Instant::now();
        if let Some((item, ending)) = self.items.remove(&id).zip(ending) {
            self.conclude(&item, ending);
        }
    }

    /// Tells the server, in the way that the ending asks for.
    fn conclude(&mut self, item: &Item, ending: Ending) {
        match ending {
            Ending::Done { payload, notes, tokens } => {
                self.figures.done += 1;
                self.figures.tokens = self.figures.tokens.saturating_add(tokens);
                self.claims.went_well();
                self.report_result(item, &payload, &notes);
            }
            Ending::Failed(failure) => {
                tracing::info!(item = item.id, class = failure.class, "an item failed");
                self.figures.count_failure(&failure.class);
                self.claims.went_well();
                self.report_failure(&self.newest(item), &failure);
            }
            Ending::Interrupted(why) => {
                tracing::warn!(item = item.id, why, "an item was interrupted");
                self.figures.interrupted += 1;
                let lease = self.newest(item);
                let _ours = self.held.remove(&item.id);
                self.claims.went_badly();
                self.give_back(vec![lease]);
            }
        }
    }

    fn on_heard(&mut self, heard: Result<Heard, JoinError>) -> Result<(), Fault> {
        match heard {
            Ok(Heard::Claimed { result, took }) => self.on_claimed(result, took)?,
            Ok(Heard::Renewed(result)) => self.on_renewed(result),
            Ok(Heard::Looked { id, result }) => self.on_looked(&id, &result),
            Ok(Heard::Released(result)) => self.on_released(result)?,
            Ok(Heard::Stored(entry)) => self.on_stored(entry),
            Ok(Heard::Sent(sent)) => self.on_sent(sent)?,
            Ok(Heard::Nothing) => {}
            Err(error) if error.is_cancelled() => self.claims.was_stopped(),
            Err(error) => {
                tracing::error!(%error, "a task of the worker broke");
                self.forget_tasks();
            }
        }
        Ok(())
    }

    /// After a bug in a task nobody knows which it was: all may be started again, since every call
    /// may be tried twice.
    fn forget_tasks(&mut self) {
        self.claims.was_stopped();
        self.is_renewing = false;
        self.heart.answered(Instant::now(), false);
        self.results.forget_tasks();
        self.settling.forget_tasks();
    }

    /// Remembers whether the server is there and says so when that changes.
    fn heard_from_server<T>(&mut self, result: &Result<T, Trouble>) {
        match result {
            Ok(_) | Err(Trouble::Refused { .. }) => {
                if !self.is_connected {
                    tracing::info!("the server answers");
                }
                self.is_connected = true;
                self.was_connected = true;
            }
            Err(trouble) => {
                if self.is_connected || !self.was_connected {
                    tracing::warn!(%trouble, "the server cannot be used; trying again");
                }
                self.is_connected = false;
            }
        }
    }

    /// Nobody gets in at the very first call: a mistake, which trying again does not mend.
    fn refuse_login<T>(&self, result: &Result<T, Trouble>) -> Result<(), Fault> {
        match result {
            Err(Trouble::Login(text)) if !self.was_connected => Err(Fault::Login(text.clone())),
            _ => Ok(()),
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let state = match self.phase {
            Phase::Starting => "starting",
            Phase::Working => "working",
            Phase::Draining(_) | Phase::Closing(_) => "draining",
        };
        let mut snapshot = Snapshot {
            worker: self.rules.name.clone(),
            state,
            is_connected: self.is_connected,
            idle: self.claims.idle.clone(),
            running: self.running.len(),
            waiting: self.waiting.len(),
            undelivered: self.held.values().filter(|h| matches!(h.stage, Stage::Ended)).count(),
            spool_bytes: self.spool.bytes(),
            upstreams: self.lanes.figures(),
            gpus: self.gpus.clone(),
            ..Snapshot::default()
        };
        self.figures.fill(Instant::now(), &mut snapshot);
        snapshot
    }

    /// The leases of everything held.
    fn leases(&self) -> Vec<Lease> {
        let leases = self.held.iter();
        leases.map(|(id, held)| Lease { id: id.clone(), attempt: held.attempt }).collect()
    }

    fn drain_file(&self) -> Option<&PathBuf> {
        self.rules.ending.drain_file.as_ref()
    }
}
