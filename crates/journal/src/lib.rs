//! The commit log on disk: the one place where anything becomes durable.
//!
//! Lives here: segments, blocks, checksums, group commit, recovery, survivors, checkpoints, and
//! all of it behind a small disk trait. Not here: what a record means (crates `engine` and
//! `replica`), replication, any protocol. Crate `replica` owns a [`Journal`] on the main thread.
//!
//! The layout on disk and the reasons behind it: `docs/internals/log.md`.

mod background;
pub mod backup;
mod block;
mod checkpoint;
mod commit;
mod coverage;
pub mod disk;
mod fault;
mod files;
mod flush;
mod journal;
mod layout;
mod open;
mod options;
mod pace;
mod places;
mod reader;
mod record;
mod recovery;
mod repair;
mod ring;
mod room;
mod segment;
mod space;
mod stats;
mod survey;
mod survivor;
mod tail;
mod upkeep;
mod worker;

/// Bytes that a record has in the log besides its payload; positions count them.
pub const RECORD_HEAD_BYTES: u64 = layout::RECORD_HEAD as u64;

pub use background::{FETCH_BYTES_MAX, Fetched};
pub use checkpoint::{Checkpoint, WriteState};
pub use disk::{Disk, RealDisk};
pub use fault::Fault;
pub use journal::{Journal, Progress};
pub use options::{
    BLOCK_BYTES_MAX, Durability, FETCHES_MAX, Options, RECORD_BYTES_MAX, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SEGMENTS_MIN, Workers,
};
pub use record::{Record, RecordRef, Records, Replayed};
pub use recovery::Recovery;
pub use repair::Repair;
pub use room::Room;
pub use stats::{LATENCY_BUCKETS, Latency, Stats};
pub use survey::{FileKind, FileReport, Located, Problem, ReadOnlyDisk, Survey};
pub use upkeep::{Liveness, Usage};
