//! [`MemoryDisk`]: files that live in memory, for the durability level `memory`.
//!
//! Lives here: lazily allocated pages behind the [`Disk`] trait; a forgotten file costs nothing.
//! Not here: faults and crashes (that is the simulated disk). `Journal::open` makes one itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File, LockGuard};

/// Bytes per page; large enough that a segment has few, small enough that little is wasted.
const PAGE_BYTES: usize = 64 * 1024;

/// A disk without a disk.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for MemoryDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = locked(&self.files);
        let inside = files.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        match locked(&self.files).get(path) {
            Some(file) => Ok(Arc::<MemoryFile>::clone(file)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemoryFile::default());
        locked(&self.files).insert(path.to_path_buf(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = locked(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).remove(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn LockGuard>> {
        Ok(Box::new(NoLock))
    }
}

/// Nobody else can reach this memory.
#[derive(Debug)]
struct NoLock;

impl LockGuard for NoLock {}

#[derive(Debug, Default)]
struct MemoryFile(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    len: u64,
    /// `None`: never written, reads as zero.
    pages: Vec<Option<Box<[u8]>>>,
}

/// Which page holds `offset`, and where in it.
fn split(offset: u64) -> (usize, usize) {
    let page = offset / PAGE_BYTES as u64;
    let within = offset % PAGE_BYTES as u64;
    (usize::try_from(page).unwrap_or(usize::MAX), usize::try_from(within).unwrap_or(0))
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let pages = locked(&self.0);
        let (index, within) = split(offset);
        let left = usize::try_from(pages.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buf.len().min(left).min(PAGE_BYTES - within);
        let out = buf.get_mut(..count).unwrap_or_default();
        match pages.pages.get(index).and_then(Option::as_ref) {
            Some(page) => out.copy_from_slice(page.get(within..within + count).unwrap_or_default()),
            None => out.fill(0),
        }
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut pages = locked(&self.0);
        let (index, within) = split(offset);
        if index >= pages.pages.len() {
            pages.pages.resize_with(index + 1, || None);
        }
        let count = buf.len().min(PAGE_BYTES - within);
        if let Some(slot) = pages.pages.get_mut(index) {
            let page = slot.get_or_insert_with(|| vec![0; PAGE_BYTES].into_boxed_slice());
            if let (Some(to), Some(from)) = (page.get_mut(within..within + count), buf.get(..count))
            {
                to.copy_from_slice(from);
            }
        }
        pages.len = pages.len.max(offset.saturating_add(count as u64));
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut pages = locked(&self.0);
        pages.len = pages.len.max(bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.0).len)
    }

    fn forget(&self) {
        locked(&self.0).pages = Vec::new();
    }
}
