//! Remembers where keys led: one table of fixed size per virtual host, each place holding the last
//! key that fell on it. Volatile, and never visible in a result. Called by the router.
//!
//! A change of the topology raises the generation, which makes every answer before it stale.

use model::QueueId;

use super::target::Slot;
use crate::map::hash_bytes;

/// Places in the table; allocated with the first answer.
const PLACES: usize = 4096;
/// Answers longer than this are not kept: copying them costs as much as finding them.
const QUEUES_MAX: usize = 512;

/// The table.
#[derive(Debug, Default)]
pub(super) struct Cache {
    generation: u64,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// One more than the generation it was written in; 0 is empty.
    stamp: u64,
    /// Hash of the key, mixed with the exchange.
    hash: u64,
    exchange: u32,
    key: Box<[u8]>,
    queues: Box<[QueueId]>,
}

/// An answer that depends on nothing but the exchange.
#[derive(Debug, Default)]
pub(super) struct Constant {
    stamp: u64,
    queues: Box<[QueueId]>,
}

impl Cache {
    /// Forgets every answer.
    pub(super) const fn invalidate(&mut self) {
        self.generation += 1;
    }

    /// Counts topology changes.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The queues that `key` leads to from `exchange`, if known.
    pub(super) fn get(&self, exchange: Slot, key: &[u8]) -> Option<&[QueueId]> {
        let hash = hash_of(exchange, key);
        let entry = self.entries.get(place(hash))?;
        let is_hit = entry.hash == hash
            && entry.stamp == self.generation + 1
            && entry.exchange == exchange.0
            && *entry.key == *key;
        is_hit.then_some(&*entry.queues)
    }

    /// Keeps an answer, in place of another.
    pub(super) fn put(&mut self, exchange: Slot, key: &[u8], queues: &[QueueId]) {
        if queues.len() > QUEUES_MAX {
            return;
        }
        if self.entries.is_empty() {
            self.entries.resize(PLACES, Entry::default());
        }
        let hash = hash_of(exchange, key);
        if let Some(entry) = self.entries.get_mut(place(hash)) {
            *entry = Entry {
                stamp: self.generation + 1,
                hash,
                exchange: exchange.0,
                key: key.into(),
                queues: queues.into(),
            };
        }
    }

    /// Reads a constant if it is of this generation.
    pub(super) fn constant<'a>(&self, constant: &'a Constant) -> Option<&'a [QueueId]> {
        (constant.stamp == self.generation + 1).then_some(&*constant.queues)
    }

    /// Makes a constant of this generation.
    pub(super) fn make_constant(&self, queues: &[QueueId]) -> Constant {
        Constant { stamp: self.generation + 1, queues: queues.into() }
    }
}

fn hash_of(exchange: Slot, key: &[u8]) -> u64 {
    hash_bytes(key) ^ u64::from(exchange.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn place(hash: u64) -> usize {
    // The modulus is a power of two; the high bits take part through the fold.
    usize::try_from((hash ^ (hash >> 32)) & (PLACES as u64 - 1)).unwrap_or(0)
}
