//! One exchange, and the table of all exchanges by name. What may be declared stands in `check`;
//! what a deletion takes with it, in `change`.

use bytes::Bytes;
use model::{ExchangeKind, ExchangeSpec};

use super::cache::Constant;
use super::matcher::Matcher;
use super::target::Slot;
use crate::map::Map;

/// An exchange: its declaration and its counter; the rest is the router's.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(super) name: Bytes,
    pub(super) spec: ExchangeSpec,
    pub(super) is_predeclared: bool,
    pub(super) published: u64,
    pub(super) matcher: Matcher,
    /// The answer when it depends on nothing but this exchange.
    pub(super) constant: Constant,
    /// The last walk that came by.
    pub(super) walk: u64,
}

impl Exchange {
    fn new(name: Bytes, spec: ExchangeSpec, is_predeclared: bool) -> Self {
        let matcher = Matcher::new(spec.kind, &spec.arguments);
        let constant = Constant::default();
        Self { name, spec, is_predeclared, published: 0, matcher, constant, walk: 0 }
    }

    /// Its name.
    pub(crate) const fn name(&self) -> &Bytes {
        &self.name
    }

    /// As declared.
    pub(crate) const fn spec(&self) -> &ExchangeSpec {
        &self.spec
    }

    /// Always there: cannot be declared anew or deleted.
    pub(crate) const fn is_predeclared(&self) -> bool {
        self.is_predeclared
    }

    /// Messages routed from here since the process began. Volatile.
    pub(crate) const fn published(&self) -> u64 {
        self.published
    }
}

/// All exchanges. [`Slot`]s stay valid until their exchange is deleted.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    names: Map<Bytes, Slot>,
    slots: Vec<Option<Exchange>>,
    free: Vec<Slot>,
}

impl Exchanges {
    /// The default exchange's place.
    pub(super) const DEFAULT: Slot = Slot(0);

    /// The default exchange first, then the `amq.` ones.
    pub(super) fn predeclared() -> Self {
        let mut exchanges = Self::default();
        for (name, kind) in [
            ("", ExchangeKind::Direct),
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
        ] {
            let spec = ExchangeSpec {
                kind,
                is_durable: true,
                is_auto_delete: false,
                is_internal: false,
                is_delayed: false,
                alternate: None,
                arguments: Bytes::new(),
            };
            let name = Bytes::from_static(name.as_bytes());
            exchanges.place(Exchange::new(name, spec, true));
        }
        exchanges
    }

    /// Adds an exchange whose name is new.
    pub(super) fn insert(&mut self, name: Bytes, spec: ExchangeSpec) {
        self.place(Exchange::new(name, spec, false));
    }

    fn place(&mut self, exchange: Exchange) {
        let name = exchange.name.clone();
        let slot = if let Some(slot) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                *place = Some(exchange);
            }
            slot
        } else {
            self.slots.push(Some(exchange));
            // Bounded far below by the limit on exchanges.
            Slot(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        };
        self.names.insert(name, slot);
    }

    /// Removes an exchange.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Exchange> {
        let slot = self.names.remove(name)?;
        self.free.push(slot);
        self.slots.get_mut(slot.0 as usize)?.take()
    }

    /// The place of a name.
    pub(super) fn slot(&self, name: &[u8]) -> Option<Slot> {
        self.names.get(name).copied()
    }

    /// By name.
    pub(super) fn find(&self, name: &[u8]) -> Option<(Slot, &Exchange)> {
        let slot = self.slot(name)?;
        Some((slot, self.slots.get(slot.0 as usize)?.as_ref()?))
    }

    /// By place.
    pub(super) fn at(&mut self, slot: Slot) -> Option<&mut Exchange> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// By name.
    pub(super) fn find_mut(&mut self, name: &[u8]) -> Option<&mut Exchange> {
        self.at(self.slot(name)?)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// All, by name.
    pub(super) fn sorted(&self) -> Vec<&Exchange> {
        let mut all: Vec<_> = self.slots.iter().flatten().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
