//! The AMQP 0-9-1 door as a pure state machine: bytes in, bytes and `model` requests out.
//!
//! Scope: the whole protocol as `RabbitMQ` and its clients really speak it, standard port 5672.
//! Rooms: `codec` (bytes <-> frames), `table` (the methods as data), `connection` (the state
//! machine), `map` (its words <-> model; refusals -> codes and texts; deviations tagged).
//! Not here: sockets, clocks, tasks (`net`), queues and messages (`engine`), settings (`config`).
//! `codec` and `table` work in both directions: the built-in clients use them too.
//!
//! Limits: [`Options`]; before login 8 KiB a frame, 64 KiB in all and [`Options::handshake`].
//! Sources: AMQP 0-9-1 specification and its XML; `RabbitMQ` "Protocol extensions" and "Protocol
//! errata"; what those leave open was asked of `RabbitMQ` 3.10.8 and is kept in `testdata/`.

pub mod codec;
mod connection;
mod map;
mod options;
pub mod table;

pub use connection::Connection;
pub use map::Code;
pub use options::{Identity, Options};
