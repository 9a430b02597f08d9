//! Every bit of every file of a small but complete log is flipped, every file is cut short at
//! every byte: always named or without effect, never served.
//!
//! Lives here: the exhaustive walk and what it may find. Not here: damage with a story
//! (`damage.rs`), files that are missing or strange (`odd_files.rs`).
//!
//! What is covered: file heads, block heads, records, the index and entries of survivor files and
//! the whole checkpoint, byte by byte. Each byte is hit in one bit in an ordinary run and in all
//! eight with `DAMAGE=all` (`cargo x damage`). The filling behind blocks and heads belongs to no
//! checksum and to no reader: every 97th of its bytes is hit, and must make no difference.
//!
//! Promise: P11.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use journal::disk::{Disk, FaultyDisk};
use journal::{Fault, Options};
use model::Lsn;

use crate::owner::Owner;
use crate::rig::{commit, fetch, open_with, options};

const PAGE: usize = 4096;
/// Filling is hit this often.
const FILLING_STEP: usize = 97;

/// Small files, so that every bit can be tried.
pub(crate) fn dense_options() -> Options {
    Options { segments_max: 4, checkpoint_bytes: 1500, ..options() }
}

/// Several segments of small blocks, a checkpoint, survivors; the process is killed at the end.
pub(crate) fn dense_log() -> (FaultyDisk, Owner) {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open_with(&disk, dense_options()).expect("open");
    let mut owner = Owner::default();
    for number in 0..46 {
        let lsn = owner.publish(&mut journal, 20 + number % 7).expect("publish");
        if number % 3 == 0 {
            owner.exchange(&mut journal, lsn, 30).expect("exchange");
        }
        owner.turn(&mut journal).expect("turn");
        if number % 3 == 1 {
            owner.settle(&mut journal, lsn).expect("settle");
        }
    }
    // The last commits are above the checkpoint.
    for number in 0..3 {
        owner.publish(&mut journal, 40 + number).expect("publish");
        owner.promised = commit(&mut journal).expect("commit").durable;
    }
    let stats = journal.stats();
    assert!(stats.survivor_files > 0 && stats.checkpoint.0 > 0, "{stats:?}");
    assert!(stats.checkpoint < journal.durable() && stats.segments >= 3, "{stats:?}");
    (disk, owner)
}

/// All files with their bytes.
pub(crate) fn files(disk: &FaultyDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let dir = options().dir;
    let names = disk.list(&dir).expect("list");
    let paths = names.iter().map(|name| dir.join(name));
    paths.map(|path| (path.clone(), disk.bytes(&path).expect("bytes"))).collect()
}

pub(crate) fn kind(path: &std::path::Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    name.split('-').next().expect("a kind")
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let four = bytes[at..at + 4].try_into().expect("four bytes");
    usize::try_from(u32::from_le_bytes(four)).expect("small")
}

/// The bytes that mean something.
pub(crate) fn used(path: &std::path::Path, bytes: &[u8]) -> Vec<Range<usize>> {
    // The head of a file; behind it follow filling, or data from the next page on.
    let head = 0..96;
    let mut used = vec![head];
    match kind(path) {
        "log" => {
            for at in (PAGE..bytes.len()).step_by(PAGE) {
                if bytes[at..].starts_with(b"PBLK") {
                    used.push(at..at + 64 + u32_at(bytes, at + 32));
                }
            }
        }
        _ => used.push(PAGE..bytes.len()),
    }
    used
}

/// What a reader of the whole log gets: its end, and how many records there are.
pub(crate) fn served(disk: &FaultyDisk, owner: &Owner) -> Result<(Lsn, usize), Fault> {
    let (mut journal, _) = open_with(disk, dense_options())?;
    let end = journal.next_lsn();
    let wanted: Vec<Lsn> = owner.needed.0.range(..end).map(|(lsn, _)| *lsn).collect();
    let mut there = 0;
    for (lsn, found) in fetch(&mut journal, &wanted)? {
        if let Some((_, bytes)) = found {
            owner.assert_same(lsn, &bytes);
            there += 1;
        }
    }
    Ok((end, there))
}

/// What became of one damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Named, with the file and an offset in it.
    Named,
    /// Everything is served as it was.
    NoEffect,
    /// The last commit is gone, as if it had been torn.
    Torn,
}

struct Walk {
    disk: FaultyDisk,
    owner: Owner,
    whole: (Lsn, usize),
    /// First byte of the last block, and its file: it alone may look torn.
    last: (PathBuf, usize),
    counts: BTreeMap<(String, Outcome), usize>,
}

