//! Every change of the topology, and what each takes with it. Called by the engine after `check`
//! allowed it, and by replay with the same arguments.

use std::sync::Arc;

use bytes::Bytes;
use model::{Binding, DestinationKind, ExchangeSpec, QueueId, Refusal};

use super::Router;
use super::check::Declared;
use super::target::Target;

/// Whether auto-delete exchanges that lose their last binding go too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cascade {
    /// They go, and are listed: the engine logs the durable ones as deletions of their own.
    Follow,
    /// They stay: replay, where each deletion has its own record. (Volatile bindings are not in
    /// the log, so replay cannot know when the last one went.)
    Hold,
}

/// What went away, in the order it went.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// Bindings, those of cascaded exchanges included.
    pub(crate) bindings: Vec<Arc<Binding>>,
    /// Exchanges that went by cascade; not the one that was named in the call.
    pub(crate) exchanges: Vec<RemovedExchange>,
}

/// An exchange that went away by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemovedExchange {
    /// Its name.
    pub(crate) name: Bytes,
    /// It was in the log.
    pub(crate) is_durable: bool,
}

impl Router {
    /// Creates an exchange that `check_declare` found to be new; an existing one is left alone.
    pub(crate) fn declare_exchange(&mut self, name: &Bytes, mut spec: ExchangeSpec) {
        if self.exchanges.slot(name).is_none() {
            spec.alternate = spec.alternate.as_ref().map(owned);
            spec.arguments = owned(&spec.arguments);
            self.exchanges.insert(owned(name), spec);
            self.cache.invalidate();
        }
    }

    /// Deletes an exchange with the bindings at both its ends.
    pub(crate) fn delete_exchange(&mut self, name: &[u8], cascade: Cascade) -> Removed {
        let mut removed = Removed::default();
        self.delete_with_bindings(name, &mut removed);
        self.follow(cascade, &mut removed);
        removed
    }

    /// Makes a queue known by its name; `name` is kept, so it should own its memory.
    pub(crate) fn declare_queue(&mut self, name: Bytes, id: QueueId) {
        let before = self.queues.insert(name, id);
        assert!(before.is_none_or(|before| before == id), "a queue's name was given away twice");
    }

    /// Forgets a queue with its bindings.
    pub(crate) fn remove_queue(&mut self, name: &[u8], cascade: Cascade) -> Removed {
        let mut removed = Removed::default();
        let arriving = self.bindings.arriving(DestinationKind::Queue, name);
        for binding in arriving.cloned().collect::<Vec<_>>() {
            self.detach(&binding, &mut removed);
        }
        self.queues.remove(name);
        self.follow(cascade, &mut removed);
        removed
    }

    /// Adds a binding; `false` when it is there already.
    ///
    /// # Errors
    /// As `check_bind`.
    pub(crate) fn bind(&mut self, binding: &Binding) -> Result<bool, Refusal> {
        if self.check_bind(binding)? == Declared::Exists {
            return Ok(false);
        }
        let Some(target) = self.target(binding) else { return Ok(false) };
        let binding = self.compact(binding);
        if let Some(source) = self.exchanges.find_mut(&binding.source) {
            source.matcher.add(&binding, target);
        }
        self.bindings.insert(Arc::new(binding));
        self.cache.invalidate();
        Ok(true)
    }

    /// Removes a binding; nothing is removed when there was none.
    ///
    /// # Errors
    /// As `check_unbind`.
    pub(crate) fn unbind(
        &mut self,
        binding: &Binding,
        cascade: Cascade,
    ) -> Result<Removed, Refusal> {
        let mut removed = Removed::default();
        if self.check_unbind(binding)? {
            self.detach(&Arc::new(binding.clone()), &mut removed);
            self.follow(cascade, &mut removed);
        }
        Ok(removed)
    }

    fn delete_with_bindings(&mut self, name: &[u8], removed: &mut Removed) {
        let arriving = self.bindings.arriving(DestinationKind::Exchange, name);
        for binding in arriving.cloned().collect::<Vec<_>>() {
            self.detach(&binding, removed);
        }
        // Before what leaves it, so that its matcher goes in one piece and not binding by binding.
        self.exchanges.remove(name);
        for binding in self.bindings.leaving(name).cloned().collect::<Vec<_>>() {
            self.detach(&binding, removed);
        }
        self.cache.invalidate();
    }

    /// Takes one binding out of the list, and out of its source's matcher if the source exists; the
    /// destination still does.
    fn detach(&mut self, binding: &Arc<Binding>, removed: &mut Removed) {
        if !self.bindings.remove(binding) {
            return;
        }
        if let Some(target) = self.target(binding)
            && let Some(source) = self.exchanges.find_mut(&binding.source)
        {
            source.matcher.remove(binding, target);
        }
        self.cache.invalidate();
        removed.bindings.push(Arc::clone(binding));
    }

    /// Deletes auto-delete exchanges whose last binding is among the removed ones; those take
    /// further bindings with them, which stand later in the same list.
    fn follow(&mut self, cascade: Cascade, removed: &mut Removed) {
        let mut at = 0;
        while cascade == Cascade::Follow
            && let Some(binding) = removed.bindings.get(at)
        {
            at += 1;
            let name = binding.source.clone();
            let Some(exchange) = self.exchange(&name) else { continue };
            if exchange.spec().is_auto_delete && !self.has_bindings_from(&name) {
                let is_durable = exchange.spec().is_durable;
                removed.exchanges.push(RemovedExchange { name: name.clone(), is_durable });
                self.delete_with_bindings(&name, removed);
            }
        }
    }

    fn target(&self, binding: &Binding) -> Option<Target> {
        match binding.kind {
            DestinationKind::Queue => self.queue(&binding.destination).map(Target::Queue),
            DestinationKind::Exchange => {
                self.exchanges.slot(&binding.destination).map(Target::Exchange)
            }
        }
    }

    /// The binding in its own memory: names shared with the things they name, nothing shared with
    /// a network buffer.
    fn compact(&self, binding: &Binding) -> Binding {
        let known = |kind: DestinationKind, name: &Bytes| {
            let found = match kind {
                DestinationKind::Queue => self.queues.get_key_value(name).map(|(key, _)| key),
                DestinationKind::Exchange => self.exchange(name).map(|exchange| &exchange.name),
            };
            found.map_or_else(|| owned(name), Bytes::clone)
        };
        let destination = known(binding.kind, &binding.destination);
        let routing_key = if binding.routing_key == destination {
            destination.clone()
        } else {
            owned(&binding.routing_key)
        };
        Binding {
            source: known(DestinationKind::Exchange, &binding.source),
            kind: binding.kind,
            destination,
            routing_key,
            arguments: owned(&binding.arguments),
        }
    }
}

/// A copy that holds on to no larger buffer.
fn owned(bytes: &Bytes) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(bytes) }
}
