//! [`Outbox`]: what a connection wants written and asked. `net` empties it after every call.

use bytes::BytesMut;
use model::{Envelope, Request, Ticket};

/// Bytes waiting for the socket above which a door stops decoding.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Requests gathered in one call above which a door stops decoding.
pub const OUTBOX_REQUESTS_MAX: usize = 4096;

/// Bytes to write and requests to submit, in order. Bounded: see [`Outbox::has_room`].
#[derive(Debug, Default)]
pub struct Outbox {
    /// To the peer.
    pub bytes: BytesMut,
    /// To the engine.
    pub requests: Vec<Envelope>,
}

impl Outbox {
    /// An empty one; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a door may go on decoding. What a single command writes is bounded by itself, so
    /// the box never grows far beyond its limits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.bytes.len() < OUTBOX_BYTES_MAX && self.requests.len() < OUTBOX_REQUESTS_MAX
    }

    /// Asks something of the engine.
    pub fn submit(&mut self, channel: u16, ticket: Ticket, request: Request) {
        self.requests.push(Envelope { channel, ticket, request });
    }
}
