//! Deliveries of one channel that wait to be settled, in order of their tags. Nothing about what
//! settling does: that is `settle.rs`.

use std::collections::VecDeque;

use model::QueueId;

use super::ConsumerKey;
use crate::fifo::{Entry, NEVER, Stored};

/// Settled slots are squeezed out when there are more of them than this and than live ones.
const DEAD_MAX: usize = 64;

/// One unsettled delivery; 80 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub tag: u64,
    pub seq: u64,
    pub stored: Stored,
    pub expires: u64,
    /// When the claim runs out, ms since 1970.
    pub lease_until: u64,
    pub queue: QueueId,
    pub consumer: ConsumerKey,
    pub body: u32,
    pub head: u32,
    pub returns: u32,
    /// How many seconds a claim of it lasts; 0 is as long as the session.
    pub lease_s: u32,
    pub level: u8,
    /// It was taken out of the middle of its line, where it cannot be put back.
    pub is_picked: bool,
    /// Settled already; the slot only keeps its place.
    is_dead: bool,
}

impl Slot {
    /// A delivery of `entry`.
    pub(crate) fn new(
        tag: u64,
        consumer: ConsumerKey,
        place: (QueueId, u8, u64),
        entry: Entry,
    ) -> Self {
        let (queue, level, seq) = place;
        let Entry { stored, expires, body, head, returns, lease_s } = entry;
        Self {
            tag,
            seq,
            stored,
            expires,
            lease_until: NEVER,
            queue,
            consumer,
            body,
            head,
            returns,
            lease_s,
            level,
            is_picked: false,
            is_dead: false,
        }
    }

    /// The queued entry it was made from.
    pub(crate) fn entry(&self) -> Entry {
        Entry {
            stored: self.stored.clone(),
            expires: self.expires,
            body: self.body,
            head: self.head,
            returns: self.returns,
            lease_s: self.lease_s,
        }
    }
}

/// Slots by ascending tag. The first slot is live.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    slots: VecDeque<Slot>,
    dead: usize,
}

impl Unsettled {
    /// Adds a delivery; tags only grow.
    pub(crate) fn push(&mut self, slot: Slot) {
        debug_assert!(self.slots.back().is_none_or(|last| last.tag < slot.tag), "tags grow");
        self.slots.push_back(slot);
    }

    /// How many are unsettled.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.dead
    }

    /// Whether this tag is unsettled.
    pub(crate) fn contains(&self, tag: u64) -> bool {
        self.find(tag).is_some()
    }

    /// Tags are dense unless some were never to be settled, so the first guess is nearly
    /// always right.
    fn find(&self, tag: u64) -> Option<usize> {
        let first = self.slots.front()?.tag;
        let guess = usize::try_from(tag.checked_sub(first)?).ok()?;
        let index = match self.slots.get(guess) {
            Some(slot) if slot.tag == tag => guess,
            _ => self.slots.binary_search_by_key(&tag, |slot| slot.tag).ok()?,
        };
        self.slots.get(index).filter(|slot| !slot.is_dead).map(|_| index)
    }

    /// One delivery.
    pub(crate) fn get(&self, tag: u64) -> Option<&Slot> {
        self.slots.get(self.find(tag)?)
    }

    /// As [`Unsettled::get`], to change.
    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut Slot> {
        let index = self.find(tag)?;
        self.slots.get_mut(index)
    }

    /// Looks at all of them, to change them.
    pub(crate) fn for_each_mut(&mut self, visit: &mut dyn FnMut(&mut Slot)) {
        self.slots.iter_mut().filter(|slot| !slot.is_dead).for_each(visit);
    }

    /// How many at most are unsettled up to and including a tag.
    pub(crate) fn count_until(&self, tag: u64) -> usize {
        self.slots.partition_point(|slot| slot.tag <= tag)
    }

    /// Takes one delivery.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Slot> {
        let index = self.find(tag)?;
        let slot = self.slots.get_mut(index)?;
        slot.is_dead = true;
        let mut taken = slot.clone();
        taken.is_dead = false;
        self.dead += 1;
        self.tidy();
        Some(taken)
    }

    /// Takes the deliveries up to and including `tag`, oldest first.
    pub(crate) fn take_until(&mut self, tag: u64, visit: &mut dyn FnMut(Slot)) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.tag <= tag) {
            if slot.is_dead {
                self.dead -= 1;
            } else {
                visit(slot);
            }
        }
        self.tidy();
    }

    /// Drops dead slots at the front, and all of them when they are the most.
    fn tidy(&mut self) {
        while self.slots.pop_front_if(|slot| slot.is_dead).is_some() {
            self.dead -= 1;
        }
        if self.dead > DEAD_MAX && self.dead > self.slots.len() / 2 {
            self.slots.retain(|slot| !slot.is_dead);
            self.dead = 0;
        }
        if self.slots.is_empty() && self.slots.capacity() > 4 * DEAD_MAX {
            self.slots = VecDeque::new();
        }
    }

    /// Visits every unsettled delivery, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !slot.is_dead)
    }

    /// The deliveries no longer belong to this consumer.
    pub(crate) fn forget(&mut self, consumer: ConsumerKey, nobody: ConsumerKey) {
        for slot in &mut self.slots {
            if slot.consumer == consumer {
                slot.consumer = nobody;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Lsn;

    use super::*;
    use crate::fifo::NEVER;

    fn slot(tag: u64) -> Slot {
        let stored = Stored::Log(Lsn(tag));
        let entry = Entry { stored, expires: NEVER, body: 1, head: 1, returns: 0, lease_s: 0 };
        Slot::new(tag, 0, (QueueId(1), 0, tag), entry)
    }

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 80, "{}", size_of::<Slot>());
    }

    #[test]
    fn one_old_delivery_does_not_keep_the_settled_ones() {
        let mut list = Unsettled::default();
        list.push(slot(1));
        for tag in 2..100_000 {
            list.push(slot(tag));
            assert_eq!(list.take(tag).map(|slot| slot.tag), Some(tag));
            assert!(list.take(tag).is_none(), "tag {tag} was settled");
        }
        assert!(list.slots.len() < 3 * DEAD_MAX, "{} slots", list.slots.len());
        assert_eq!(list.len(), 1);
        assert!(list.contains(1));
    }

    #[test]
    fn takes_up_to_a_tag_in_order_and_only_once() {
        let mut list = Unsettled::default();
        for tag in [3, 5, 6, 9] {
            list.push(slot(tag));
        }
        list.take(5);
        let mut seen = Vec::new();
        list.take_until(6, &mut |slot| seen.push(slot.tag));
        assert_eq!(seen, [3, 6]);
        assert!(!list.contains(4) && list.contains(9));
        assert_eq!(list.len(), 1);
    }
}
