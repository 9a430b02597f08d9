//! [`Repair`]: puts rebuilt files in the place of damaged ones, so that an interruption anywhere
//! leaves a directory that either is as it was, or refuses to open until this is run again.
//!
//! Lives here: the exchange of the files. Not here: what is rebuilt (`survey.rs` reads,
//! `backup::Rebuild` writes; crate `replica` connects them).
//!
//! | step | on disk |
//! |---|---|
//! | 1 | the rebuilt files are complete and durable in `repairing/` |
//! | 2 | `repair-unfinished` says where the old files go and which are new |
//! | 3 | old files are moved to `damaged-<n>/`, then new ones into the directory |
//! | 4 | `repair-unfinished` is removed |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Lsn;

use crate::disk::{Disk, LockGuard};
use crate::fault::Fault;
use crate::files::{Directory, Handle};
use crate::layout::size;
use crate::open::occupy;
use crate::survey::is_ours;

/// Stands in the directory while files are exchanged; recovery refuses to open it then.
pub(crate) const UNFINISHED_REPAIR: &str = "repair-unfinished";
/// Where the new files are made.
const STAGING: &str = "repairing";
/// Folders for old files in one directory.
const DAMAGED_MAX: u32 = 10_000;

/// See the module's head. Holds the directory's lock.
#[derive(Debug)]
pub struct Repair {
    dir: Directory,
    lock: Box<dyn LockGuard>,
}

impl Repair {
    /// Takes the directory, and finishes an exchange that was interrupted.
    ///
    /// # Errors
    /// [`Fault::Locked`], [`Fault::Io`].
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Fault> {
        let (dir, lock) = occupy(disk, dir)?;
        let this = Self { dir, lock };
        if this.dir.list()?.iter().any(|name| name == UNFINISHED_REPAIR) {
            this.finish_exchange()?;
        }
        this.clear_staging()?;
        Ok(this)
    }

    /// Where the rebuilt files go: an empty directory.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.dir.dir.join(STAGING)
    }

    fn staged(&self) -> Directory {
        Directory { disk: Arc::clone(&self.dir.disk), dir: self.staging() }
    }

    fn clear_staging(&self) -> Result<(), Fault> {
        let staged = self.staged();
        let made = staged.disk.create_dir(&staged.dir);
        made.map_err(|error| Fault::io("create", &staged.dir, error))?;
        staged.list()?.iter().try_for_each(|name| staged.remove(name))
    }

    /// Exchanges the files; gives the folder in which the old ones are.
    ///
    /// # Errors
    /// [`Fault::Io`]: begin again, the exchange goes on then.
    pub fn exchange(self) -> Result<PathBuf, Fault> {
        let name = self.new_folder()?;
        let mut new = self.staged().list()?;
        new.retain(|name| is_ours(name));
        let text = std::iter::once(&name).chain(&new).map(|line| format!("{line}\n"));
        let text: String = text.collect();
        let marker = self.dir.create("repair.tmp")?;
        marker.write(text.as_bytes(), 0)?;
        marker.sync()?;
        self.dir.rename(&marker, UNFINISHED_REPAIR)?;
        self.finish_exchange()?;
        self.clear_staging()?;
        drop(self.lock);
        Ok(self.dir.dir.join(name))
    }

    fn new_folder(&self) -> Result<String, Fault> {
        for number in 1..=DAMAGED_MAX {
            let name = format!("damaged-{number}");
            let path = self.dir.dir.join(&name);
            let made = self.dir.disk.create_dir(&path);
            if made.map_err(|error| Fault::io("create", &path, error))? {
                return Ok(name);
            }
        }
        let error = std::io::ErrorKind::AlreadyExists.into();
        Err(Fault::io("create another folder for damaged files in", &self.dir.dir, error))
    }

    /// Steps 3 and 4, from wherever they were interrupted. A file that is new and still in
    /// `repairing/` has not been moved, so one of its name in the directory is an old one.
    fn finish_exchange(&self) -> Result<(), Fault> {
        let text = self.read_marker()?;
        let mut lines = text.lines();
        let aside = self.dir.dir.join(lines.next().unwrap_or("damaged-0"));
        let made = self.dir.disk.create_dir(&aside);
        made.map_err(|error| Fault::io("create", &aside, error))?;
        let new: Vec<&str> = lines.collect();
        let waiting = self.staged().list()?;
        for name in self.dir.list()? {
            let is_moved = new.contains(&name.as_str()) && !waiting.contains(&name);
            if is_ours(&name) && !is_moved {
                self.rename(&self.dir.dir.join(&name), &aside.join(&name))?;
            }
        }
        self.sync(&aside)?;
        for name in waiting.iter().filter(|name| new.contains(&name.as_str())) {
            self.rename(&self.staging().join(name), &self.dir.dir.join(name))?;
        }
        self.dir.sync()?;
        self.sync(&self.staging())?;
        self.dir.remove(UNFINISHED_REPAIR)?;
        self.dir.sync()
    }

    fn read_marker(&self) -> Result<String, Fault> {
        let marker: Handle = self.dir.open(UNFINISHED_REPAIR)?;
        let mut bytes = vec![0; size(marker.len()?)];
        marker.read(&mut bytes, 0)?;
        let text = String::from_utf8(bytes);
        text.map_err(|_| marker.damaged(0, Lsn::ZERO, "the note of a repair does not read"))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault> {
        self.dir.disk.rename(from, to).map_err(|error| Fault::io("move", from, error))
    }

    fn sync(&self, dir: &Path) -> Result<(), Fault> {
        self.dir.disk.sync_dir(dir).map_err(|error| Fault::io("sync", dir, error))
    }
}
