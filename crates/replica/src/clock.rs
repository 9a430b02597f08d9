//! [`Clock`]: makes the stamps that requests carry. Time is given by the caller; here it is only
//! kept from running backwards. Called by `node`.

use model::{Millis, Stamp};

/// A source of unpredictable bits; the binary passes the system's in, tests a counter.
pub type Entropy = Box<dyn FnMut() -> u64>;

/// Stamps requests.
pub(crate) struct Clock {
    /// The latest time stamped so far.
    latest: Millis,
    entropy: Entropy,
}

impl Clock {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self { latest: Millis(0), entropy }
    }

    /// A stamp for `now`, or for the latest time seen when the wall clock went back.
    pub(crate) fn stamp(&mut self, now: Millis) -> Stamp {
        self.latest = self.latest.max(now);
        Stamp { now: self.latest, nonce: (self.entropy)() }
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("latest", &self.latest).finish_non_exhaustive()
    }
}
