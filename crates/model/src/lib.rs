//! The language between front doors and the engine: ids, requests, replies, events, limits.
//!
//! Lives here: every shared noun, and the one persisted shape of a message's properties. Not
//! here: behaviour (engine), bytes on a socket (wire, proto-*), bytes on disk (journal).
//! Everybody imports this crate; it imports nobody of ours.

mod lsn;

pub use lsn::Lsn;
