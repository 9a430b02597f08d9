//! What a simulated disk consists of: names, files, and what of both is durable.
//!
//! Lives here: the bytes and the bookkeeping behind the lock. Not here: the face to the journal
//! (`faulty.rs`), what survives a power loss (`loss.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::plan::{FailedSync, Lie, Operation, Plans};

/// A change to a directory; `None`: the name goes.
pub(super) type Naming = (PathBuf, Option<u64>);

#[derive(Debug, Default)]
pub(super) struct State {
    /// Mutating operations so far.
    pub(super) operations: u64,
    /// At this operation the power fails.
    pub(super) crash_at: Option<u64>,
    pub(super) is_crashed: bool,
    pub(super) free_bytes: Option<u64>,
    /// Bytes that all files together may have; `None`: no end.
    pub(super) capacity: Option<u64>,
    pub(super) is_short_writing: bool,
    /// Most bytes that a write call takes.
    pub(super) write_bytes_max: Option<usize>,
    pub(super) failed_sync: FailedSync,
    pub(super) plans: Plans,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) tree: Tree,
}

/// The part that a copy of the disk takes along.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    /// Directory changes not yet synced, oldest first; each entry is atomic.
    pub(super) pending_names: Vec<Vec<Naming>>,
    pub(super) files: BTreeMap<u64, Inode>,
    pub(super) next_file: u64,
    /// Changes of bytes so far, to tell their order over all files.
    pub(super) changes: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) name: PathBuf,
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Pending>,
}

/// A change of bytes that is not synced.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Its place in the order of all changes.
    pub(super) order: u64,
    pub(super) change: Change,
    pub(super) lie: Option<Lie>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => put(bytes, *offset, data),
            Self::Length(len) if *len > bytes.len() => bytes.resize(*len, 0),
            Self::Length(_) => {}
        }
    }
}

pub(super) fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset.saturating_add(data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(data);
    }
}

pub(super) fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

pub(super) fn apply_names(names: &mut BTreeMap<PathBuf, u64>, changes: &[Naming]) {
    for (path, file) in changes {
        match file {
            Some(file) => names.insert(path.clone(), *file),
            None => names.remove(path),
        };
    }
}

impl State {
    /// Counts the operation and decides whether it happens. `Ok(false)`: the power fails in it.
    pub(super) fn enter(&mut self, operation: Operation, path: &Path) -> io::Result<bool> {
        if self.is_crashed {
            return Err(super::power_is_off());
        }
        if operation != Operation::Read {
            self.operations = self.operations.saturating_add(1);
            if self.crash_at == Some(self.operations) {
                self.is_crashed = true;
                return Ok(false);
            }
        }
        self.plans.error(operation, path)?;
        Ok(true)
    }

    /// How many of the bytes at `offset` a write call takes.
    pub(super) fn accepted(&mut self, file: u64, offset: u64, bytes: usize) -> io::Result<usize> {
        let mut taken = if self.is_short_writing { bytes.div_ceil(2) } else { bytes };
        taken = taken.min(self.write_bytes_max.unwrap_or(usize::MAX).max(1));
        if taken < bytes {
            self.plans.tally.short_writes = self.plans.tally.short_writes.saturating_add(1);
        }
        let end = size(offset).saturating_add(taken);
        let fits = end.saturating_sub(self.lacking(file, end));
        let taken = fits.saturating_sub(size(offset)).min(taken);
        if taken == 0 && bytes > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(taken)
    }

    /// How many bytes the disk is short of for the file to be `len` long; counts when it is.
    pub(super) fn lacking(&mut self, file: u64, len: usize) -> usize {
        let Some(capacity) = self.capacity else { return 0 };
        let current = self.tree.files.get(&file).map_or(0, |inode| inode.live.len());
        let growth = len.saturating_sub(current);
        let free = size(capacity).saturating_sub(self.tree.used());
        let lacking = growth.saturating_sub(free);
        if lacking > 0 {
            self.plans.tally.full = self.plans.tally.full.saturating_add(1);
        }
        lacking
    }
}

