//! Identifiers shared by doors and engine. Nothing here outlives its meaning: which ids are
//! persisted is said at each type.

/// One client connection of any door. Volatile: numbers are never written to the log.
///
/// The low 32 bits are a slot that is used again, the high 32 bits a generation, so a stale id
/// never names a newer connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// Builds an id from a reusable slot and its generation.
    #[must_use]
    pub const fn from_parts(slot: u32, generation: u32) -> Self {
        Self(((generation as u64) << 32) | slot as u64)
    }

    /// The reusable slot number.
    #[must_use]
    pub const fn slot(self) -> usize {
        (self.0 & 0xFFFF_FFFF) as usize
    }
}

/// A door's own number for a request it waits for; the reply carries it back. Volatile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A door's own number for a consumer, unique within its channel. Volatile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u32);

/// A virtual host. Persisted: ids are given in log order and never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VhostId(pub u16);

/// A queue of any virtual host. Persisted (durable queues) or volatile (top bit set), never used
/// again while the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

impl QueueId {
    /// Ids with this bit belong to volatile queues and never enter the log.
    pub const VOLATILE: u32 = 1 << 31;

    /// Whether the queue lives in memory only.
    #[must_use]
    pub const fn is_volatile(self) -> bool {
        self.0 & Self::VOLATILE != 0
    }
}

/// Milliseconds since 1970 (UTC) as stamped by the leader; never read from a clock by the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The instant `ms` later; saturates.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
