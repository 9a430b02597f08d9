//! [`Survey`]: everything that can still be read in a data directory, damaged or not, and what is
//! wrong with it. Changes nothing.
//!
//! Lives here: the findings, and reading what is good through them. Not here: deciding whether a
//! server may start (`recovery.rs`, which is stricter and stops at the first damage), and putting
//! a directory right (`repair.rs`). Crate `replica` examines and repairs with it.
//!
//! Where recovery trusts what the checkpoint makes history until it is read, a survey reads and
//! verifies every byte that belongs to a checksum.

mod entries;
mod read_only;
mod segments;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Lsn;

pub use read_only::ReadOnlyDisk;

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::fault::Fault;
use crate::files::{Directory, Handle, UNFINISHED, number};
use crate::layout::{BLOCK_HEAD, Frame, size};
use crate::reader::{Reader, Source};
use crate::record::{RecordRef, Replayed};
use crate::repair::UNFINISHED_REPAIR;
use crate::survey::entries::SurvivorFile;
use crate::survey::segments::{SegmentFile, Walk};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Part of the ring.
    Segment,
    /// Records that outlived their segment.
    Survivors,
    /// The owner's state at a position.
    Checkpoint,
    /// Left by a crash; the next start removes it.
    Unfinished,
    /// The lock.
    Lock,
    /// Nothing of the journal's.
    Foreign,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segment => "segment",
            Self::Survivors => "survivors",
            Self::Checkpoint => "checkpoint",
            Self::Unfinished => "unfinished",
            Self::Lock => "lock",
            Self::Foreign => "foreign",
        })
    }
}

/// A file of the directory.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its name in the directory.
    pub name: String,
    /// What it is, by its name.
    pub kind: FileKind,
    /// Its length; 0 when that cannot be told.
    pub bytes: u64,
    /// Positions of what is in it; `None` when nothing is.
    pub range: Option<Range<Lsn>>,
    /// Good blocks of a segment.
    pub blocks: u64,
    /// Good records.
    pub records: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// In which file, or which is missing.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// Every record before this position that belongs to the log is good.
    pub last_good: Lsn,
    /// What did not verify.
    pub detail: String,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    /// Its position.
    pub lsn: Lsn,
    file: usize,
    offset: u64,
    is_survivor: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Survey {
    /// The directory.
    pub dir: PathBuf,
    /// All files, by name.
    pub files: Vec<FileReport>,
    /// What is wrong, the first in the log first; empty: nothing.
    pub problems: Vec<Problem>,
    /// The log can be replayed up to here.
    pub end: Lsn,
    /// Positions up to here were given out, as far as can be seen.
    pub reach: Lsn,
    /// Everything before this was durable once, says the log itself: a checkpoint or a block that
    /// was written later. A log that ends before it is damaged; one that ends behind may be torn.
    pub proven: Lsn,
    /// Whole records behind `end` that cannot be used, because what is before them is gone.
    pub stranded: u64,
    /// The log ends in an unfinished write, as a crash leaves it; no damage.
    pub is_torn: bool,
    /// A repair was interrupted while it exchanged files; beginning another one finishes it, and
    /// nothing else that is said here means anything.
    pub is_exchanging: bool,
    /// There is enough to rebuild the owner's state at `end`.
    pub has_state: bool,
    checkpoint: Option<Checkpoint>,
    segments: Vec<SegmentFile>,
    survivors: Vec<SurvivorFile>,
    walk: Walk,
}

impl Survey {
    /// Reads everything in the directory.
    ///
    /// # Errors
    /// [`Fault::Version`]: a newer release wrote it; [`Fault::Io`]: the disk cannot be read.
    pub fn take(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Fault> {
        let dir = Directory { disk, dir: dir.to_path_buf() };
        let mut names = dir.list()?;
        names.sort();
        let mut problems = Vec::new();
        let is_exchanging = names.iter().any(|name| name == UNFINISHED_REPAIR);
        if is_exchanging {
            let detail = "a repair was interrupted; run it again";
            problems.push(problem(&dir.open(UNFINISHED_REPAIR)?, 0, Lsn::ZERO, detail));
        }
        let checkpoint = newest_checkpoint(&dir, &names, &mut problems)?;
        let survivors = entries::open_all(&dir, &names, &mut problems)?;
        let segments = segments::open_all(&dir, &names, &mut problems)?;
        let floor = checkpoint.as_ref().map(Checkpoint::lsn);
        let had_checkpoint = names.iter().any(|name| kind_of(name) == FileKind::Checkpoint);
        let walk = Walk::over(&segments, floor, &mut problems)?;
        let starts_at_zero = walk.start().is_none_or(|start| start == Lsn::ZERO);
        let is_empty = segments.is_empty() && survivors.is_empty() && !had_checkpoint;
        let mut this = Self {
            dir: dir.dir.clone(),
            files: Vec::new(),
            end: walk.end,
            reach: walk.reach,
            proven: walk.proven(),
            stranded: walk.stranded,
            is_torn: walk.is_torn,
            is_exchanging,
            has_state: floor.is_some()
                || is_empty
                || (starts_at_zero && !segments.is_empty() && survivors.is_empty()),
            checkpoint,
            segments,
            survivors,
            walk,
            problems,
        };
        this.files = names.iter().map(|name| this.report(&dir, name)).collect();
        this.problems.sort_by_key(|problem| problem.last_good);
        Ok(this)
    }

    /// Whether nothing is wrong. A torn end is not.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn report(&self, dir: &Directory, name: &str) -> FileReport {
        let kind = kind_of(name);
        let path = dir.dir.join(name);
        let mut report = FileReport {
            name: name.to_owned(),
            kind,
            bytes: dir.open(name).and_then(|handle| handle.len()).unwrap_or(0),
            range: None,
            blocks: 0,
            records: 0,
        };
        match kind {
            FileKind::Segment => {
                let at = self.segments.iter().position(|one| one.segment.handle.path == path);
                (report.blocks, report.records, report.range) = self.walk.counts(at);
            }
            FileKind::Survivors => {
                if let Some(file) = self.survivors.iter().find(|file| file.handle.path == path) {
                    report.records = file.records;
                    report.range.clone_from(&file.range);
                }
            }
            FileKind::Checkpoint => {
                let lsn = number(name, "checkpoint-", ".ckpt").map(Lsn);
                report.range = lsn.map(|lsn| lsn..lsn);
            }
            FileKind::Unfinished | FileKind::Lock | FileKind::Foreign => {}
        }
        report
    }

