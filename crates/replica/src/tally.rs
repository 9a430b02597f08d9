//! [`Tally`]: what passed through the pipeline, for metrics. Counts only; nothing is decided by it.
//! What the engine alone knows (acknowledged, dropped) it counts itself.

use model::{Op, Output, Reply, Request};

/// What passed through the pipeline since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sessions opened.
    pub sessions: u64,
    /// Messages submitted for routing, those of commits included.
    pub published: u64,
    /// Confirms handed to publishers.
    pub confirmed: u64,
    /// Publishes refused by a full queue.
    pub rejected: u64,
    /// Mandatory messages handed back.
    pub returned: u64,
    /// Messages handed out.
    pub delivered: u64,
    /// Those of them that may have been handed out before.
    pub redelivered: u64,
    /// Jobs that were put straight into a queue.
    pub enqueued: u64,
    /// Atomic commits asked for.
    pub commits: u64,
}

impl Tally {
    /// Counts what comes in.
    pub(crate) fn count(&mut self, request: &Request) {
        if let Request::Publish(_) = request {
            self.published = self.published.saturating_add(1);
        } else if let Request::Commit(ops) = request {
            let publishes = ops.iter().filter(|op| matches!(op, Op::Publish(_))).count();
            self.published = self.published.saturating_add(publishes as u64);
            self.commits = self.commits.saturating_add(1);
        } else if let Request::Enqueue(_) = request {
            self.enqueued = self.enqueued.saturating_add(1);
        }
    }

    /// Counts what goes out.
    pub(crate) fn note(&mut self, output: &Output<'_>) {
        let Output::Reply { reply, .. } = output else { return };
        if let Reply::Published { count } = reply {
            self.confirmed = self.confirmed.saturating_add(u64::from(*count));
        } else if matches!(reply, Reply::Rejected) {
            self.rejected = self.rejected.saturating_add(1);
        } else if matches!(reply, Reply::Unroutable(_)) {
            self.returned = self.returned.saturating_add(1);
        }
    }
}
