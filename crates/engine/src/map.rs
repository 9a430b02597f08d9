//! The engine's hash map: one hasher with a fixed seed, so that a state never depends on the
//! process it lives in. Called by everything in this crate that looks something up by name.
//!
//! Never iterate a [`Map`] where the order can be seen: sort, or keep a `BTreeMap`.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// A hash map with a fixed seed.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// The hash that a [`Map`] would use. For volatile tables only: its value may change with the
/// hasher's version, so it must never be stored or decide what the state becomes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    FixedState::default().hash_one(bytes)
}
