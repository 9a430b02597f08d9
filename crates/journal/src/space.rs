//! [`Space`]: what is known about the disk's free space, and when to try again after a lack.
//!
//! Lives here: two signs of shortage (too little free, a job that failed) and the patience between
//! attempts. Not here: what is done about it. `upkeep.rs` owns it.

use model::Lsn;

use crate::fault::Fault;

/// The free space is looked at after so much log.
const CHECK_BYTES: u64 = 1024 * 1024;
/// After a failure, at most so many calls pass before the next attempt.
const RETRY_CALLS_MAX: u32 = 1024;

/// Work that needs space and can fail for lack of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Segment,
    Survivors,
    Checkpoint,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// What failed for lack of space and did not succeed since.
    failed: Vec<Need>,
    /// The disk has less free than the options want.
    is_low: bool,
    free_bytes: u64,
    /// The log's end when it was looked at last.
    checked: Option<Lsn>,
    /// Calls until the next attempt, and how many the next failure costs.
    retry_in: u32,
    retry_next: u32,
}

impl Space {
    pub(crate) fn is_short(&self) -> bool {
        !self.failed.is_empty() || self.is_low
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Whether it is time to look again; always while space is short.
    pub(crate) fn wants_look(&self, next: Lsn) -> bool {
        let is_due = |at: Lsn| next.0.saturating_sub(at.0) >= CHECK_BYTES;
        self.checked.is_none_or(is_due) || self.is_short()
    }

    pub(crate) fn looked(&mut self, next: Lsn, free: u64, min: u64) {
        let is_low = free < min;
        if is_low && !self.is_low {
            tracing::warn!(free, min, "little disk space is left; publishers are refused");
        } else if self.is_low && !is_low {
            tracing::info!(free, min, "there is enough disk space again");
        }
        self.is_low = is_low;
        self.free_bytes = free;
        self.checked = Some(next);
    }

    /// Whether attempts still pause; counts the call.
    pub(crate) fn pauses(&mut self) -> bool {
        let is_pausing = self.is_pausing();
        self.retry_in = self.retry_in.saturating_sub(1);
        is_pausing
    }

    pub(crate) fn is_pausing(&self) -> bool {
        self.retry_in > 0
    }

    /// Ends a pause: it is counted in calls, and a server that only waits makes hardly any.
    pub(crate) fn try_again(&mut self) -> bool {
        std::mem::take(&mut self.retry_in) > 0
    }

    pub(crate) fn has_failed(&self, need: Need) -> bool {
        self.failed.contains(&need)
    }

    pub(crate) fn failed(&mut self, need: Need, fault: &Fault) {
        if self.failed.is_empty() {
            tracing::warn!(%fault, "background work waits for disk space; publishers are refused");
        }
        if !self.has_failed(need) {
            self.failed.push(need);
        }
        self.retry_in = self.retry_next;
        self.retry_next = self.retry_next.saturating_mul(2).clamp(1, RETRY_CALLS_MAX);
    }

    pub(crate) fn succeeded(&mut self, need: Need) {
        if self.has_failed(need) {
            self.failed.retain(|failed| *failed != need);
            self.go_on();
        }
    }

    /// Nothing is left to do: what failed is not needed any more.
    pub(crate) fn nothing_due(&mut self) {
        if !self.failed.is_empty() {
            self.failed.clear();
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        if self.failed.is_empty() {
            tracing::info!("background work goes on, there is disk space again");
        }
        self.retry_in = 0;
        self.retry_next = 1;
    }
}
