//! [`Fault`]: everything that can go wrong with the log, with what to do about it.
//!
//! Lives here: the error type and the one question callers ask about it. Not here: the policy
//! (which fault poisons the journal is decided in `journal.rs`). Every module returns it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Lsn;

/// A storage fault. Cloneable, because a poisoned journal repeats its first fault for ever.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Another process holds the directory; `pid` is 0 when it could not be read.
    #[error(
        "the data directory {dir} is in use by process {pid}; stop that process or choose \
         another directory"
    )]
    Locked {
        /// The directory that was to be opened.
        dir: PathBuf,
        /// The process that holds it, as written in the lock file.
        pid: u32,
    },
    /// A directory that is to be filled holds something already.
    #[error("the directory {dir} is not empty; choose an empty or a new one")]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// A file was written by a newer release.
    #[error(
        "{file} has format version {found} and this release reads versions up to {known}; start \
         the release that wrote it"
    )]
    Version {
        /// The file in question.
        file: PathBuf,
        /// The version it carries.
        found: u32,
        /// The newest version this build reads.
        known: u32,
    },
    /// Bytes that were once durable no longer verify. Nothing from there on is served.
    #[error(
        "{file} is damaged at byte {offset} ({detail}); the log is good up to position \
         {last_good}; nothing was changed; `potager repair --dry-run` says what is lost, or \
         restore the directory from a backup"
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it the first bad byte range starts.
        offset: u64,
        /// Every record before this position is known to be good.
        last_good: Lsn,
        /// What did not verify.
        detail: &'static str,
    },
    /// An operation on a file failed.
    #[error("failed to {op} {file}: {source}; check the disk, then start again")]
    Io {
        /// What was being done.
        op: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A record (or the group it belongs to) is larger than a block may be. The group is gone.
    #[error("a record group of {bytes} bytes exceeds the limit of {max} bytes; send less at once")]
    TooLarge {
        /// The size that was asked for.
        bytes: u64,
        /// The largest size that fits.
        max: u64,
    },
    /// The ring is full although publishers were refused: even the reserve is used up.
    #[error(
        "the log in {dir} has no space left, not even its reserve; free disk space and restart"
    )]
    Exhausted {
        /// The data directory.
        dir: PathBuf,
    },
    /// More fetches are waiting than [`crate::FETCHES_MAX`].
    #[error("more than {max} reads are waiting; collect answers before asking for more")]
    Busy {
        /// The limit.
        max: usize,
    },
    /// An option has a value that cannot work.
    #[error("the journal option {name} cannot be {value}; {detail}")]
    Setting {
        /// Which option.
        name: &'static str,
        /// The value it was given.
        value: u64,
        /// What is allowed.
        detail: &'static str,
    },
    /// A worker thread ended or could not be started.
    #[error("the journal's {thread} thread is gone; start again")]
    Stopped {
        /// Which thread.
        thread: &'static str,
    },
}

impl Fault {
    /// Wraps a failed file operation.
    pub(crate) fn io(op: &'static str, file: &Path, source: io::Error) -> Self {
        Self::Io { op, file: file.to_path_buf(), source: Arc::new(source) }
    }

    /// Whether the disk (or a quota) has no space: waiting and freeing space can cure it.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ))
    }
}
