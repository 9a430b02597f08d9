//! Renewing: one call for all leases, what the server says is lost, and what it says is ours that
//! we do not know. Not here: when (`heartbeat`). Called by the loop in `agent`.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Agent, Heard, Phase, Stage};
use crate::api::{Lease, Lost, ReleaseAsk, RenewAsk, Renewed};
use crate::ending::Perform;
use crate::server::{Server, Trouble};

/// Lost items that are asked about after one renewal.
const LOOKS_MAX: usize = 16;

impl<S: Server, P: Perform> Agent<S, P> {
    /// Renews when it is time and there is something to renew.
    pub(super) fn renew(&mut self) {
        let now = Instant::now();
        if self.is_renewing || self.held.is_empty() || self.heart.due().is_none_or(|due| due > now)
        {
            return;
        }
        self.heart.sent(now);
        self.is_renewing = true;
        let ask = RenewAsk {
            worker: self.rules.name.clone(),
            lease_s: self.rules.lease.as_secs(),
            items: self.leases(),
        };
        let (server, patience) = (Arc::clone(&self.server), self.heart.patience());
        let _running =
            self.calls.spawn(async move { Heard::Renewed(server.renew(ask, patience).await) });
    }

    pub(super) fn on_renewed(&mut self, result: Result<Renewed, Trouble>) {
        self.is_renewing = false;
        self.heart.answered(Instant::now(), result.is_ok());
        self.heard_from_server(&result);
        let Ok(renewed) = result else { return };
        self.after_loss(&renewed.lost);
        self.after_surprise(renewed.held);
    }

    /// What has not begun is somebody else's now. What runs goes on, since its result is welcome
    /// late, unless the item is done.
    fn after_loss(&mut self, lost: &[Lost]) {
        let mut looks = 0;
        for id in lost.iter().map(Lost::id) {
            match self.held.get(id).map(|held| &held.stage) {
                Some(Stage::Waiting) => {
                    self.waiting.retain(|item| item.id != id);
                    let _ours = self.held.remove(id);
                    self.figures.interrupted += 1;
                }
                Some(Stage::Running(_)) if looks < LOOKS_MAX => {
                    looks += 1;
                    let (server, id) = (Arc::clone(&self.server), id.to_owned());
                    let _running = self.calls.spawn(async move {
                        let result = server.is_open(&id).await;
                        Heard::Looked { id, result }
                    });
                }
                Some(Stage::Running(_) | Stage::Ended) | None => {}
            }
        }
    }

    pub(super) fn on_looked(&mut self, id: &str, result: &Result<bool, Trouble>) {
        if *result != Ok(false) {
            return;
        }
        if let Some(Stage::Running(handle)) = self.held.get(id).map(|held| &held.stage) {
            tracing::info!(item = id, "an item is done elsewhere: stopped here");
            handle.abort();
            self.figures.done_before += 1;
            let _ours = self.held.remove(id);
        }
    }

    /// Leases that the server says are ours and that we do not know: the answer to a claim was
    /// lost. Given back when they are seen twice: the first time they may still be on their way.
    fn after_surprise(&mut self, held: Vec<Lease>) {
        let unknown = held.into_iter().filter(|lease| !self.held.contains_key(&lease.id));
        let unknown: Vec<Lease> = unknown.collect();
        let (again, new): (Vec<Lease>, Vec<Lease>) =
            unknown.into_iter().partition(|lease| self.suspects.contains(&lease.id));
        self.suspects = new.into_iter().map(|lease| lease.id).collect::<HashSet<String>>();
        if !again.is_empty() {
            tracing::info!(count = again.len(), "given back: items whose claim was never answered");
            self.give_back(again);
        }
    }

    /// Releases leases. When that does not work, they end by themselves.
    pub(super) fn give_back(&mut self, items: Vec<Lease>) {
        if items.is_empty() || (self.phase == Phase::Starting && !self.was_connected) {
            return;
        }
        let ask = ReleaseAsk { worker: self.rules.name.clone(), items, all: false };
        let server = Arc::clone(&self.server);
        let _running = self.calls.spawn(async move {
            if let Err(trouble) = server.release(ask).await {
                tracing::debug!(%trouble, "items could not be given back; their leases will end");
            }
            Heard::Nothing
        });
    }
}
