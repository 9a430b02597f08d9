//! [`Spool`]: results on the disk until the server has them. One file for each batch, written
//! beside, flushed, renamed, so that a file is there whole or not at all; a checksum finds what a
//! broken disk made of it. Blocking; called from threads that may wait.
//!
//! ```text
//! DIR/NAME/lock                    held by the worker called NAME
//! DIR/NAME/0000018c2f3a-000007.batch
//!   potager-spool 1 complete 1234 9f0c2d11\n   version, call, bytes and CRC-32C of what follows
//!   {"worker": "NAME", "items": [...]}         the body of the call
//! ```

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use crate::Fault;
use crate::api::Call;

/// First words of every file, with the version.
const HEAD: &str = "potager-spool 1";
/// How the files of whole batches end.
const BATCH: &str = "batch";
/// How files end that are being written; left behind by a kill, removed at the next start.
const PART: &str = "part";
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most folders of earlier workers that are looked at.
const FOLDERS_MAX: usize = 1000;

/// A batch on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) call: Call,
    pub(crate) body: Bytes,
}

/// Why a file cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The system says so; perhaps later.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{0}")]
    Torn(&'static str),
}

/// The part of a spool that belongs to one worker.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    /// Kept open: they hold the locks, of this worker's folder and of those it took over.
    locks: Mutex<Vec<File>>,
    /// Of all files that wait.
    bytes: AtomicU64,
    next: AtomicU64,
    /// Tells the files of this start from those of others.
    start: u64,
}

