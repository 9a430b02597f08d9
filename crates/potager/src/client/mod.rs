//! A small blocking AMQP 0-9-1 client: what `publish`, `get`, `bench`, `demo` and the crash
//! ledger need, and no more. One [`Client`] is one connection with one channel.
//!
//! Lives here: addresses, the handshake, one method per protocol verb, and events. Not here: the
//! load generator (`bench::load`), which writes frames that it prepared before and scans replies
//! instead of decoding them; frames and methods (`proto_amqp::codec` and `table`). It works
//! against any AMQP 0-9-1 server and uses no part of the server's state.

mod address;
mod confirms;
mod fault;
mod link;
mod session;

pub(crate) use address::Address;
pub(crate) use fault::Fault;
pub(crate) use link::Link;
pub(crate) use session::{Client, Delivery, Event, Message, QueueSpec};

#[cfg(test)]
mod tests;
