//! Claiming: when, how many, and what becomes of what comes. A claim waits at the server until
//! there is something, so an idle worker asks three times a minute. Not here: how many items to
//! have (`appetite`). Called by the loop in `agent`.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Agent, Heard, Held, Phase, Stage};
use crate::Fault;
use crate::api::{ClaimAsk, Claimed, Item};
use crate::appetite::Appetite;
use crate::backoff::{Backoff, chance};
use crate::ending::Perform;
use crate::server::{Server, Trouble};

/// How long the server may hold a claim open until there is something.
const WAIT: Duration = Duration::from_secs(20);
/// Answers that come sooner than this were not waited for, so they tell the round trip.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Pause after an empty answer that came at once, as from a paused queue.
const LULL: Duration = Duration::from_secs(1);

/// The state of claiming.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) appetite: Appetite,
    /// Why the last claim brought nothing.
    pub(super) idle: Option<String>,
    backoff: Backoff,
    /// No claim before this.
    next: Option<Instant>,
    /// The one that is on its way.
    flying: Option<AbortHandle>,
}

impl Claims {
    pub(super) const fn new(backoff: Backoff, appetite: Appetite) -> Self {
        Self { appetite, idle: None, backoff, next: None, flying: None }
    }

    /// When the next claim may go out, if one has to wait.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.next.filter(|_| self.flying.is_none()).filter(|next| *next > Instant::now())
    }

    /// An item ended by itself: this machine works.
    pub(super) const fn went_well(&mut self) {
        self.backoff.succeeded();
    }

    /// The machine's fault, or the server's: some rest, so that a broken machine does not burn
    /// through a queue.
    pub(super) fn went_badly(&mut self) {
        let pause = self.backoff.failed(chance(), None);
        self.next = Some(Instant::now() + pause);
    }

    /// The claim on its way was stopped.
    pub(super) fn was_stopped(&mut self) {
        self.flying = None;
    }

    /// Stops the claim on its way.
    pub(super) fn stop(&mut self) {
        if let Some(flying) = self.flying.take() {
            flying.abort();
        }
    }

    fn may_go(&self) -> bool {
        self.flying.is_none() && self.next.is_none_or(|next| next <= Instant::now())
    }
}

impl<S: Server, P: Perform> Agent<S, P> {
    /// Asks for items when there is room for more.
    pub(super) fn claim(&mut self) {
        if self.phase != Phase::Working || !self.claims.may_go() {
            return;
        }
        if self.spool.bytes() > self.rules.spool_bytes_max {
            return;
        }
        let wanted = self.claims.appetite.wanted(self.lanes.capacity());
        let here = self.waiting.len() + self.running.len();
        let most = wanted.saturating_sub(here);
        if most == 0 {
            return;
        }
        let ask = ClaimAsk {
            worker: self.rules.name.clone(),
            queues: self.rules.queues.clone(),
            most,
            // With something to do, an answer at once is worth more than a full one.
            wait_s: WAIT.as_secs(),
            lease_s: self.rules.lease.as_secs(),
        };
        let server = Arc::clone(&self.server);
        let flying = self.calls.spawn(async move {
            let began = Instant::now();
            let result = server.claim(ask).await;
            Heard::Claimed { result, took: began.elapsed() }
        });
        self.claims.flying = Some(flying);
    }

    pub(super) fn on_claimed(
        &mut self,
        result: Result<Claimed, Trouble>,
        took: Duration,
    ) -> Result<(), Fault> {
        self.claims.flying = None;
        self.refuse_login(&result)?;
        self.heard_from_server(&result);
        let claimed = match result {
            Ok(claimed) => claimed,
            Err(trouble) => {
                let pause = self.claims.backoff.failed(chance(), trouble.retry_after());
                self.claims.next = Some(Instant::now() + pause);
                return Ok(());
            }
        };
        self.claims.next = None;
        if took < AT_ONCE && !claimed.items.is_empty() {
            self.claims.appetite.saw_round_trip(took);
        }
        self.claims.idle = claimed.items.is_empty().then(|| claimed.idle.unwrap_or_default());
        if claimed.items.is_empty() {
            if took < LULL {
                self.claims.next = Some(Instant::now() + LULL);
            }
            return Ok(());
        }
        self.busy_at = Instant::now();
        for item in claimed.items {
            self.take_in(item);
        }
        Ok(())
    }

    /// An item that waits or runs here already has only a newer lease. One that ended here comes
    /// back when its failure was heard: this may arrive before the answer to the failure.
    fn take_in(&mut self, item: Item) {
        match self.held.get_mut(&item.id) {
            Some(Held { attempt, stage: Stage::Waiting | Stage::Running(_) }) => {
                *attempt = item.attempt;
            }
            Some(Held { stage: Stage::Ended, .. }) | None => {
                let held = Held { attempt: item.attempt, stage: Stage::Waiting };
                let _ended = self.held.insert(item.id.clone(), held);
                self.waiting.push_back(Arc::new(item));
            }
        }
    }
}
