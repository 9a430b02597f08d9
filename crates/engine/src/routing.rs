//! Routing of one virtual host: exchanges, bindings, and which queues a message goes to.
//! Deterministic; no queue contents, no records, no permissions. Called by the engine's virtual
//! host.
//!
//! Rooms: `check` says no, `change` declares and deletes, `walk` answers "where to", `matcher` with
//! `topic`, `headers` and `hash` knows each kind of exchange, `bindings` is the list, `cache`
//! remembers answers, `ladder` recognises Celery's delay queues.

#![allow(dead_code, unused_imports, reason = "listings and ladder checks wait for their callers")]

mod bindings;
mod cache;
mod change;
mod check;
mod exchange;
mod hash;
mod headers;
mod ladder;
mod matcher;
mod target;
mod topic;
mod walk;

use bytes::Bytes;
use model::{Binding, DestinationKind, QueueId};

use self::bindings::Bindings;
use self::cache::Cache;
pub(crate) use self::change::{Cascade, Removed};
pub(crate) use self::check::Declared;
pub(crate) use self::exchange::Exchange;
use self::exchange::Exchanges;
pub(crate) use self::walk::RouteRequest;
use self::walk::Scratch;
use crate::map::Map;

/// Exchanges and bindings of one virtual host.
#[derive(Debug)]
pub(crate) struct Router {
    exchanges: Exchanges,
    queues: Map<Bytes, QueueId>,
    bindings: Bindings,
    cache: Cache,
    scratch: Scratch,
    ladders: ladder::Known,
}

impl Router {
    /// With the exchanges that are always there: the default exchange, `amq.direct`,
    /// `amq.fanout`, `amq.topic`, `amq.headers`, `amq.match`.
    pub(crate) fn new() -> Self {
        Self {
            exchanges: Exchanges::predeclared(),
            queues: Map::default(),
            bindings: Bindings::default(),
            cache: Cache::default(),
            scratch: Scratch::default(),
            ladders: ladder::Known::default(),
        }
    }

    /// An exchange by name; the default exchange has the empty name.
    pub(crate) fn exchange(&self, name: &[u8]) -> Option<&Exchange> {
        self.exchanges.find(name).map(|(_, exchange)| exchange)
    }

    /// A queue by name.
    pub(crate) fn queue(&self, name: &[u8]) -> Option<QueueId> {
        self.queues.get(name).copied()
    }

    /// All exchanges by name, predeclared ones included.
    pub(crate) fn exchanges(&self) -> Vec<&Exchange> {
        self.exchanges.sorted()
    }

    /// What a snapshot keeps: durable exchanges that were declared by somebody, by name.
    pub(crate) fn durable_exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let is_kept =
            |exchange: &&Exchange| exchange.spec().is_durable && !exchange.is_predeclared();
        self.exchanges.sorted().into_iter().filter(is_kept)
    }

    /// All bindings in a fixed order (source first); the implicit ones of the default exchange
    /// are not among them.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter()
    }

    /// What a snapshot keeps: bindings whose both ends are durable, in the same order.
    pub(crate) fn durable_bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().filter(|binding| self.is_durable(binding))
    }

    /// Bindings that leave an exchange.
    pub(crate) fn bindings_from(&self, exchange: &[u8]) -> impl Iterator<Item = &Binding> {
        self.bindings.leaving(exchange).map(|binding| &**binding)
    }

    /// Bindings that arrive at a queue or exchange.
    pub(crate) fn bindings_to(
        &self,
        kind: DestinationKind,
        name: &[u8],
    ) -> impl Iterator<Item = &Binding> {
        self.bindings.arriving(kind, name).map(|binding| &**binding)
    }

    /// Whether anything leaves from an exchange (`if-unused` asks this).
    pub(crate) fn has_bindings_from(&self, exchange: &[u8]) -> bool {
        self.bindings.leaving(exchange).next().is_some()
    }

    /// How many bindings there are, for limits.
    pub(crate) fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    /// How many exchanges there are, for limits; predeclared ones count.
    pub(crate) fn exchange_count(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether a binding belongs into the log: both ends are durable. A missing end is not.
    pub(crate) fn is_durable(&self, binding: &Binding) -> bool {
        let is_durable =
            |name: &[u8]| self.exchange(name).is_some_and(|exchange| exchange.spec().is_durable);
        is_durable(&binding.source)
            && match binding.kind {
                DestinationKind::Queue => {
                    self.queue(&binding.destination).is_some_and(|queue| !queue.is_volatile())
                }
                DestinationKind::Exchange => is_durable(&binding.destination),
            }
    }
}

#[cfg(test)]
mod tests;
