//! The beanstalk door as a pure state machine: bytes in, bytes and `model` requests out.
//!
//! Scope: the protocol of `beanstalkd` 1.13 as its clients really speak it, standard port 11300; a
//! login where one is asked for; the put suffixes and batches that the tuber server added.
//! Rooms: `codec` (bytes <-> commands), `table` (the verbs as data), `connection` (the state
//! machine), `map` (its words <-> model; deviations tagged), `yaml` (the bodies of `stats` and of
//! lists), `host` (what only the process knows), `options`.
//! Not here: sockets, clocks, tasks (`net`), queues and leases (`engine`), settings (`config`).
//! `codec` and `table` work in both directions: the built-in clients use them too.
//!
//! Limits: a line has 224 bytes, a body [`Options::job_bytes_max`]; what a connection may have
//! open at a time is named in `connection`.
//! Sources: `beanstalkd` `doc/protocol.txt`; what it leaves open was asked of `beanstalkd` 1.12
//! and 1.13 and read in its `prot.c`.

pub mod codec;
mod connection;
mod host;
mod map;
mod options;
pub mod table;
mod yaml;

pub use connection::Connection;
pub use host::{Counted, Host, HostFacts};
pub use options::Options;
