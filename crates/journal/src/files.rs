//! [`Directory`] and [`Handle`]: file access that names its file in every error.
//!
//! Lives here: paths, file names, and the mapping from `io::Error` to `Fault`. Not here: what is
//! in the files. Used by every module that touches the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Lsn;

use crate::disk::{self, Disk, File};
use crate::fault::Fault;
use crate::layout::{BadHead, VERSION};

/// Ending of files that are not finished; removed at the next open.
pub(crate) const UNFINISHED: &str = ".tmp";

/// The name of a segment in use.
pub(crate) fn segment_name(sequence: u64) -> String {
    format!("log-{sequence:016x}.seg")
}

/// The name of a survivor file.
pub(crate) fn survivor_name(generation: u64) -> String {
    format!("survivor-{generation:016x}.sv")
}

/// The name of a checkpoint.
pub(crate) fn checkpoint_name(lsn: Lsn) -> String {
    format!("checkpoint-{:016x}.ckpt", lsn.0)
}

/// The number in a file name of the given pattern.
pub(crate) fn number(name: &str, before: &str, after: &str) -> Option<u64> {
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// The data directory on its disk.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
}

impl Directory {
    pub(crate) fn list(&self) -> Result<Vec<String>, Fault> {
        self.disk.list(&self.dir).map_err(|error| Fault::io("list", &self.dir, error))
    }

    pub(crate) fn open(&self, name: &str) -> Result<Handle, Fault> {
        let path = self.dir.join(name);
        let file = self.disk.open(&path).map_err(|error| Fault::io("open", &path, error))?;
        Ok(Handle { file, path })
    }

    pub(crate) fn create(&self, name: &str) -> Result<Handle, Fault> {
        let path = self.dir.join(name);
        let file = self.disk.create(&path).map_err(|error| Fault::io("create", &path, error))?;
        Ok(Handle { file, path })
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), Fault> {
        let path = self.dir.join(name);
        self.disk.remove(&path).map_err(|error| Fault::io("remove", &path, error))
    }

    /// Removes what an earlier attempt may have removed already.
    pub(crate) fn remove_if_there(&self, name: &str) -> Result<(), Fault> {
        match self.remove(name) {
            Err(Fault::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    pub(crate) fn sync(&self) -> Result<(), Fault> {
        self.disk.sync_dir(&self.dir).map_err(|error| Fault::io("sync", &self.dir, error))
    }

    /// Renames the file and returns its handle under the new name; durable when it returns.
    pub(crate) fn rename(&self, handle: &Handle, name: &str) -> Result<Handle, Fault> {
        let path = self.dir.join(name);
        let renamed = self.disk.rename(&handle.path, &path);
        renamed.map_err(|error| Fault::io("rename", &handle.path, error))?;
        self.sync()?;
        Ok(Handle { file: Arc::clone(&handle.file), path })
    }
}

/// An open file and its path.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
}

impl Handle {
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Fault> {
        disk::write_all_at(&*self.file, bytes, offset).map_err(|error| self.fault("write", error))
    }

    /// Fills as much of `buf` as the file has and says how much.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<usize, Fault> {
        disk::read_full_at(&*self.file, buf, offset).map_err(|error| self.fault("read", error))
    }

    pub(crate) fn sync(&self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|error| self.fault("sync", error))
    }

    pub(crate) fn allocate(&self, bytes: u64) -> Result<(), Fault> {
        self.file.allocate(bytes).map_err(|error| self.fault("allocate", error))
    }

    pub(crate) fn len(&self) -> Result<u64, Fault> {
        self.file.len().map_err(|error| self.fault("measure", error))
    }

    pub(crate) fn fault(&self, op: &'static str, error: io::Error) -> Fault {
        Fault::io(op, &self.path, error)
    }

    pub(crate) fn damaged(&self, offset: u64, last_good: Lsn, detail: &'static str) -> Fault {
        Fault::Damaged { file: self.path.clone(), offset, last_good, detail }
    }

    /// The fault for a file head that was not accepted.
    pub(crate) fn bad_head(&self, bad: BadHead, last_good: Lsn) -> Fault {
        match bad {
            BadHead::Damaged => self.damaged(0, last_good, "the file head does not verify"),
            BadHead::Version(found) => {
                Fault::Version { file: self.path.clone(), found, known: VERSION }
            }
        }
    }

    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// The parent that must be synced when `dir` itself was just created.
pub(crate) fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
