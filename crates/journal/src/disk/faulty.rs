//! [`FaultyDisk`]: a simulated disk that keeps what is live apart from what is durable.
//!
//! Lives here: the face to the journal and to whoever orders faults: power loss (unsynced changes
//! dropped, torn or reordered), errors at the nth call, short writes, an end of the space, writes
//! that are lost or go elsewhere, bit rot. Nothing is left to chance: a seeded caller orders each.
//! Not here: timing; over `Workers::Inline` nothing is written or flushed until the owner calls
//! `Journal::run_pending`, so a slow or stuck flush is a caller that waits with that.
//! The tests of this crate and the simulator use it.

mod loss;
mod plan;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::plan::{FailedSync, Lie, Operation, PlannedLie, Tally, Tear, Trouble};
use self::state::{Change, Inode, State, Tree, size};
use super::{Disk, File, LockGuard};

/// See the module's head. Clones share the disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl FaultyDisk {
    /// A disk with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    fn with_tree(tree: Tree) -> Self {
        Self(Arc::new(Mutex::new(State { tree, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many mutating operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How often the disk misbehaved as planned.
    pub fn tally(&self) -> Tally {
        self.state().plans.tally
    }

    /// Lets the power fail during the nth mutating operation from the disk's birth.
    pub fn crash_at(&self, operation: u64) {
        self.state().crash_at = Some(operation);
    }

    /// The power fails now: every operation fails from here on.
    pub fn cut_power(&self) {
        self.state().is_crashed = true;
    }

    /// Whether the power has failed.
    pub fn is_crashed(&self) -> bool {
        self.state().is_crashed
    }

    /// Plans a failure.
    pub fn plan(&self, trouble: Trouble) {
        self.state().plans.troubles.push(trouble);
    }

    /// Plans a write that reports success and does something else.
    pub fn plan_lie(&self, lie: PlannedLie) {
        self.state().plans.lies.push(lie);
    }

    /// Forgets all planned failures and lies.
    pub fn heal(&self) {
        let mut state = self.state();
        state.plans.troubles.clear();
        state.plans.lies.clear();
    }

    /// What a failed sync does to the writes before it; [`FailedSync::Forget`] unless set.
    pub fn on_failed_sync(&self, how: FailedSync) {
        self.state().failed_sync = how;
    }

    /// Every write call takes only half of what it is given (at least a byte).
    pub fn write_short(&self, is_on: bool) {
        self.state().is_short_writing = is_on;
    }

    /// Every write call takes at most so many bytes (at least one); `None`: all.
    pub fn set_write_bytes_max(&self, bytes: Option<usize>) {
        self.state().write_bytes_max = bytes;
    }

    /// What `free_bytes` answers; `None`: what the capacity leaves, else plenty.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.state().free_bytes = free;
    }

    /// The bytes that all files together may have. A write takes what still fits and then fails, as
    /// does any allocation beyond it; overwriting always succeeds. `None`: no end.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files, to set a capacity by.
    pub fn used_bytes(&self) -> u64 {
        self.state().tree.used() as u64
    }

    /// The disk as the next boot finds it. Seed 0 loses everything unsynced, seed 1 keeps it all,
    /// others tear it, half of them by sectors and the rest by the other patterns.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let tear = match (seed, seed % 6) {
            (0, _) => Tear::None,
            (1, _) => Tear::All,
            (_, 0) => Tear::Prefix,
            (_, 1) => Tear::Suffix,
            (_, 2) => Tear::Writes,
            (_, _) => Tear::Sectors,
        };
        self.after_tear(tear, seed)
    }

    /// The disk as the next boot finds it, torn by the given pattern. Nothing is planned for it,
    /// and no limit is set.
    #[must_use]
    pub fn after_tear(&self, tear: Tear, seed: u64) -> Self {
        Self::with_tree(loss::after(&self.state().tree, tear, seed))
    }

    /// Readers no longer see what only the page cache has: lies and failed syncs show.
    pub fn drop_caches(&self) {
        self.state().tree.drop_caches();
    }

    /// The paths of all files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().tree.names.keys().cloned().collect()
    }

    /// The live bytes of a file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.tree.names.get(path)?;
        Some(state.tree.files.get(file)?.live.clone())
    }

    fn with_inode<T>(&self, path: &Path, change: impl FnOnce(&mut Inode) -> T) -> Option<T> {
        let mut state = self.state();
        let file = *state.tree.names.get(path)?;
        state.tree.files.get_mut(&file).map(change)
    }

    /// Replaces a file's bytes, live and durable.
    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        self.with_inode(path, |inode| {
            inode.durable.clone_from(&bytes);
            inode.live = bytes;
            inode.pending.clear();
        });
    }

    /// Bit rot: turns a bit over, live and durable, and says whether there was such a bit. What is
    /// written there later is whole again.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        let mask = 1_u8 << (bit % 8);
        let flip =
            |bytes: &mut Vec<u8>| bytes.get_mut(size(bit / 8)).map(|byte| *byte ^= mask).is_some();
        let is_flipped = self.with_inode(path, |inode| {
            let is_live = flip(&mut inode.live);
            flip(&mut inode.durable) || is_live
        });
        let is_flipped = is_flipped.unwrap_or(false);
        let flipped = &mut self.state().plans.tally.flipped_bits;
        *flipped = flipped.saturating_add(u64::from(is_flipped));
        is_flipped
    }

    /// A number for everything durable: names, lengths and bytes. Equal disks have equal numbers
    /// in every run and on every machine.
    pub fn fingerprint(&self) -> u64 {
        self.state().tree.fingerprint()
    }

    /// A deep copy with everything as it is but nothing planned and no lock held: for several
    /// endings of one story, or to come back to with [`Self::restore`].
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with_tree(self.state().tree.clone())
    }

    /// Makes the files what they are on `other`, which is a fork from before some damage. Open
    /// handles go on with the restored files; power is back; locks stay held.
    pub fn restore(&self, other: &Self) {
        let tree = other.state().tree.clone();
        let mut state = self.state();
        state.tree = tree;
        state.is_crashed = false;
        state.crash_at = None;
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.is_crashed {
            return Err(power_is_off());
        }
        let inside = state.tree.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.state();
        if state.is_crashed {
            return Err(power_is_off());
        }
        let file = *state.tree.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), file }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if !state.enter(Operation::Create, path)? {
            return Err(power_is_off());
        }
        let tree = &mut state.tree;
        let file = tree.next_file;
        tree.next_file = tree.next_file.saturating_add(1);
        tree.files.insert(file, Inode { name: path.to_path_buf(), ..Inode::default() });
        tree.change_names(vec![(path.to_path_buf(), Some(file))]);
        drop(state);
        Ok(Arc::new(FaultyFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let survives = state.enter(Operation::Rename, from)?;
        let tree = &mut state.tree;
        let file = *tree.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        tree.change_names(vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(file))]);
        if let Some(inode) = tree.files.get_mut(&file) {
            inode.name = to.to_path_buf();
        }
        if survives { Ok(()) } else { Err(power_is_off()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let survives = state.enter(Operation::Remove, path)?;
        if !state.tree.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.tree.change_names(vec![(path.to_path_buf(), None)]);
        if survives { Ok(()) } else { Err(power_is_off()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.enter(Operation::SyncDir, dir)? {
            return Err(power_is_off());
        }
        state.tree.sync_names();
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state();
        let used = state.tree.used() as u64;
        let left = state.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(used));
        Ok(state.free_bytes.unwrap_or(left))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        if !self.state().locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FaultyLock { disk: self.clone(), path: path.to_path_buf() }))
    }
}

