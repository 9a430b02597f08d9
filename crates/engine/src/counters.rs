//! Figures for metrics: totals since the start, and gauges counted when somebody looks. None of it
//! is state: nothing is persisted, nothing decides anything.

use crate::Engine;

/// A look at the engine's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Deliveries settled as done, in all.
    pub acknowledged: u64,
    /// Messages that no queue took and nobody wanted back, in all.
    pub dropped: u64,
    /// Open channels.
    pub channels: u64,
    /// Consumers.
    pub consumers: u64,
    /// Queues of all virtual hosts.
    pub queues: u64,
    /// Exchanges of all virtual hosts, predeclared ones included.
    pub exchanges: u64,
    /// Virtual hosts.
    pub vhosts: u64,
    /// Messages ready in all queues.
    pub ready: u64,
    /// Messages handed out and not settled.
    pub unsettled: u64,
}

/// The totals that the engine itself keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub acknowledged: u64,
    pub dropped: u64,
}

impl Engine {
    /// Counts; costs a walk over queues and sessions.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters {
            acknowledged: self.totals.acknowledged,
            dropped: self.totals.dropped,
            queues: self.state.queues.len() as u64,
            ..Counters::default()
        };
        for queue in self.state.queues.values() {
            counters.ready += queue.ready;
            counters.unsettled += queue.unsettled;
            counters.consumers += u64::from(queue.consumer_count());
        }
        for session in self.sessions.iter() {
            counters.channels += session.channels.len() as u64;
        }
        for vhost in self.state.vhosts.iter().flatten() {
            counters.vhosts += 1;
            counters.exchanges += vhost.router.exchange_count() as u64;
        }
        counters
    }
}
