//! [`FaultyDisk`]: a simulated disk that keeps what is live apart from what is durable.
//!
//! Lives here: power loss (unsynced writes dropped, torn or reordered), errors at the nth call,
//! short writes. Not here: timing. The tests of this crate and the simulator use it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File, LockGuard};

/// Unit in which an unsynced write may be lost on its own.
const SECTOR_BYTES: usize = 512;

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

/// See the module's head. Clones share the disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Mutating operations so far.
    operations: u64,
    /// At this operation the power fails.
    crash_at: Option<u64>,
    is_crashed: bool,
    is_short_writing: bool,
    free_bytes: Option<u64>,
    troubles: Vec<Trouble>,
    locks: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Directory changes not yet synced, oldest first; `None`: the name goes.
    pending_names: Vec<Vec<(PathBuf, Option<u64>)>>,
    files: BTreeMap<u64, Inode>,
    next_file: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    name: PathBuf,
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => put(bytes, *offset, data),
            Self::Length(len) if *len > bytes.len() => bytes.resize(*len, 0),
            Self::Length(_) => {}
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset.saturating_add(data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(data);
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

/// A small generator; good enough to pick which sectors survive.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl State {
    /// Counts the operation and decides whether it happens. `Ok(false)`: the power fails in it.
    fn enter(&mut self, operation: Operation, path: &Path) -> io::Result<bool> {
        if self.is_crashed {
            return Err(power_is_off());
        }
        if operation != Operation::Read {
            self.operations = self.operations.saturating_add(1);
            if self.crash_at == Some(self.operations) {
                self.is_crashed = true;
                return Ok(false);
            }
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        for trouble in &mut self.troubles {
            if trouble.operation != operation || !name.contains(&trouble.name) {
                continue;
            }
            if trouble.after > 0 {
                trouble.after -= 1;
            } else if trouble.times > 0 {
                trouble.times -= 1;
                return Err(trouble.error.into());
            }
        }
        Ok(true)
    }

    fn change_names(&mut self, changes: Vec<(PathBuf, Option<u64>)>) {
        apply_names(&mut self.names, &changes);
        self.pending_names.push(changes);
    }
}

fn apply_names(names: &mut BTreeMap<PathBuf, u64>, changes: &[(PathBuf, Option<u64>)]) {
    for (path, file) in changes {
        match file {
            Some(file) => names.insert(path.clone(), *file),
            None => names.remove(path),
        };
    }
}

impl FaultyDisk {
    /// A disk with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many mutating operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the power fail during the nth mutating operation from the disk's birth.
    pub fn crash_at(&self, operation: u64) {
        self.state().crash_at = Some(operation);
    }

    /// Whether the power has failed.
    pub fn is_crashed(&self) -> bool {
        self.state().is_crashed
    }

    /// Plans a failure.
    pub fn plan(&self, trouble: Trouble) {
        self.state().troubles.push(trouble);
    }

    /// Forgets all planned failures.
    pub fn heal(&self) {
        self.state().troubles.clear();
    }

    /// Every write call takes only half of what it is given (at least a byte).
    pub fn write_short(&self, is_on: bool) {
        self.state().is_short_writing = is_on;
    }

    /// What `free_bytes` answers; `None`: plenty.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.state().free_bytes = free;
    }

    /// The disk as the next boot finds it. Seed 0 loses everything unsynced, seed 1 keeps it all,
    /// others keep a random choice of sectors and a prefix of the directory changes.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let state = self.state();
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let keeps = |dice: &mut Dice| match seed {
            0 => false,
            1 => true,
            _ => dice.roll().is_multiple_of(2),
        };
        let mut names = state.durable_names.clone();
        for changes in &state.pending_names {
            if !keeps(&mut dice) {
                break;
            }
            apply_names(&mut names, changes);
        }
        let mut files = BTreeMap::new();
        for file in names.values() {
            let Some(inode) = state.files.get(file) else { continue };
            let mut bytes = inode.durable.clone();
            for pending in &inode.pending {
                survive(pending, &mut bytes, || keeps(&mut dice));
            }
            let durable = bytes.clone();
            let name = inode.name.clone();
            files.insert(*file, Inode { name, live: bytes, durable, pending: Vec::new() });
        }
        Self(Arc::new(Mutex::new(State {
            durable_names: names.clone(),
            names,
            files,
            next_file: state.next_file,
            ..State::default()
        })))
    }

    /// The live bytes of a file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.names.get(path)?;
        Some(state.files.get(file)?.live.clone())
    }

    /// Replaces a file's bytes, live and durable: bit rot.
    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        if let Some(file) = state.names.get(path).copied()
            && let Some(inode) = state.files.get_mut(&file)
        {
            inode.durable.clone_from(&bytes);
            inode.live = bytes;
            inode.pending.clear();
        }
    }

    /// A deep copy with everything as it is, for trying several endings of one story.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        Self(Arc::new(Mutex::new(State {
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending_names: state.pending_names.clone(),
            files: state.files.clone(),
            next_file: state.next_file,
            ..State::default()
        })))
    }
}

