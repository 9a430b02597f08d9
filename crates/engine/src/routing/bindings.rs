//! All bindings of a virtual host in two orders: by source and by destination. This is the list
//! that is shown and stored; the matchers are built from it for speed. Called by the router.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use model::{Binding, DestinationKind};

/// Every binding once, findable from both ends in logarithmic time.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    by_source: BTreeSet<BySource>,
    by_destination: BTreeSet<ByDestination>,
}

impl Bindings {
    /// Adds a binding; `false` when it was there already.
    pub(super) fn insert(&mut self, binding: Arc<Binding>) -> bool {
        self.by_destination.insert(ByDestination(Arc::clone(&binding)))
            && self.by_source.insert(BySource(binding))
    }

    /// Removes a binding; `false` when there was none.
    pub(super) fn remove(&mut self, binding: &Arc<Binding>) -> bool {
        self.by_source.remove(&BySource(Arc::clone(binding)))
            && self.by_destination.remove(&ByDestination(Arc::clone(binding)))
    }

    /// Whether it is there.
    pub(super) fn contains(&self, binding: &Binding) -> bool {
        self.by_source.contains(&BySource(Arc::new(binding.clone())))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_source.len()
    }

    /// All, by source, routing key, kind, destination, arguments.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.by_source.iter().map(|entry| &*entry.0)
    }

    /// Those that leave an exchange, in the same order.
    pub(super) fn leaving(&self, source: &[u8]) -> impl Iterator<Item = &Arc<Binding>> {
        let first = BySource(probe(source, DestinationKind::Queue, &[]));
        let source = Arc::clone(&first.0);
        self.by_source
            .range(first..)
            .map(|entry| &entry.0)
            .take_while(move |binding| binding.source == source.source)
    }

    /// Those that arrive at a queue or exchange, by source, routing key, arguments.
    pub(super) fn arriving(
        &self,
        kind: DestinationKind,
        destination: &[u8],
    ) -> impl Iterator<Item = &Arc<Binding>> {
        let first = ByDestination(probe(&[], kind, destination));
        let wanted = Arc::clone(&first.0);
        self.by_destination.range(first..).map(|entry| &entry.0).take_while(move |binding| {
            binding.kind == wanted.kind && binding.destination == wanted.destination
        })
    }
}

/// The smallest binding with these ends, in both orders.
fn probe(source: &[u8], kind: DestinationKind, destination: &[u8]) -> Arc<Binding> {
    Arc::new(Binding {
        source: Bytes::copy_from_slice(source),
        kind,
        destination: Bytes::copy_from_slice(destination),
        routing_key: Bytes::new(),
        arguments: Bytes::new(),
    })
}

#[derive(Debug)]
struct BySource(Arc<Binding>);

impl Ord for BySource {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&*self.0, &*other.0);
        (&a.source, &a.routing_key, a.kind, &a.destination, &a.arguments).cmp(&(
            &b.source,
            &b.routing_key,
            b.kind,
            &b.destination,
            &b.arguments,
        ))
    }
}

#[derive(Debug)]
struct ByDestination(Arc<Binding>);

impl Ord for ByDestination {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&*self.0, &*other.0);
        (a.kind, &a.destination, &a.source, &a.routing_key, &a.arguments).cmp(&(
            b.kind,
            &b.destination,
            &b.source,
            &b.routing_key,
            &b.arguments,
        ))
    }
}

impl PartialOrd for BySource {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BySource {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for BySource {}

impl PartialOrd for ByDestination {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByDestination {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByDestination {}
