//! Sockets: listeners, the loop that moves bytes, the HTTP adapter. tokio lives here.
//!
//! Lives here: [`listen`], [`drive`], [`http`], [`tls`]. Not here: any protocol (a door is a
//! `wire::Connection`), the engine (a `wire::Service`). One thread runs everything; nothing in
//! this crate is `Send` on purpose. Called by the binary.

mod buffers;
mod drive;
pub mod http;
mod listener;
mod rhythm;
mod stream;
pub mod tls;

pub use buffers::Buffers;
pub use drive::{Drive, WRITE_STALL_MAX, drive};
pub use listener::{Door, Listener, Open, SocketFile, listen, listen_at_file, run};
pub use stream::{Socket, Stream};