/// Applies the part of an unsynced change that the power loss spares.
fn survive(pending: &Pending, bytes: &mut Vec<u8>, mut keeps: impl FnMut() -> bool) {
    match pending {
        Pending::Write(offset, data) => {
            for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                if keeps() {
                    put(bytes, offset.saturating_add(index * SECTOR_BYTES), sector);
                }
            }
        }
        Pending::Length(_) => {
            if keeps() {
                pending.apply(bytes);
            }
        }
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
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.state();
        if state.is_crashed {
            return Err(power_is_off());
        }
        let file = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), file }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if !state.enter(Operation::Create, path)? {
            return Err(power_is_off());
        }
        let file = state.next_file;
        state.next_file = state.next_file.saturating_add(1);
        state.files.insert(file, Inode { name: path.to_path_buf(), ..Inode::default() });
        state.change_names(vec![(path.to_path_buf(), Some(file))]);
        drop(state);
        Ok(Arc::new(FaultyFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let survives = state.enter(Operation::Rename, from)?;
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_names(vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(file))]);
        if let Some(inode) = state.files.get_mut(&file) {
            inode.name = to.to_path_buf();
        }
        if survives { Ok(()) } else { Err(power_is_off()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let survives = state.enter(Operation::Remove, path)?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(vec![(path.to_path_buf(), None)]);
        if survives { Ok(()) } else { Err(power_is_off()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.enter(Operation::SyncDir, dir)? {
            return Err(power_is_off());
        }
        let pending = std::mem::take(&mut state.pending_names);
        for changes in &pending {
            apply_names(&mut state.durable_names, changes);
        }
        let (names, durable) = (&state.names, &state.durable_names);
        let used: BTreeSet<u64> = names.values().chain(durable.values()).copied().collect();
        state.files.retain(|file, _| used.contains(file));
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.state().free_bytes.unwrap_or(1 << 40))
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
    /// Runs `change` on the file; the flag says whether the operation survives (see `enter`).
    fn with<T>(
        &self,
        operation: Operation,
        change: impl FnOnce(&mut Inode, bool) -> T,
    ) -> io::Result<T> {
        let mut state = self.disk.state();
        let name = state.files.get(&self.file).map(|inode| inode.name.clone()).unwrap_or_default();
        let survives = state.enter(operation, &name)?;
        // A handle to a file without a name keeps working, as on a real system.
        let inode = state.files.entry(self.file).or_default();
        let out = change(inode, survives);
        if survives { Ok(out) } else { Err(power_is_off()) }
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(Operation::Read, |inode, _| {
            let rest = inode.live.get(size(offset)..).unwrap_or_default();
            let count = rest.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            count
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let is_short = self.disk.state().is_short_writing;
        let count = if is_short { buf.len().div_ceil(2) } else { buf.len() };
        let data = buf.get(..count).unwrap_or_default().to_vec();
        self.with(Operation::Write, |inode, _| {
            let pending = Pending::Write(size(offset), data);
            pending.apply(&mut inode.live);
            inode.pending.push(pending);
            count
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(Operation::Sync, |inode, survives| {
            if survives {
                for pending in std::mem::take(&mut inode.pending) {
                    pending.apply(&mut inode.durable);
                }
            }
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.with(Operation::Allocate, |inode, _| {
            let pending = Pending::Length(size(bytes));
            pending.apply(&mut inode.live);
            inode.pending.push(pending);
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Operation::Read, |inode, _| inode.live.len() as u64)
    }
}
