//! Files that are missing, exchanged, doubled, empty, foreign, or no files at all.
//!
//! Lives here: what a person or a broken file system can do to a directory without changing a
//! byte. Not here: changed bytes (`every_bit.rs`, `damage.rs`).
//!
//! Promise: P11.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::disk::{Disk, FaultyDisk};
use journal::{Fault, Journal, Options, RealDisk, Workers};
use model::Lsn;

use crate::every_bit::{dense_log, dense_options, files, kind};
use crate::owner::Owner;
use crate::rig::{fetch, open_with, options};

/// What an owner sees who replays and asks for everything: as the server does it at its start.
fn serve(disk: &FaultyDisk, owner: &Owner) -> Result<Lsn, Fault> {
    let (mut journal, _) = open_with(disk, dense_options())?;
    journal.check_needed(&owner.needed)?;
    let wanted: Vec<Lsn> = owner.needed.0.keys().copied().collect();
    for (lsn, found) in fetch(&mut journal, &wanted)? {
        let (_, bytes) = found.unwrap_or_else(|| panic!("{lsn} is gone and nobody said so"));
        owner.assert_same(lsn, &bytes);
    }
    Ok(journal.next_lsn())
}

struct Odd {
    disk: FaultyDisk,
    owner: Owner,
    files: BTreeMap<PathBuf, Vec<u8>>,
    end: Lsn,
}

impl Odd {
    fn new() -> Self {
        let (disk, owner) = dense_log();
        let end = serve(&disk.fork(), &owner).expect("undamaged");
        let files = files(&disk);
        Self { disk, owner, files, end }
    }

    fn of(&self, wanted: &str) -> Vec<PathBuf> {
        self.files.keys().filter(|path| kind(path) == wanted).cloned().collect()
    }

    /// Changes a copy of the directory; the fault, or `None` when all of it is served.
    fn with(&self, change: impl FnOnce(&FaultyDisk)) -> Option<Fault> {
        let disk = self.disk.fork();
        change(&disk);
        match serve(&disk, &self.owner) {
            Ok(end) => {
                assert_eq!(end, self.end, "a part is served as if it were the whole");
                None
            }
            Err(fault) => {
                assert!(fault.to_string().contains("/data"), "{fault}");
                Some(fault)
            }
        }
    }
}

fn put(disk: &FaultyDisk, path: &Path, bytes: &[u8]) {
    disk.create(path).expect("create");
    disk.set_bytes(path, bytes.to_vec());
}

fn is_damage(fault: Option<&Fault>) -> bool {
    matches!(fault, Some(Fault::Damaged { .. }))
}

#[test]
fn exchanged_segments_are_named() {
    let odd = Odd::new();
    let logs = odd.of("log");
    assert!(logs.len() >= 3);
    for (index, one) in logs.iter().enumerate() {
        for other in logs.iter().skip(index + 1) {
            let fault = odd.with(|disk| {
                disk.set_bytes(one, odd.files[other].clone());
                disk.set_bytes(other, odd.files[one].clone());
            });
            assert!(is_damage(fault.as_ref()), "{one:?} and {other:?}: {fault:?}");
        }
    }
}

#[test]
fn a_removed_file_is_noticed_when_anything_in_it_is_needed() {
    let odd = Odd::new();
    let mut noticed: BTreeMap<&str, usize> = BTreeMap::new();
    for path in odd.files.keys() {
        let fault = odd.with(|disk| disk.remove(path).expect("remove"));
        if let Some(fault) = fault {
            assert!(is_damage(Some(&fault)), "{path:?}: {fault}");
            *noticed.entry(kind(path)).or_default() += 1;
        } else {
            // Nothing was in it: a prepared segment, or survivors nobody needs any more.
            assert_ne!(kind(path), "checkpoint");
        }
    }
    assert!(noticed["log"] >= 2 && noticed["survivor"] >= 1, "{noticed:?}");
    assert_eq!(noticed["checkpoint"], 1);
}

#[test]
fn a_file_under_another_number_is_named() {
    let odd = Odd::new();
    let dir = options().dir;
    let last = odd.of("log").len() as u64;
    for path in odd.of("log") {
        for number in [0, last + 1, last + 9, u64::MAX] {
            let copy = dir.join(format!("log-{number:016x}.seg"));
            if odd.files.contains_key(&copy) {
                continue;
            }
            let fault = odd.with(|disk| put(disk, &copy, &odd.files[&path]));
            assert!(is_damage(fault.as_ref()), "{path:?} as {number}: {fault:?}");
        }
    }
    for path in odd.of("survivor") {
        let copy = dir.join("survivor-00000000000000ff.sv");
        let fault = odd.with(|disk| put(disk, &copy, &odd.files[&path]));
        assert!(is_damage(fault.as_ref()), "{path:?}: {fault:?}");
    }
    for path in odd.of("checkpoint") {
        let copy = dir.join("checkpoint-00000000ffffffff.ckpt");
        let fault = odd.with(|disk| put(disk, &copy, &odd.files[&path]));
        assert!(is_damage(fault.as_ref()), "{path:?}: {fault:?}");
        let older = dir.join("checkpoint-0000000000000001.ckpt");
        let fault = odd.with(|disk| put(disk, &older, &odd.files[&path]));
        assert!(fault.is_none(), "an older one is a leftover: {fault:?}");
    }
}

#[test]
fn empty_files_are_named() {
    let odd = Odd::new();
    for path in odd.files.keys().filter(|path| kind(path) != "lock") {
        let fault = odd.with(|disk| disk.set_bytes(path, Vec::new()));
        assert!(is_damage(fault.as_ref()), "{path:?}: {fault:?}");
    }
}

#[test]
fn foreign_files_are_left_alone() {
    let odd = Odd::new();
    let names = [
        "notes.txt",
        "log-.seg",
        "log-zzzzzzzzzzzzzzzz.seg",
        "log-00000000000000001.seg",
        "LOG-0000000000000001.SEG",
        "survivor-1.sv",
        "checkpoint-.ckpt",
        "core",
    ];
    for name in names {
        let path = options().dir.join(name);
        let disk = odd.disk.fork();
        put(&disk, &path, &[0xA5; 5000]);
        assert_eq!(serve(&disk, &odd.owner).expect("it is nobody's business"), odd.end);
        assert_eq!(disk.bytes(&path), Some(vec![0xA5; 5000]), "{name} was touched");
    }
}

#[test]
fn a_folder_in_the_place_of_a_file_is_no_file() {
    let odd = Odd::new();
    for path in odd.files.keys() {
        let temp = tempfile::tempdir().expect("a folder");
        for (other, bytes) in &odd.files {
            let place = temp.path().join(other.file_name().expect("a name"));
            if other == path {
                std::fs::create_dir(place).expect("a folder");
            } else {
                std::fs::write(place, bytes).expect("write");
            }
        }
        let real = Options { dir: temp.path().to_path_buf(), ..dense_options() };
        let opened = Journal::open(Arc::new(RealDisk), real, Workers::Inline);
        let outcome = opened.and_then(|(journal, _)| {
            journal.check_needed(&odd.owner.needed)?;
            Ok(journal.next_lsn())
        });
        match outcome {
            Ok(end) => assert_eq!(end, odd.end, "{path:?}"),
            Err(fault) => {
                let dir = temp.path().display().to_string();
                assert!(fault.to_string().contains(&dir), "{path:?}: {fault}");
            }
        }
    }
}
