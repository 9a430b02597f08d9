//! The work API: JSON over HTTP for whoever gives work and for workers without an open port.
//!
//! Lives here: what every call means. A [`Call`] is one HTTP call as a pure state machine: it is
//! read from method, path, query and body, asks the engine, hears its answers and becomes an
//! [`Answer`]. Not here: HTTP itself (`net::http`), logins, sessions and clocks (`potager`), the
//! state of anything (`engine`).
//!
//! Port: the HTTP door's, 15672, below `/work/v1`. Specification: `docs/protocols/work.md`, for
//! machines `openapi.json` beside this crate's manifest. Limits: the constants below.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a call hopes for one or two replies; any other is a failure in the same words"
)]

mod address;
mod answer;
mod call;
mod fields;
mod item;
mod json;
mod map;
mod openapi;
mod route;
#[cfg(test)]
mod tests;
mod value;

pub use answer::{Answer, Code, Failure};
pub use call::{Ask, Call, Lane, Under, ticket_of};
pub use route::{Incoming, is_ours};

/// Most items in one call.
pub const ITEMS_MAX: usize = 10_000;
/// Most messages in one call of a home-made publishing agent: those send all they have at once.
pub const MESSAGES_MAX: usize = 100_000;
/// Deepest nesting of JSON.
pub const DEPTH_MAX: usize = 64;
/// A call asks for nothing more when its answer has so many bytes.
pub const ANSWER_BYTES_ENOUGH: usize = 8 << 20;
/// What would make an answer larger stays away, unless it is the only thing in it.
pub const ANSWER_BYTES_MAX: usize = 20 << 20;
/// Longest wait that a client may ask for, in seconds.
pub const WAIT_S_MAX: u32 = 60;
/// Shortest lease, in seconds.
pub const LEASE_S_MIN: u32 = 5;
/// Longest lease, in seconds.
pub const LEASE_S_MAX: u32 = 3600;
/// The lease of who asks for none, in seconds.
pub const LEASE_S: u32 = 60;
/// Longest name of a worker, in characters.
pub const WORKER_CHARS_MAX: usize = 128;
