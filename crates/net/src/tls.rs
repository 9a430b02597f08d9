//! TLS over accepted sockets, with rustls. One [`TlsStream`] goes through `drive` and through the
//! HTTP adapter like a plain socket.
//!
//! Rooms: `stream` (a session over a socket), `handshake` (up to the first protected byte, bounded
//! in time and bytes), `files` (PEM files to a rustls configuration), `identity` (whom a client's
//! certificate names, and until when it holds), `dial` (the client's side). Not here: when files
//! are read again, and any protocol. Called by the binary.

mod dial;
mod files;
mod handshake;
mod identity;
mod stream;
#[cfg(test)]
mod tests;

pub use dial::{BlockingStream, DialFault, client_config, connect, connect_blocking};
pub use files::{Clients, FileFault, Keys, Plan, load};
pub use handshake::{Acceptor, HANDSHAKE_MAX, HandshakeFault};
pub use identity::{ClientName, name_in};
pub use stream::TlsStream;
