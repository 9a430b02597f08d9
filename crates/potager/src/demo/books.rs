//! The books: what each worker process wrote down about what it executed, one line per execution.
//!
//! A book is a file of its own per process, appended before the execution is committed. It
//! outlives SIGKILL, and nothing ever corrects it, so it cannot hide a loss or a repetition.
//! Not here: adding up (`ledger`).
//!
//! Line: task number, serial number of the execution in this book, `1` when redelivered, and when
//! (milliseconds since 1970). Celery's workers write the same (`celery_app.py`).

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;

/// The file name's end of a book.
pub(super) const ENDING: &str = ".executed";

/// One execution as its worker wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Execution {
    /// The book's name: which worker.
    pub(super) worker: String,
    pub(super) task: u64,
    /// Unique within the book.
    pub(super) serial: u64,
    pub(super) is_redelivered: bool,
    /// Milliseconds since 1970.
    pub(super) at_ms: u64,
}

/// A book being written.
pub(super) struct Book {
    file: File,
    lines: String,
    serial: u64,
}

impl Book {
    /// Opens the book `name` below `folder`.
    pub(super) fn open(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}{ENDING}"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { file, lines: String::new(), serial: 0 })
    }

    /// Notes an execution; returns its serial number.
    pub(super) fn note(&mut self, task: u64, is_redelivered: bool) -> u64 {
        self.serial += 1;
        let (flag, at_ms) = (u8::from(is_redelivered), unix_ms());
        // Writing to a string cannot fail.
        writeln!(self.lines, "{task} {} {flag} {at_ms}", self.serial).ok();
        self.serial
    }

    /// Hands the notes to the system, which keeps them whatever happens to this process.
    pub(super) fn write(&mut self) -> anyhow::Result<()> {
        self.file.write_all(self.lines.as_bytes()).context("writing the book")?;
        self.lines.clear();
        Ok(())
    }
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Reads all books below `folder`. A last line that a kill cut short counts for nothing: its
/// execution was not committed.
pub(super) fn read_all(folder: &Path) -> anyhow::Result<Vec<Execution>> {
    let mut executions = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(worker) = name.strip_suffix(ENDING) else { continue };
        let text = fs::read_to_string(entry.path())?;
        executions.extend(text.split_inclusive('\n').filter_map(|line| parse(worker, line)));
    }
    Ok(executions)
}

pub(super) fn parse(worker: &str, line: &str) -> Option<Execution> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    Some(Execution {
        worker: worker.to_owned(),
        task: words.next()?.parse().ok()?,
        serial: words.next()?.parse().ok()?,
        is_redelivered: words.next()? == "1",
        at_ms: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_read_as_it_was_written_up_to_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path(), "w1").unwrap();
        assert_eq!((book.note(7, false), book.note(9, true)), (1, 2));
        book.write().unwrap();
        book.file.write_all(b"11 3").unwrap();
        let mut read = read_all(folder.path()).unwrap();
        assert!(read.iter().all(|found| found.at_ms > 1_600_000_000_000), "{read:?}");
        for found in &mut read {
            found.at_ms = 0;
        }
        let worker = "w1".to_owned();
        let first = Execution {
            worker: worker.clone(),
            task: 7,
            serial: 1,
            is_redelivered: false,
            at_ms: 0,
        };
        let second = Execution { worker, task: 9, serial: 2, is_redelivered: true, at_ms: 0 };
        assert_eq!(read, [first, second]);
    }
}
