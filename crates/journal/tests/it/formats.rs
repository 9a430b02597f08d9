//! Files written by earlier releases still open.
//!
//! Lives here: the fixtures under `testdata/`, one folder per format version, and how they are
//! made. Not here: files of the future (`damage.rs`). A fixture is never rewritten; a new format
//! version gets a new folder (`UPDATE=1 cargo test -p journal formats` writes a missing one).

use std::fmt::Write as _;
use std::path::PathBuf;

use journal::disk::{Disk, FaultyDisk};
use model::Lsn;

use crate::rig::{Needed, commit, fetch, open, options, record, replay, settle};

/// Bytes per line of a dump.
const LINE: usize = 32;

fn fixture(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/v{version}/log.txt"))
}

/// All files as text; lines of zeros are left out.
fn dump(disk: &FaultyDisk) -> String {
    let mut out = String::new();
    let mut names = disk.list(&options().dir).expect("list");
    names.sort();
    for name in names {
        let bytes = disk.bytes(&options().dir.join(&name)).expect("bytes");
        writeln!(out, "file {name} {}", bytes.len()).expect("text");
        for (index, line) in bytes.chunks(LINE).enumerate() {
            if line.iter().any(|byte| *byte != 0) {
                write!(out, "{:08x} ", index * LINE).expect("text");
                for byte in line {
                    write!(out, "{byte:02x}").expect("text");
                }
                out.push('\n');
            }
        }
    }
    out
}

fn load(text: &str) -> FaultyDisk {
    let disk = FaultyDisk::new();
    let mut current: Option<(PathBuf, Vec<u8>)> = None;
    let store = |file: Option<(PathBuf, Vec<u8>)>| {
        if let Some((path, bytes)) = file {
            disk.create(&path).expect("create");
            disk.set_bytes(&path, bytes);
        }
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "file" {
            let bytes = vec![0; words[2].parse().expect("a length")];
            store(current.replace((options().dir.join(words[1]), bytes)));
        } else {
            let at = usize::from_str_radix(words[0], 16).expect("an offset");
            let (_, bytes) = current.as_mut().expect("a file first");
            for (index, digits) in words[1].as_bytes().chunks(2).enumerate() {
                let digits = std::str::from_utf8(digits).expect("text");
                bytes[at + index] = u8::from_str_radix(digits, 16).expect("a byte");
            }
        }
    }
    store(current);
    disk
}

/// What every fixture holds: every fourth record is needed, the others are 8 KiB of zeros; a
/// checkpoint in the middle, survivors before it, a group at the end.
fn write_log() -> FaultyDisk {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut needed = Needed::default();
    for number in 0_u8..40 {
        if number % 4 == 0 {
            let text = format!("record {number}");
            let lsn = record(number, false, text.as_bytes(), &mut journal).expect("append");
            needed.0.insert(lsn, text.len() as u64 + 10);
        }
        record(200, false, &[0; 8000], &mut journal).expect("append");
        commit(&mut journal).expect("commit");
        settle(&mut journal, &needed, b"a checkpoint").expect("settle");
    }
    record(201, true, b"first of two", &mut journal).expect("append");
    record(202, false, b"second of two", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    journal.close().expect("close");
    disk
}

/// Positions of the needed records of [`write_log`].
fn needed() -> Vec<(Lsn, u8)> {
    let mut at = 0;
    let mut found = Vec::new();
    for number in 0_u8..40 {
        if number % 4 == 0 {
            found.push((Lsn(at), number));
            at += format!("record {number}").len() as u64 + 10;
        }
        at += 8010;
    }
    found
}

fn check(disk: &FaultyDisk) {
    let (mut journal, mut recovery) = open(disk).expect("open");
    let mut checkpoint = recovery.take_checkpoint().expect("a checkpoint");
    assert!(checkpoint.lsn() > Lsn(100_000));
    let mut state = String::new();
    std::io::Read::read_to_string(&mut checkpoint, &mut state).expect("read");
    assert_eq!(state, "a checkpoint");
    let seen = replay(&recovery);
    let last: Vec<_> = seen.iter().rev().take(2).map(|seen| (seen.kind, seen.more)).collect();
    assert_eq!(last, vec![(202, false), (201, true)]);
    assert!(journal.stats().survivor_files > 0);
    let wanted: Vec<Lsn> = needed().iter().map(|(lsn, _)| *lsn).collect();
    let found = fetch(&mut journal, &wanted).expect("fetch");
    for ((_, record), (_, number)) in found.iter().zip(needed()) {
        let text = format!("record {number}").into_bytes();
        assert_eq!(record.as_ref(), Some(&(number, text)));
    }
    record(1, false, b"and it goes on", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
}

#[test]
fn a_directory_of_version_1_opens() {
    let path = fixture(1);
    if std::env::var_os("UPDATE").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("create");
        std::fs::write(&path, dump(&write_log())).expect("write");
    }
    let text = std::fs::read_to_string(&path).expect("the fixture");
    check(&load(&text));
}

#[test]
fn what_is_written_now_can_be_dumped_and_loaded() {
    check(&load(&dump(&write_log())));
}