    /// Takes the newest checkpoint, if it is good.
    pub fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        self.checkpoint.take()
    }

    /// Shows every record from the checkpoint to `end`.
    ///
    /// # Errors
    /// A failed read, or the first error of `visit`.
    pub fn replay<E: From<Fault>>(
        &self,
        mut visit: impl FnMut(Replayed<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::default();
        for block in &self.walk.replayed {
            let Some(file) = self.segments.get(block.file) else { continue };
            let bytes = size(u64::from(block.head.record_bytes));
            let source = Source::whole(&file.segment);
            let mut rest = reader.view(source, block.offset + BLOCK_HEAD as u64, bytes)?;
            let mut lsn = block.head.first;
            while let Some((frame, after)) = Frame::parse(lsn, rest) {
                if lsn >= self.walk.floor {
                    let (kind, more) = (frame.head.kind, frame.has_more());
                    visit(Replayed { lsn, kind, more, payload: frame.payload })?;
                }
                lsn = lsn.plus(frame.head.frame());
                rest = after;
            }
        }
        Ok(())
    }

    /// Finds records, by rising position; those that cannot be read are left out.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn locate(&self, wanted: &[Lsn]) -> Result<Vec<Located>, Fault> {
        let mut found: BTreeMap<Lsn, Located> = BTreeMap::new();
        for (index, file) in self.survivors.iter().enumerate() {
            file.entries(&mut |lsn, offset| {
                if wanted.binary_search(&lsn).is_ok() {
                    found.insert(lsn, Located { lsn, file: index, offset, is_survivor: true });
                }
            })?;
        }
        self.walk.records(&self.segments, &mut |lsn, file, offset| {
            if wanted.binary_search(&lsn).is_ok() {
                found.insert(lsn, Located { lsn, file, offset, is_survivor: false });
            }
        })?;
        Ok(found.into_values().collect())
    }

    /// Shows the located records, in order.
    ///
    /// # Errors
    /// A failed read, [`Fault::Damaged`] when the files changed meanwhile, or the first error of
    /// `visit`.
    pub fn read<E: From<Fault>>(
        &self,
        located: &[Located],
        mut visit: impl FnMut(RecordRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::default();
        for at in located {
            let source = if at.is_survivor {
                self.survivors.get(at.file).map(SurvivorFile::source)
            } else {
                self.segments.get(at.file).map(|file| Source::whole(&file.segment))
            };
            let Some(source) = source else { continue };
            let frame = reader.frame(source, at.lsn, at.offset)?;
            let Some(frame) = frame.filter(Frame::is_good) else {
                let detail = "a record changed while it was read";
                return Err(source.handle.damaged(at.offset, at.lsn, detail).into());
            };
            visit(RecordRef { lsn: at.lsn, kind: frame.head.kind, payload: frame.payload })?;
        }
        Ok(())
    }
}

/// What a file is, by its name.
fn kind_of(name: &str) -> FileKind {
    if name == "lock" {
        FileKind::Lock
    } else if name.ends_with(UNFINISHED) {
        FileKind::Unfinished
    } else if number(name, "log-", ".seg").is_some() {
        FileKind::Segment
    } else if number(name, "survivor-", ".sv").is_some() {
        FileKind::Survivors
    } else if number(name, "checkpoint-", ".ckpt").is_some() {
        FileKind::Checkpoint
    } else {
        FileKind::Foreign
    }
}

/// Whether a file is one that a repair exchanges.
pub(crate) fn is_ours(name: &str) -> bool {
    match kind_of(name) {
        FileKind::Segment | FileKind::Survivors | FileKind::Checkpoint | FileKind::Unfinished => {
            true
        }
        FileKind::Lock | FileKind::Foreign => false,
    }
}

/// The newest checkpoint that verifies. Older ones are leftovers, but better than none.
fn newest_checkpoint(
    dir: &Directory,
    names: &[String],
    problems: &mut Vec<Problem>,
) -> Result<Option<Checkpoint>, Fault> {
    let mut found: Vec<u64> =
        names.iter().filter_map(|name| number(name, "checkpoint-", ".ckpt")).collect();
    found.sort_unstable();
    for lsn in found.into_iter().rev() {
        match Checkpoint::open(dir, Lsn(lsn)) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(fault) => note(fault, problems)?,
        }
    }
    Ok(None)
}

/// Damage becomes a problem; everything else stays a fault.
fn note(fault: Fault, problems: &mut Vec<Problem>) -> Result<(), Fault> {
    let Fault::Damaged { file, offset, last_good, detail } = fault else { return Err(fault) };
    problems.push(Problem { file, offset, last_good, detail: detail.to_owned() });
    Ok(())
}

/// A problem in an open file.
fn problem(handle: &Handle, offset: u64, last_good: Lsn, detail: &str) -> Problem {
    Problem { file: handle.path.clone(), offset, last_good, detail: detail.to_owned() }
}
