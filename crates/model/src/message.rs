//! A message on its way in ([`Publish`]) and on its way out ([`MessageRef`]). How it is stored is
//! the engine's record module; what its property list looks like is [`crate::properties`].

use bytes::Bytes;

/// A message that a client wants routed. Byte fields may be slices of a network buffer: the
/// engine copies them into the log at once and keeps none.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// Exchange name; empty means the default exchange. At most 255 bytes.
    pub exchange: Bytes,
    /// Routing key; at most 255 bytes, any bytes.
    pub routing_key: Bytes,
    /// Property list in the stored shape, see [`crate::properties`].
    pub properties: Bytes,
    /// The body, whole.
    pub body: Bytes,
    /// What the door read from method and properties.
    pub options: PublishOptions,
}

/// The few facts about a message that decide what the engine does with it.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent flags of one message")]
pub struct PublishOptions {
    /// Hand the message back when no queue takes it.
    pub is_mandatory: bool,
    /// The publisher waits for `Reply::Published` / `Reply::Rejected`.
    pub wants_confirm: bool,
    /// 0-255; absent is 0.
    pub priority: u8,
    /// Per-message time to live in milliseconds.
    pub expiration_ms: Option<u64>,
    /// `x-delay`: hold the message this many milliseconds (delayed exchanges only).
    pub delay_ms: Option<u64>,
    /// Extra routing keys (CC and BCC), `None` for nearly every message.
    pub extra_keys: Option<Box<Vec<Bytes>>>,
    /// The property list carries a header table (a headers exchange needs to look at it).
    pub has_headers: bool,
}

/// A stored message as a door sees it: four slices of one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// Exchange it was published to.
    pub exchange: &'a [u8],
    /// Routing key it was published with.
    pub routing_key: &'a [u8],
    /// Property list in the stored shape.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}
