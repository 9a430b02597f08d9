//! The hot path: where does this message go. Walks from exchange to exchange with each visited
//! once, so cycles end; answers that depend on nothing but the key are remembered.

use bytes::Bytes;
use model::QueueId;

use super::Router;
use super::exchange::Exchanges;
use super::matcher::Dependence;
use super::target::{Slot, Target};

/// A message as routing sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteRequest<'a> {
    /// Exchange it is published to.
    pub(crate) exchange: &'a [u8],
    /// Routing key.
    pub(crate) routing_key: &'a [u8],
    /// Content of its header table, if it has one.
    pub(crate) headers: Option<&'a [u8]>,
    /// CC and BCC.
    pub(crate) extra_keys: &'a [Bytes],
}

impl<'a> RouteRequest<'a> {
    /// All keys, the message's own first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.routing_key).chain(self.extra_keys.iter().map(|key| &key[..]))
    }
}

/// The message was published to an exchange that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such exchange")]
pub(crate) struct NoSuchExchange;

/// Buffers of a walk, kept for their capacity.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Counts walks; see `Exchange::walk`.
    walk: u64,
    work: Vec<Slot>,
    targets: Vec<Target>,
}

impl Router {
    /// Replaces the content of `out` with the queues a message goes to, each once, by id. Tells
    /// whether there is any. An alternate exchange is followed when no binding of an exchange
    /// matches (a match that leads nowhere counts). Source: observed, RabbitMQ 3.10.8.
    ///
    /// Deviation(AMQP-102): the default exchange works as an alternate too; in `RabbitMQ` it takes
    /// nothing there.
    ///
    /// Allocates nothing when the answer is remembered or `exchange` is the default exchange.
    ///
    /// # Errors
    /// When the exchange is not there. Alternates and bindings that lead to nothing are no error.
    pub(crate) fn route(
        &mut self,
        request: RouteRequest<'_>,
        out: &mut Vec<QueueId>,
    ) -> Result<bool, NoSuchExchange> {
        out.clear();
        if request.exchange.is_empty() && request.extra_keys.is_empty() {
            if let Some(exchange) = self.exchanges.at(Exchanges::DEFAULT) {
                exchange.published += 1;
            }
            out.extend(self.queues.get(request.routing_key));
            return Ok(!out.is_empty());
        }
        let slot = self.exchanges.slot(request.exchange).ok_or(NoSuchExchange)?;
        let exchange = self.exchanges.at(slot).ok_or(NoSuchExchange)?;
        exchange.published += 1;
        if let Some(queues) = self.cache.constant(&exchange.constant) {
            out.extend_from_slice(queues);
            return Ok(!out.is_empty());
        }
        if !request.extra_keys.is_empty() {
            self.walk(slot, &request, out);
            return Ok(!out.is_empty());
        }
        if let Some(queues) = self.cache.get(slot, request.routing_key) {
            out.extend_from_slice(queues);
            return Ok(!out.is_empty());
        }
        let dependence = self.walk(slot, &request, out);
        self.remember(slot, request.routing_key, dependence, out);
        Ok(!out.is_empty())
    }

    fn remember(&mut self, slot: Slot, key: &[u8], dependence: Dependence, queues: &[QueueId]) {
        match dependence {
            Dependence::Nothing => {
                let constant = self.cache.make_constant(queues);
                if let Some(exchange) = self.exchanges.at(slot) {
                    exchange.constant = constant;
                }
            }
            Dependence::Key => self.cache.put(slot, key, queues),
            Dependence::More => {}
        }
    }

    /// Visits every exchange that the message reaches, once.
    fn walk(
        &mut self,
        from: Slot,
        request: &RouteRequest<'_>,
        out: &mut Vec<QueueId>,
    ) -> Dependence {
        self.scratch.walk += 1;
        self.scratch.work.clear();
        self.reach(from);
        let mut dependence = Dependence::Nothing;
        while let Some(slot) = self.scratch.work.pop() {
            if slot == Exchanges::DEFAULT {
                // Queues come and go without a new generation, so this is not remembered.
                dependence = Dependence::More;
                out.extend(request.keys().filter_map(|key| self.queues.get(key)));
                continue;
            }
            dependence = dependence.max(self.step(slot, request, out));
        }
        out.sort_unstable();
        out.dedup();
        dependence
    }

    /// One exchange of a walk.
    fn step(
        &mut self,
        slot: Slot,
        request: &RouteRequest<'_>,
        out: &mut Vec<QueueId>,
    ) -> Dependence {
        let Some(exchange) = self.exchanges.at(slot) else { return Dependence::Nothing };
        let mut targets = std::mem::take(&mut self.scratch.targets);
        targets.clear();
        exchange.matcher.find(request, &mut targets);
        let dependence = exchange.matcher.dependence();
        if targets.is_empty()
            && let Some(name) = exchange.spec.alternate.clone()
            && let Some(alternate) = self.exchanges.slot(&name)
        {
            self.reach(alternate);
        }
        for target in &targets {
            match *target {
                Target::Queue(queue) => out.push(queue),
                Target::Exchange(next) => self.reach(next),
            }
        }
        self.scratch.targets = targets;
        dependence
    }

    /// Puts an exchange on the list of work unless this walk was there already.
    fn reach(&mut self, slot: Slot) {
        let walk = self.scratch.walk;
        if let Some(exchange) = self.exchanges.at(slot)
            && exchange.walk != walk
        {
            exchange.walk = walk;
            self.scratch.work.push(slot);
        }
    }
}
