//! [`Options`], [`Durability`] and [`Workers`]: how a journal is opened.
//!
//! Lives here: the settings, their defaults and the limits on them. Not here: where they come
//! from (crate `config`). `Journal::open` takes them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::Fault;
use crate::layout::{BLOCK_HEAD, PAGE};

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;
/// The smallest segment that still holds a few blocks.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// The largest segment; block offsets are kept in 4 KiB units of 32 bits and far below that.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * MIB;
/// Fewest segments: one written, two in reserve, one being reclaimed.
pub const SEGMENTS_MIN: u32 = 4;
/// The largest single record, head included.
pub const RECORD_BYTES_MAX: u64 = 40 * MIB;
/// A block larger than this is sealed at the end of a group, even in mid turn.
pub const BLOCK_BYTES_MAX: u64 = 16 * MIB;
/// Reads that may wait at the same time.
pub const FETCHES_MAX: usize = 4096;

/// When a record counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync`: survives a power cut.
    #[default]
    Fsync,
    /// After the write call: survives `kill -9`, not a power cut.
    Os,
    /// At once; nothing is kept on disk at all.
    Memory,
}

/// Settings of a journal. The defaults suit a server with a disk of its own.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; created when missing.
    pub dir: PathBuf,
    /// When a record counts as safe.
    pub durability: Durability,
    /// Bytes per segment file, a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// The ring never has more segments than this.
    pub segments_max: u32,
    /// Bytes of the newest blocks kept in memory for deliveries.
    pub cache_bytes: usize,
    /// A checkpoint is due after this many bytes of log.
    pub checkpoint_bytes: u64,
    /// Publishers are refused when the disk has less than this left.
    pub free_bytes_min: u64,
    /// Background work syncs its file after this many bytes, so that no flush gets long.
    pub pace_bytes: u64,
    /// A flush may be waited for (`Journal::flush_here`) while none of late took longer than this;
    /// zero: never.
    pub flush_wait_max: Duration,
    /// Where segment salts come from; `None`: random. Set by simulations only.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data"),
            durability: Durability::Fsync,
            segment_bytes: 64 * MIB,
            segments_max: 8,
            cache_bytes: 32 * 1024 * 1024,
            checkpoint_bytes: 256 * MIB,
            free_bytes_min: 256 * MIB,
            pace_bytes: 2 * MIB,
            flush_wait_max: Duration::ZERO,
            seed: None,
        }
    }
}

impl Options {
    /// Checks the values against their limits.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let wrong = |name, value, detail| Err(Fault::Setting { name, value, detail });
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return wrong("segment_bytes", self.segment_bytes, "choose 64 KiB to 1 GiB");
        }
        if !self.segment_bytes.is_multiple_of(PAGE as u64) {
            return wrong("segment_bytes", self.segment_bytes, "choose a multiple of 4096");
        }
        if self.segments_max < SEGMENTS_MIN {
            return wrong("segments_max", self.segments_max.into(), "choose at least 4");
        }
        if self.pace_bytes == 0 {
            return wrong("pace_bytes", 0, "choose at least 1");
        }
        Ok(())
    }

    /// Bytes a segment has for blocks.
    pub(crate) fn segment_room(&self) -> u64 {
        self.segment_bytes.saturating_sub(PAGE as u64)
    }

    /// The largest atomic group, heads included.
    pub(crate) fn group_bytes_max(&self) -> u64 {
        self.segment_room().saturating_sub(BLOCK_HEAD as u64)
    }

    /// Where an open block is sealed although no commit asked for it. Four of them fill a segment,
    /// heads and whole pages included: if one did not fit, a quarter of every segment would be lost
    /// under load.
    pub(crate) fn block_bytes_max(&self) -> u64 {
        let quarter = self.segment_room() / 4;
        let pages = quarter.saturating_sub(quarter % PAGE as u64);
        BLOCK_BYTES_MAX.min(pages.saturating_sub(BLOCK_HEAD as u64))
    }
}

/// Who does the work that is not the main thread's.
#[derive(Clone)]
pub enum Workers {
    /// A commit thread and a background thread; `wake` is called after each completion, from
    /// those threads, and should make the owner call `Journal::poll` soon.
    Threads {
        /// Wakes the owner.
        wake: Arc<dyn Fn() + Send + Sync>,
    },
    /// No threads: work waits for `Journal::run_pending`. For simulations and tests.
    Inline,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads { .. } => "Threads",
            Self::Inline => "Inline",
        })
    }
}
