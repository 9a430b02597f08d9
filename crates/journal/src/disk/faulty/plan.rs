//! What can be ordered of a simulated disk: errors, lies, and how a power loss tears.
//!
//! Lives here: the vocabulary and the bookkeeping of what is planned. Not here: what the disk then
//! does (`state.rs`, `loss.rs`). Callers are seeded: nothing here is random on its own.

use std::io;
use std::path::{Path, PathBuf};

/// A kind of disk operation, to aim troubles at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `File::read_at`.
    Read,
    /// `File::write_at`.
    Write,
    /// `File::sync_data`.
    Sync,
    /// `File::allocate`.
    Allocate,
    /// `Disk::create`.
    Create,
    /// `Disk::rename`.
    Rename,
    /// `Disk::remove`.
    Remove,
    /// `Disk::sync_dir`.
    SyncDir,
}

impl Operation {
    /// Every kind, for callers that choose one.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::Allocate,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::SyncDir,
    ];
}

/// One planned failure.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Which operations fail.
    pub operation: Operation,
    /// Only on paths whose file name contains this; empty: all.
    pub name: String,
    /// How many matching operations still succeed first.
    pub after: u64,
    /// How many then fail.
    pub times: u64,
    /// With what.
    pub error: io::ErrorKind,
}

/// What a lying disk does with a write that it reports as done. Until the power fails or
/// `drop_caches` is called, readers see the honest result: the page cache has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It is never stored; the sync succeeds.
    Lost,
    /// It is stored at this offset of the same file.
    Offset(u64),
    /// It is stored at this offset of another file, if that exists when the write is synced.
    File(PathBuf, u64),
}

/// One planned lie.
#[derive(Clone, Debug)]
pub struct PlannedLie {
    /// Only writes to files whose name contains this; empty: all.
    pub name: String,
    /// How many matching writes are still honest.
    pub after: u64,
    /// What happens to the next one.
    pub lie: Lie,
}

/// Which part of what was not synced a power loss spares, of bytes and of directory changes alike;
/// with sectors, directory changes keep their order, as in a journaling file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// The older part, cut inside a write at a sector.
    Prefix,
    /// The younger part: everything was reordered.
    Suffix,
    /// Each write wholly or not at all, in any combination.
    Writes,
    /// Each sector on its own.
    Sectors,
}

impl Tear {
    /// Every pattern, for callers that choose one.
    pub const ALL: [Self; 6] =
        [Self::None, Self::All, Self::Prefix, Self::Suffix, Self::Writes, Self::Sectors];
}

/// What a failed sync does to the writes that it should have made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedSync {
    /// They stay unsynced: another sync may still store them.
    Keep,
    /// They count as stored and are not: readers see them, no later sync stores them, a power
    /// loss shows the truth. Source: observed, Linux ext4; "Can Applications Recover from fsync
    /// Failures?", USENIX ATC 2020.
    #[default]
    Forget,
    /// They are gone at once, for readers too, as on file systems that drop the pages.
    Revert,
}

/// How often the disk misbehaved, by kind. Power losses are the caller's to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Planned errors returned by reads.
    pub read_errors: u64,
    /// Planned errors returned by writes and allocations.
    pub write_errors: u64,
    /// Planned errors returned by syncs of files and directories.
    pub sync_errors: u64,
    /// Planned errors returned by creations, renames and removals.
    pub name_errors: u64,
    /// Writes and allocations refused or cut because the disk was full.
    pub full: u64,
    /// Writes that took less than they were given.
    pub short_writes: u64,
    /// Writes that were lost or went elsewhere.
    pub lies: u64,
    /// Bits flipped at rest.
    pub flipped_bits: u64,
}

impl Tally {
    fn count_error(&mut self, operation: Operation) {
        let counter = match operation {
            Operation::Read => &mut self.read_errors,
            Operation::Write | Operation::Allocate => &mut self.write_errors,
            Operation::Sync | Operation::SyncDir => &mut self.sync_errors,
            Operation::Create | Operation::Rename | Operation::Remove => &mut self.name_errors,
        };
        *counter = counter.saturating_add(1);
    }
}

/// Everything planned, and what has come of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Plans {
    pub(super) troubles: Vec<Trouble>,
    pub(super) lies: Vec<PlannedLie>,
    pub(super) tally: Tally,
}

fn names(path: &Path, wanted: &str) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.contains(wanted)
}

impl Plans {
    /// The error that this operation meets, if one was planned.
    pub(super) fn error(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        for trouble in &mut self.troubles {
            if trouble.operation != operation || !names(path, &trouble.name) {
                continue;
            }
            if trouble.after > 0 {
                trouble.after -= 1;
            } else if trouble.times > 0 {
                trouble.times -= 1;
                self.tally.count_error(operation);
                return Err(trouble.error.into());
            }
        }
        Ok(())
    }

    /// The lie that this write meets, if one was planned. Each is told once.
    pub(super) fn lie(&mut self, path: &Path) -> Option<Lie> {
        let mut told = None;
        for (index, planned) in self.lies.iter_mut().enumerate() {
            if !names(path, &planned.name) {
                continue;
            }
            if planned.after > 0 {
                planned.after -= 1;
            } else {
                told = Some(index);
                break;
            }
        }
        let planned = self.lies.remove(told?);
        self.tally.lies = self.tally.lies.saturating_add(1);
        Some(planned.lie)
    }
}