impl Walk {
    fn new() -> Self {
        let (disk, owner) = dense_log();
        let whole = served(&disk.fork(), &owner).expect("undamaged");
        assert_eq!(whole.1, owner.needed.0.len());
        let newest = |path: &PathBuf, bytes: &[u8]| {
            let blocks = used(path, bytes).into_iter().skip(1);
            blocks.map(|range| u64_at(bytes, range.start + 16)).max()
        };
        let logs = files(&disk).into_iter().filter(|(path, _)| kind(path) == "log");
        let (path, bytes) = logs.max_by_key(|(path, bytes)| newest(path, bytes)).expect("a log");
        let blocks = used(&path, &bytes).into_iter().skip(1);
        let start = blocks.map(|range| range.start);
        let last = start.max_by_key(|at| u64_at(&bytes, at + 16)).expect("a block");
        Self { disk, owner, whole, last: (path, last), counts: BTreeMap::new() }
    }

    /// Opens the log with one file changed and judges what comes.
    fn damage(&mut self, path: &PathBuf, bytes: Vec<u8>, at: usize) -> Outcome {
        let rotten = self.disk.fork();
        rotten.set_bytes(path, bytes);
        let outcome = match served(&rotten, &self.owner) {
            Err(Fault::Damaged { file, offset, last_good, .. }) => {
                assert_eq!(&file, path, "byte {at}: another file is named");
                assert!(offset <= at.max(PAGE) as u64, "byte {at}: offset {offset} is named");
                assert!(last_good <= self.whole.0, "byte {at}: {last_good}");
                Outcome::Named
            }
            Err(Fault::Version { file, .. }) => {
                assert_eq!(&file, path, "byte {at}: another file is named");
                Outcome::Named
            }
            Err(other) => panic!("{} at {at}: {other}", path.display()),
            Ok(found) if found == self.whole => Outcome::NoEffect,
            Ok(found) => {
                let is_last = (path, at >= self.last.1) == (&self.last.0, true);
                assert!(is_last, "{} at {at}: {found:?} is served", path.display());
                assert!(found.0 < self.whole.0, "byte {at}: {found:?}");
                Outcome::Torn
            }
        };
        *self.counts.entry((kind(path).to_owned(), outcome)).or_default() += 1;
        outcome
    }

    fn count(&self, kind: &str, outcome: Outcome) -> usize {
        self.counts.get(&(kind.to_owned(), outcome)).copied().unwrap_or(0)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// All bits of a byte, or one that depends on where it is.
fn bits(at: usize) -> Range<usize> {
    if std::env::var_os("DAMAGE").is_some_and(|word| word == "all") {
        0..8
    } else {
        at % 8..at % 8 + 1
    }
}

#[test]
fn no_flipped_bit_is_served() {
    let mut walk = Walk::new();
    for (path, bytes) in files(&walk.disk) {
        let used = used(&path, &bytes);
        for at in used.iter().cloned().flatten() {
            for bit in bits(at) {
                let mut rotten = bytes.clone();
                rotten[at] ^= 1 << bit;
                walk.damage(&path, rotten, at);
            }
        }
        for at in (0..bytes.len()).step_by(FILLING_STEP) {
            if !used.iter().any(|range| range.contains(&at)) {
                let mut rotten = bytes.clone();
                rotten[at] ^= 1 << (at % 8);
                let outcome = walk.damage(&path, rotten, at);
                assert_eq!(outcome, Outcome::NoEffect, "filling at {at} of {}", path.display());
            }
        }
    }
    eprintln!("flipped bits: {:?}", walk.counts);
    for (kind, least) in [("log", 2000), ("survivor", 200), ("checkpoint", 200)] {
        assert!(walk.count(kind, Outcome::Named) > least, "{kind}: {:?}", walk.counts);
    }
    assert_eq!(walk.count("checkpoint", Outcome::Torn) + walk.count("survivor", Outcome::Torn), 0);
}

#[test]
fn no_file_cut_short_is_served() {
    let mut walk = Walk::new();
    let is_all = bits(0).len() == 8;
    for (path, bytes) in files(&walk.disk) {
        let used = used(&path, &bytes);
        for at in 0..bytes.len() {
            // Of a segment the length alone decides; the rest of it is sampled.
            if is_all || at % FILLING_STEP == 0 || used.iter().any(|range| range.contains(&at)) {
                let outcome = walk.damage(&path, bytes[..at].to_vec(), at);
                assert_eq!(outcome, Outcome::Named, "{} bytes of {}", at, path.display());
            }
        }
    }
    eprintln!("files cut short: {:?}", walk.counts);
    assert!(walk.count("log", Outcome::Named) > 4000, "{:?}", walk.counts);
}
