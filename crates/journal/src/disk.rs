//! [`Disk`] and [`File`]: the small traits through which all file access goes.
//!
//! Lives here: the traits and the helpers that finish short reads and writes. Not here: what is
//! in the files. `RealDisk` serves a server, `MemoryDisk` the durability level `memory`, and the
//! simulated disk (feature `testing`) the tests and the simulator.

#[cfg(any(test, feature = "testing"))]
mod faulty;
mod memory;
mod real;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[cfg(any(test, feature = "testing"))]
pub use faulty::{FailedSync, FaultyDisk, Lie, Operation, PlannedLie, Tally, Tear, Trouble};
pub use memory::MemoryDisk;
pub use real::RealDisk;
pub(crate) use real::lock_holder;

/// A directory tree as the journal needs it. Paths are whole paths.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates the directory and its parents; `false` when it was there already.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<bool>;
    /// The names (not paths) of the files in the directory, in no particular order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates an empty file, replacing what was there.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, atomically; open handles follow it.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in the directory durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written below the directory.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the exclusive lock that this file stands for; dropping the guard releases it.
    ///
    /// # Errors
    /// `WouldBlock` when another holder exists.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;
}

/// Holds a lock until dropped.
pub trait LockGuard: Send + fmt::Debug {}

/// An open file. All access is positional, so handles are shared freely between threads.
#[expect(clippy::len_without_is_empty, reason = "a file of the journal is never asked that")]
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buf.len()` bytes; 0 means the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `buf`, extending the file where needed.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes written bytes and the length durable.
    ///
    /// # Errors
    /// What the system says. Never try again: the system may have dropped the pages.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves space up to `bytes` and makes the file that long; new bytes read as zero.
    ///
    /// # Errors
    /// `StorageFull` when there is no space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Current length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;
    /// The bytes are no longer needed: memory may be freed, then they read as zero.
    fn forget(&self) {}
}

/// Writes all of `buf`, however short the single writes are.
pub(crate) fn write_all_at(file: &dyn File, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                buf = buf.get(written..).unwrap_or_default();
                offset = offset.saturating_add(written as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buf` from `offset` and says how much there was; less only at the end of the file.
pub(crate) fn read_full_at(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
