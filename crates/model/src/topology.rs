//! Declarations: exchanges, queues, bindings, and how much of them is fixed at declaration.
//! Doors fill these from their own argument tables (`map.rs`); the engine compares and keeps them.

use bytes::Bytes;

/// How an exchange picks its destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// Routing key equals binding key.
    Direct,
    /// Every binding.
    Fanout,
    /// Binding keys are patterns of words: `*` one word, `#` any number.
    Topic,
    /// Bindings match header tables.
    Headers,
    /// Spreads over bindings by hash of the routing key; binding keys are weights.
    ConsistentHash,
}

/// A declared exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of a declaration")]
pub struct ExchangeSpec {
    /// How it routes.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub is_durable: bool,
    /// Goes away with its last binding as source.
    pub is_auto_delete: bool,
    /// Clients may not publish to it.
    pub is_internal: bool,
    /// Type `x-delayed-message`: messages with a delay are held first, then routed by `kind`.
    pub is_delayed: bool,
    /// Where messages go that find no queue here.
    pub alternate: Option<Bytes>,
    /// All arguments as declared (raw field table), kept for listings.
    pub arguments: Bytes,
}

/// What happens when a queue is at its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Drop (or dead-letter) from the head.
    #[default]
    DropHead,
    /// Refuse the new message (the publisher gets a nack).
    RejectPublish,
    /// Refuse and dead-letter the new message.
    RejectPublishDeadLetter,
}

/// The queue type a client asked for. All are the one durable queue; some defaults differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// `classic`, and the default.
    #[default]
    Classic,
    /// `quorum`: shows `x-delivery-count`; delivery limit 20 when dead letters go somewhere.
    Quorum,
    /// Made by a door for jobs that had no queue yet: a job that comes back too often is buried,
    /// and the queue goes away when it is empty and nobody uses it. Somebody who declares it makes
    /// it `Classic`.
    Jobs,
}

/// What a queue's arguments ask for, already checked by the door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueOptions {
    /// Queue type named by the client.
    pub kind: QueueKind,
    /// `x-message-ttl` in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`: delete the queue after so many unused milliseconds.
    pub expires_ms: Option<u64>,
    /// `x-max-length`: ready messages.
    pub length_max: Option<u64>,
    /// `x-max-length-bytes`: bytes of ready bodies.
    pub bytes_max: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`; `Some(empty)` is the default exchange.
    pub dead_letter_exchange: Option<Bytes>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Bytes>,
    /// `x-delivery-limit`; `None` when not declared (`-1` also arrives as `None`).
    pub delivery_max: Option<u32>,
    /// `x-max-priority`; 0 means no priorities.
    pub priority_max: u8,
    /// `x-single-active-consumer`.
    pub is_single_active_consumer: bool,
}

/// A declared queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSpec {
    /// Survives a restart, unless exclusive.
    pub is_durable: bool,
    /// Belongs to the declaring session and goes away with it.
    pub is_exclusive: bool,
    /// Goes away with its last consumer.
    pub is_auto_delete: bool,
    /// Typed arguments.
    pub options: QueueOptions,
    /// All arguments as declared (raw field table), kept for listings.
    pub arguments: Bytes,
}

impl QueueSpec {
    /// Volatile queues and what is in them live in memory only and never touch the log.
    #[must_use]
    pub const fn is_volatile(&self) -> bool {
        self.is_exclusive || !self.is_durable
    }
}

/// What a binding points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationKind {
    /// A queue.
    Queue,
    /// Another exchange.
    Exchange,
}

/// A rule that leads from an exchange to a queue or a further exchange.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// Name of the source exchange.
    pub source: Bytes,
    /// What `destination` names.
    pub kind: DestinationKind,
    /// Name of the destination.
    pub destination: Bytes,
    /// Binding key.
    pub routing_key: Bytes,
    /// Raw field table; part of the binding's identity.
    pub arguments: Bytes,
}
