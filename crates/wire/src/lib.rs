//! What every front door shares: the shape of a connection, what it puts out, how it ends.
//!
//! Lives here: [`Connection`] (a pure state machine: no socket, no clock, no task), [`Outbox`],
//! [`Close`], [`Service`] (the engine's side of the door, as `net` sees it) and the byte
//! [`Cursor`]. Not here: sockets (`net`), any protocol (`proto-*`), the engine.

mod connection;
mod cursor;
mod outbox;
mod service;

pub use connection::{Close, Connection};
pub use cursor::{Cursor, Short};
pub use outbox::{OUTBOX_BYTES_MAX, OUTBOX_REQUESTS_MAX, Outbox};
pub use service::{Peer, Service};