impl Tree {
    /// Bytes of all files that have a name.
    pub(super) fn used(&self) -> usize {
        let files = self.names.values().filter_map(|file| self.files.get(file));
        files.map(|inode| inode.live.len()).sum()
    }

    pub(super) fn change_names(&mut self, changes: Vec<Naming>) {
        apply_names(&mut self.names, &changes);
        self.pending_names.push(changes);
    }

    /// A change that the system sees at once and the medium at the next sync.
    pub(super) fn change(&mut self, file: u64, change: Change, lie: Option<Lie>) {
        let order = self.changes;
        self.changes = self.changes.saturating_add(1);
        // A handle to a file without a name keeps working, as on a real system.
        let inode = self.files.entry(file).or_default();
        change.apply(&mut inode.live);
        inode.pending.push(Pending { order, change, lie });
    }

    /// The file's unsynced changes reach the medium.
    pub(super) fn sync(&mut self, file: u64) {
        let Some(inode) = self.files.get_mut(&file) else { return };
        for pending in std::mem::take(&mut inode.pending) {
            self.store(file, &pending.change, pending.lie.as_ref());
        }
    }

    /// What a failed sync leaves of the file's unsynced changes.
    pub(super) fn fail_sync(&mut self, file: u64, how: FailedSync) {
        let Some(inode) = self.files.get_mut(&file) else { return };
        match how {
            FailedSync::Keep => {}
            FailedSync::Forget => inode.pending.clear(),
            FailedSync::Revert => {
                inode.pending.clear();
                inode.live.clone_from(&inode.durable);
            }
        }
    }

    /// Puts a change onto the medium, where it belongs or where the lie says.
    pub(super) fn store(&mut self, file: u64, change: &Change, lie: Option<&Lie>) {
        let (target, offset) = match (lie, change) {
            (None, _) | (_, Change::Length(_)) => {
                if let Some(inode) = self.files.get_mut(&file) {
                    change.apply(&mut inode.durable);
                }
                return;
            }
            (Some(Lie::Lost), _) => return,
            (Some(Lie::Offset(offset)), _) => (Some(file), *offset),
            (Some(Lie::File(path, offset)), _) => (self.names.get(path).copied(), *offset),
        };
        let Change::Write(_, data) = change else { return };
        if let Some(inode) = target.and_then(|target| self.files.get_mut(&target)) {
            // A misdirected write overwrites; it does not make a file longer.
            let len = inode.durable.len();
            put(&mut inode.durable, size(offset).min(len), data);
            inode.durable.truncate(len);
        }
    }

    /// Makes directory changes durable and frees files without a name.
    pub(super) fn sync_names(&mut self) {
        for changes in std::mem::take(&mut self.pending_names) {
            apply_names(&mut self.durable_names, &changes);
        }
        let used: BTreeSet<u64> =
            self.names.values().chain(self.durable_names.values()).copied().collect();
        self.files.retain(|file, _| used.contains(file));
    }

    /// What readers see is what the medium has, plus what is not synced yet.
    pub(super) fn drop_caches(&mut self) {
        for inode in self.files.values_mut() {
            inode.live.clone_from(&inode.durable);
            for pending in &inode.pending {
                pending.change.apply(&mut inode.live);
            }
        }
    }

    /// A number for what is durable: names, lengths and bytes.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut sum = Sum(0xcbf2_9ce4_8422_2325);
        for (path, file) in &self.durable_names {
            let bytes = self.files.get(file).map(|inode| inode.durable.as_slice());
            sum.add(path.to_string_lossy().as_bytes());
            sum.add(bytes.unwrap_or_default());
        }
        sum.0
    }
}

/// A stable sum, eight bytes at a time; not for adversaries.
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        for piece in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            for (to, from) in word.iter_mut().zip(piece) {
                *to = *from;
            }
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}
