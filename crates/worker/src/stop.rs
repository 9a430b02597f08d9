//! [`Stop`]: tells a worker to end: in order, or at once. Held by whoever hears the signals.

use tokio::sync::watch;

/// What the worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    Work,
    /// Take nothing more, end what is short, give back the rest.
    Drain,
    /// End now; what is undelivered waits in the spool.
    Now,
}

/// Ends a worker; clones end the same one.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<Order>);

impl Stop {
    /// For one worker.
    pub fn new() -> Self {
        Self(watch::Sender::new(Order::Work))
    }

    /// In order the first time, at once the second time.
    pub fn press(&self) {
        self.0.send_modify(|order| {
            *order = if *order == Order::Work { Order::Drain } else { Order::Now };
        });
    }

    pub(crate) fn orders(&self) -> watch::Receiver<Order> {
        self.0.subscribe()
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
