//! Beginning and ending: what an earlier worker left, and what this one leaves; what only the
//! passing of time brings. Not here: signals (the binary). Called by the loop in `agent`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Agent, Heard, Phase, Stage};
use crate::Fault;
use crate::api::ReleaseAsk;
use crate::backoff::{Backoff, chance};
use crate::ending::Perform;
use crate::figures::Snapshot;
use crate::server::{Server, Trouble};
use crate::stop::Order;

/// How long results and releases may take once nothing runs any more.
const CLOSING: Duration = Duration::from_secs(10);
/// How long giving everything back may take at the very end.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long items wait here while no model server is up; then others may have them.
const DOWN_MAX: Duration = Duration::from_secs(30);

/// Giving back what an earlier worker of this name held.
#[derive(Debug)]
pub(super) struct Settling {
    backoff: Backoff,
    next: Option<Instant>,
    is_flying: bool,
}

impl Settling {
    pub(super) const fn new(backoff: Backoff) -> Self {
        Self { backoff, next: None, is_flying: false }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.next.filter(|next| *next > Instant::now())
    }

    pub(super) const fn forget_tasks(&mut self) {
        self.is_flying = false;
    }
}

impl<S: Server, P: Perform> Agent<S, P> {
    /// Once the results of an earlier worker are delivered, what it held besides is given back.
    pub(super) fn settle(&mut self) {
        let must_wait = self.settling.next.is_some_and(|next| next > Instant::now());
        let is_next = self.phase == Phase::Starting && self.results.is_empty();
        if !is_next || self.settling.is_flying || must_wait {
            return;
        }
        self.settling.is_flying = true;
        let ask = ReleaseAsk { worker: self.rules.name.clone(), items: Vec::new(), all: true };
        let server = Arc::clone(&self.server);
        let _running = self.calls.spawn(async move { Heard::Released(server.release(ask).await) });
    }

    pub(super) fn on_released(&mut self, result: Result<(), Trouble>) -> Result<(), Fault> {
        self.settling.is_flying = false;
        self.refuse_login(&result)?;
        self.heard_from_server(&result);
        match result {
            Ok(()) | Err(Trouble::Refused { .. }) if self.phase == Phase::Starting => {
                self.phase = Phase::Working;
                self.busy_at = Instant::now();
                self.settling.next = None;
            }
            Ok(()) | Err(Trouble::Refused { .. }) => {}
            Err(trouble) => {
                let pause = self.settling.backoff.failed(chance(), trouble.retry_after());
                self.settling.next = Some(Instant::now() + pause);
            }
        }
        Ok(())
    }

    /// Follows an order; true when everything is to end at once.
    pub(super) fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Work => false,
            Order::Drain => {
                self.drain("told to end");
                false
            }
            Order::Now => true,
        }
    }

    /// Looks at what only time brings.
    pub(super) fn watch_time(&mut self) {
        let now = Instant::now();
        if self.drain_file().is_some_and(|path| path.exists()) {
            self.drain("the drain file is there");
        }
        let is_idle = self.running.is_empty() && self.waiting.is_empty() && self.results.is_empty();
        if let Some(idle) = self.rules.ending.idle.filter(|_| self.phase == Phase::Working)
            && is_idle
            && now.saturating_duration_since(self.busy_at) >= idle
        {
            self.drain("nothing was to do");
        }
        match self.phase {
            Phase::Draining(_) if self.running.is_empty() => {
                self.phase = Phase::Closing(now + CLOSING);
            }
            Phase::Draining(until) if now >= until => self.stop_running(now),
            Phase::Starting | Phase::Working | Phase::Draining(_) | Phase::Closing(_) => {}
        }
        self.watch_lanes(now);
    }

    /// Items that cannot run here for long go back.
    fn watch_lanes(&mut self, now: Instant) {
        if self.lanes.capacity() > 0 {
            self.down_since = None;
            return;
        }
        let since = *self.down_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= DOWN_MAX && !self.waiting.is_empty() {
            tracing::warn!("no model server is up: what waits is given back");
            self.release_waiting();
        }
    }

    fn drain(&mut self, why: &str) {
        if !matches!(self.phase, Phase::Starting | Phase::Working) {
            return;
        }
        let until = Instant::now() + self.rules.ending.drain;
        tracing::info!(why, running = self.running.len(), "draining; a second signal ends at once");
        self.phase = Phase::Draining(until);
        self.claims.stop();
        self.results.hurry();
        self.release_waiting();
    }

    fn release_waiting(&mut self) {
        let mut leases = Vec::new();
        for item in self.waiting.drain(..) {
            let _ours = self.held.remove(&item.id);
            leases.push(item.lease());
        }
        self.give_back(leases);
    }

    /// Stops what still runs and gives it back.
    fn stop_running(&mut self, now: Instant) {
        let is_running = |stage: &Stage| matches!(stage, Stage::Running(_));
        let stopped: Vec<String> = self
            .held
            .iter()
            .filter(|(_, h)| is_running(&h.stage))
            .map(|(id, _)| id.clone())
            .collect();
        tracing::warn!(
            count = stopped.len(),
            "the time to drain is over: running items are given back"
        );
        let all = self.leases();
        for id in &stopped {
            let _ours = self.held.remove(id);
            self.figures.interrupted += 1;
        }
        self.items.clear();
        self.running.abort_all();
        self.give_back(all.into_iter().filter(|lease| stopped.contains(&lease.id)).collect());
        self.phase = Phase::Closing(now + CLOSING);
    }

    /// When the end does not wait any longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining(until) | Phase::Closing(until) => Some(until),
            Phase::Starting => None,
            Phase::Working => {
                let idle = self.rules.ending.idle.map(|idle| self.busy_at + idle);
                let down = self.down_since.filter(|_| !self.waiting.is_empty());
                let times = [idle, down.map(|since| since + DOWN_MAX)].into_iter().flatten();
                times.filter(|at| *at > Instant::now()).min()
            }
        }
    }

    /// Everything is told, or is on the disk and cannot be told now.
    pub(super) fn is_over(&self) -> bool {
        let Phase::Closing(until) = self.phase else { return false };
        let is_told = self.results.is_empty() && self.calls.is_empty();
        let is_hopeless = self.results.is_stored() && self.results.is_failing();
        self.running.is_empty() && (is_told || is_hopeless || Instant::now() >= until)
    }

    /// The last figures. What the server still thinks is ours goes back, if nothing is untold.
    pub(super) async fn close(mut self) -> Snapshot {
        let is_in_order = matches!(self.phase, Phase::Closing(_)) && self.results.is_empty();
        if is_in_order && self.was_connected {
            let ask = ReleaseAsk { worker: self.rules.name.clone(), items: Vec::new(), all: true };
            let told = timeout(GOODBYE, self.server.release(ask)).await;
            tracing::debug!(?told, "goodbye");
        }
        let mut snapshot = self.snapshot();
        snapshot.state = "ended";
        snapshot
    }
}