impl Spool {
    /// Opens the folder of the worker called `name`. Without a name it takes that of an earlier
    /// worker of this machine, or a new one. Returns the name, and the batches that wait: its own
    /// and those of other workers that are gone.
    ///
    /// # Errors
    /// The folder cannot be used, or a worker of this name runs.
    pub(crate) fn open(
        root: &Path,
        name: Option<&str>,
        machine: &str,
    ) -> Result<(Self, String, Vec<Stored>), Fault> {
        make(root)?;
        let (name, dir, lock) = match name {
            Some(name) => {
                let dir = root.join(folder_of(name));
                let lock = lock(&dir)?.ok_or_else(|| taken(name, &dir))?;
                (name.to_owned(), dir, lock)
            }
            None => nameless(root, machine)?,
        };
        let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let start = start.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or_default());
        let spool = Self {
            dir,
            locks: Mutex::new(vec![lock]),
            bytes: AtomicU64::new(0),
            next: AtomicU64::new(0),
            start,
        };
        let mut found = spool.adopt(&spool.dir)?;
        for dir in folders(root)?.into_iter().filter(|dir| *dir != spool.dir) {
            if let Ok(Some(lock)) = lock_of(&dir) {
                found.extend(spool.adopt(&dir)?);
                spool.locks.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            }
        }
        found.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
        Ok((spool, name, found))
    }

    /// Writes a batch. When it returns, it is on the disk.
    ///
    /// # Errors
    /// It could not be written; nothing is left of it.
    pub(crate) fn put(&self, call: Call, body: &[u8]) -> io::Result<Stored> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{:012x}-{number:06}.{BATCH}", self.start));
        let part = path.with_extension(PART);
        let written = write(&part, call, body).and_then(|bytes| {
            fs::rename(&part, &path)?;
            File::open(&self.dir)?.sync_all()?;
            Ok(bytes)
        });
        match written {
            Ok(bytes) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(Stored { path, bytes })
            }
            Err(error) => {
                for path in [&part, &path] {
                    let _gone = fs::remove_file(path);
                }
                Err(error)
            }
        }
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub(crate) fn read(stored: &Stored) -> Result<Content, Unreadable> {
        if fs::metadata(&stored.path)?.len() > FILE_BYTES_MAX {
            return Err(Unreadable::Torn("it is too large"));
        }
        parse(&Bytes::from(fs::read(&stored.path)?))
    }

    /// The server has it: the file goes.
    pub(crate) fn remove(&self, stored: &Stored) {
        self.forget(stored);
        if let Err(error) = fs::remove_file(&stored.path) {
            tracing::warn!(path = %stored.path.display(), %error, "a delivered batch stays");
        }
    }

    /// It cannot be delivered: it stays beside, under another ending, for people to look at.
    pub(crate) fn set_aside(&self, stored: &Stored, ending: &'static str) -> PathBuf {
        self.forget(stored);
        let aside = stored.path.with_extension(ending);
        if let Err(error) = fs::rename(&stored.path, &aside) {
            tracing::warn!(path = %stored.path.display(), %error, "a batch cannot be renamed");
        }
        aside
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn forget(&self, stored: &Stored) {
        let less = |bytes: u64| Some(bytes.saturating_sub(stored.bytes));
        let _always_some = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// The batches of a folder; what a kill left half written goes.
    fn adopt(&self, dir: &Path) -> Result<Vec<Stored>, Fault> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(fault(dir))? {
            let entry = entry.map_err(fault(dir))?;
            let path = entry.path();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some(PART) => fs::remove_file(&path).map_err(fault(&path))?,
                Some(BATCH) => {
                    let bytes = entry.metadata().map_err(fault(&path))?.len();
                    self.bytes.fetch_add(bytes, Ordering::Relaxed);
                    found.push(Stored { path, bytes });
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Writes a file and flushes it; returns its size.
fn write(part: &Path, call: Call, body: &[u8]) -> io::Result<u64> {
    let sum = crc32c::crc32c(body);
    let head = format!("{HEAD} {} {} {sum:08x}\n", call.word(), body.len());
    let mut file = File::create_new(part)?;
    file.write_all(head.as_bytes())?;
    file.write_all(body)?;
    file.sync_all()?;
    Ok(u64::try_from(head.len() + body.len()).unwrap_or(u64::MAX))
}

/// Checks a file and takes it apart.
fn parse(bytes: &Bytes) -> Result<Content, Unreadable> {
    let torn = Unreadable::Torn;
    let end = bytes.iter().take(128).position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| torn("its first line is not whole"))?;
    let head = bytes.slice(..end);
    let body = bytes.slice(end + 1..);
    let head = std::str::from_utf8(&head).map_err(|_| torn("its first line is not text"))?;
    let rest = head.strip_prefix(HEAD).ok_or_else(|| torn("it is of another version"))?;
    let mut words = rest.split_whitespace();
    let call = words.next().and_then(Call::of_word);
    let length = words.next().and_then(|word| word.parse::<usize>().ok());
    let sum = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
    match (call, length, sum) {
        (Some(_), Some(length), _) if length != body.len() => Err(torn("its end is missing")),
        (Some(_), Some(_), Some(sum)) if sum != crc32c::crc32c(&body) => {
            Err(torn("its checksum is another"))
        }
        (Some(call), Some(_), Some(_)) => Ok(Content { call, body }),
        _ => Err(torn("its first line says nothing")),
    }
}

fn make(dir: &Path) -> Result<(), Fault> {
    fs::create_dir_all(dir).map_err(fault(dir))
}

fn fault(path: &Path) -> impl Fn(io::Error) -> Fault {
    move |error| Fault::Spool { path: path.to_owned(), error }
}

fn taken(name: &str, dir: &Path) -> Fault {
    Fault::NameTaken { name: name.to_owned(), dir: dir.to_owned() }
}

/// Makes a folder and locks it; `None` when another process has it.
fn lock(dir: &Path) -> Result<Option<File>, Fault> {
    make(dir)?;
    lock_of(dir).map_err(fault(dir))
}

fn lock_of(dir: &Path) -> io::Result<Option<File>> {
    let options = File::options().create(true).append(true).open(dir.join("lock"))?;
    match flock(&options, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(options)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The name, folder and lock of a worker that was not given a name: an earlier one's of this
/// machine, so that a restart is the same worker, else a new one with a random end.
fn nameless(root: &Path, machine: &str) -> Result<(String, PathBuf, File), Fault> {
    let machine: String = machine.chars().take(64).filter(|c| is_plain(*c)).collect();
    let prefix = format!("{machine}-");
    for dir in folders(root)? {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.starts_with(&prefix)
            && let Some(lock) = lock(&dir)?
        {
            return Ok((name, dir, lock));
        }
    }
    let name = format!("{prefix}{:06x}", crate::backoff::chance() & 0x00ff_ffff);
    let dir = root.join(&name);
    let lock = lock(&dir)?.ok_or_else(|| taken(&name, &dir))?;
    Ok((name, dir, lock))
}

fn folders(root: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = fs::read_dir(root).map_err(fault(root))?;
    let paths = entries.take(FOLDERS_MAX).filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = paths.filter(|path| path.join("lock").is_file()).collect();
    found.sort();
    Ok(found)
}

/// A name as one folder: what is not a plain character becomes its code point.
fn folder_of(name: &str) -> String {
    let mut folder = String::new();
    for c in name.chars() {
        if is_plain(c) && !(folder.is_empty() && c == '.') {
            folder.push(c);
        } else {
            let _written = write!(folder, "%{:x}%", u32::from(c));
        }
    }
    folder
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"worker":"w","items":[{"id":"1","attempt":1}]}"#;

    fn open(root: &Path, name: Option<&str>) -> (Spool, String, Vec<Stored>) {
        Spool::open(root, name, "box").unwrap()
    }

    #[test]
    fn a_batch_survives_the_worker() {
        let root = tempfile::tempdir().unwrap();
        let (spool, _, found) = open(root.path(), Some("w"));
        assert_eq!(found, []);
        let first = spool.put(Call::Complete, BODY).unwrap();
        let second = spool.put(Call::Fail, b"{}").unwrap();
        assert_eq!(spool.bytes(), first.bytes + second.bytes);
        drop(spool);
        let (spool, _, found) = open(root.path(), Some("w"));
        assert_eq!(found, [first.clone(), second.clone()], "in the order they were written");
        let content = Spool::read(&first).unwrap();
        assert_eq!((content.call, content.body.as_ref()), (Call::Complete, BODY));
        spool.remove(&first);
        assert_eq!(spool.bytes(), second.bytes);
        drop(spool);
        assert_eq!(open(root.path(), Some("w")).2, [second]);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let root = tempfile::tempdir().unwrap();
        let (spool, _, _) = open(root.path(), Some("w"));
        let stored = spool.put(Call::Complete, BODY).unwrap();
        let whole = fs::read(&stored.path).unwrap();
        for length in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..length]);
            assert!(matches!(parse(&cut), Err(Unreadable::Torn(_))), "cut at {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(content) = parse(&Bytes::from(flipped)) {
                assert_eq!(content.body, BODY, "bit {bit}");
            }
        }
        let aside = spool.set_aside(&stored, "torn");
        assert!(aside.exists() && !stored.path.exists());
        assert_eq!(spool.bytes(), 0);
    }

    #[test]
    fn what_a_kill_left_half_written_goes() {
        let root = tempfile::tempdir().unwrap();
        let (spool, _, _) = open(root.path(), Some("w"));
        let part = spool.dir.join("x.part");
        fs::write(&part, b"potager-spool 1 comp").unwrap();
        drop(spool);
        assert_eq!(open(root.path(), Some("w")).2, []);
        assert!(!part.exists());
    }

    #[test]
    fn one_worker_per_name() {
        let root = tempfile::tempdir().unwrap();
        let held = open(root.path(), Some("w"));
        let second = Spool::open(root.path(), Some("w"), "box");
        assert!(matches!(second, Err(Fault::NameTaken { .. })));
        drop(held);
        assert!(Spool::open(root.path(), Some("w"), "box").is_ok());
    }

    #[test]
    fn without_a_name_a_restart_is_the_same_worker_and_a_second_one_another() {
        let root = tempfile::tempdir().unwrap();
        let (first, name, _) = open(root.path(), None);
        assert!(name.starts_with("box-"));
        let (second, other, _) = open(root.path(), None);
        assert_ne!(name, other);
        drop((first, second));
        let again = open(root.path(), None).1;
        assert!(again == name || again == other);
    }

    #[test]
    fn batches_of_a_worker_that_is_gone_are_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let (gone, _, _) = open(root.path(), Some("gone"));
        let stored = gone.put(Call::Complete, BODY).unwrap();
        let (alive, _, _) = open(root.path(), Some("alive"));
        alive.put(Call::Complete, BODY).unwrap();
        drop(gone);
        let (spool, _, found) = open(root.path(), Some("third"));
        assert_eq!(found, std::slice::from_ref(&stored), "not those of the living");
        spool.remove(&stored);
        assert!(!stored.path.exists());
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert_eq!(folder_of("gpu-7"), "gpu-7");
        assert_eq!(folder_of("../x"), "%2e%.%2f%x");
        assert_eq!(folder_of("ü"), "%fc%");
    }
}