#[derive(Debug)]
struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl LockGuard for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    file: u64,
}

impl FaultyFile {
    fn name(&self, state: &State) -> PathBuf {
        state.tree.files.get(&self.file).map(|inode| inode.name.clone()).unwrap_or_default()
    }

    /// Runs `change`; an operation in which the power fails still happened before it did.
    fn with<T>(
        &self,
        operation: Operation,
        change: impl FnOnce(&mut State, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.state();
        let name = self.name(&state);
        let entered = state.enter(operation, &name);
        if entered.is_err() && operation == Operation::Sync && !state.is_crashed {
            let how = state.failed_sync;
            state.tree.fail_sync(self.file, how);
        }
        let survives = entered?;
        let out = change(&mut state, survives)?;
        if survives { Ok(out) } else { Err(power_is_off()) }
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(Operation::Read, |state, _| {
            let live = state.tree.files.get(&self.file).map(|inode| inode.live.as_slice());
            let rest = live.unwrap_or_default().get(size(offset)..).unwrap_or_default();
            let count = rest.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            Ok(count)
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.with(Operation::Write, |state, _| {
            let count = state.accepted(self.file, offset, buf.len())?;
            let data = buf.get(..count).unwrap_or_default().to_vec();
            let name = self.name(state);
            let lie = state.plans.lie(&name);
            state.tree.change(self.file, Change::Write(size(offset), data), lie);
            Ok(count)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(Operation::Sync, |state, survives| {
            if survives {
                state.tree.sync(self.file);
            }
            Ok(())
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.with(Operation::Allocate, |state, _| {
            if state.lacking(self.file, size(bytes)) > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.tree.change(self.file, Change::Length(size(bytes)), None);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Operation::Read, |state, _| {
            let live = state.tree.files.get(&self.file).map_or(0, |inode| inode.live.len());
            Ok(live as u64)
        })
    }
}
