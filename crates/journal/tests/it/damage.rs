//! Bytes that change: a torn tail is cut, anything else is named, nothing wrong is ever served.
//!
//! Lives here: torn writes, bit rot, missing files, files of the future. Not here: power loss in
//! general (`crashes.rs`).

use std::path::PathBuf;

use journal::disk::{Disk, FaultyDisk};
use journal::{Fault, Survey};
use model::Lsn;

use crate::owner::Owner;
use crate::rig::{Needed, commit, fetch, open, options, payload, record, replay};

const PAGE: usize = 4096;

fn path(name: &str) -> PathBuf {
    options().dir.join(name)
}

/// The only file whose name starts so, or the first of them.
fn named(disk: &FaultyDisk, start: &str) -> PathBuf {
    let mut names = disk.list(&options().dir).expect("list");
    names.sort();
    path(names.iter().find(|name| name.starts_with(start)).expect("such a file"))
}

/// Offsets of the blocks in a segment.
fn blocks(bytes: &[u8]) -> Vec<usize> {
    let pages = (0..bytes.len()).step_by(PAGE);
    pages.filter(|at| bytes[*at..].starts_with(b"PBLK")).collect()
}

/// Four commits of two records; the journal is dropped as by a kill.
fn small_log() -> (FaultyDisk, Vec<(Lsn, Vec<u8>)>) {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut appended = Vec::new();
    for number in 0..8 {
        let payload = payload(number, 20 + number * 5);
        appended.push((record(1, false, &payload, &mut journal).expect("append"), payload));
        if number % 2 == 1 {
            commit(&mut journal).expect("commit");
        }
    }
    (disk, appended)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let (disk, appended) = small_log();
    let file = named(&disk, "log-");
    let bytes = disk.bytes(&file).expect("bytes");
    let last = *blocks(&bytes).last().expect("blocks");
    let used =
        64 + (appended.len() - 2..appended.len()).fold(0, |sum, n| sum + appended[n].1.len() + 10);
    for keep in 0..=used {
        let torn = disk.fork();
        let mut bytes = bytes.clone();
        bytes[last + keep..].fill(0);
        torn.set_bytes(&file, bytes);
        let (journal, recovery) = open(&torn).expect("a torn tail is no fault");
        let seen = replay(&recovery);
        let there = if keep == used { 8 } else { 6 };
        assert_eq!(seen.len(), there, "with {keep} bytes of the last block");
        assert_eq!(journal.next_lsn() == appended[6].0, keep < used);
    }
}

#[test]
fn blocks_behind_a_torn_one_never_come_back() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    record(1, false, b"first", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    let file = named(&disk, "log-");
    let before = disk.bytes(&file).expect("bytes");
    // Three blocks of the same size in one commit, written but of unknown fate.
    for number in 0..3 {
        record(2, false, &payload(number, 14_000), &mut journal).expect("append");
    }
    commit(&mut journal).expect("commit");
    drop(journal);
    let mut mixed = disk.bytes(&file).expect("bytes");
    let starts = blocks(&mixed);
    assert_eq!(starts.len(), 4);
    mixed[starts[1]..starts[2]].copy_from_slice(&before[starts[1]..starts[2]]);
    disk.set_bytes(&file, mixed);
    let (mut journal, recovery) = open(&disk).expect("the commit was never promised");
    assert_eq!(replay(&recovery).len(), 1);
    // The very same record again, so that only chain and incarnation tell the blocks apart.
    record(2, false, &payload(0, 14_000), &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    drop(journal);
    let (journal, recovery) = open(&disk).expect("reopen");
    assert_eq!(replay(&recovery).len(), 2, "the old second and third block are history");
    drop(journal);
}

#[test]
fn a_block_missing_in_the_middle_is_named() {
    let (disk, appended) = small_log();
    let file = named(&disk, "log-");
    let bytes = disk.bytes(&file).expect("bytes");
    for (index, at) in blocks(&bytes).iter().enumerate().take(3) {
        let holed = disk.fork();
        let mut bytes = bytes.clone();
        bytes[*at..at + PAGE].fill(0);
        holed.set_bytes(&file, bytes);
        match open(&holed) {
            Err(Fault::Damaged { file: found, offset, last_good, .. }) => {
                assert_eq!((found, offset), (file.clone(), *at as u64));
                assert_eq!(last_good, appended[index * 2].0);
            }
            other => panic!("block {index} is missing, got {other:?}"),
        }
    }
}

/// Promise: P1, P11.
#[test]
fn a_damaged_first_block_of_a_segment_is_not_taken_for_a_torn_tail() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    for number in 0..26 {
        record(1, false, &payload(number, 5000), &mut journal).expect("append");
        commit(&mut journal).expect("commit");
        // Segments are prepared, but no checkpoint is written that would end beyond the damage.
        journal.maintain(&Needed::default()).expect("maintain");
        journal.run_pending();
        journal.poll().expect("poll");
    }
    drop(journal);
    let mut logs = disk.list(&options().dir).expect("list");
    logs.sort();
    for name in logs.iter().filter(|name| name.starts_with("log-")) {
        let rotten = disk.fork();
        let mut bytes = disk.bytes(&path(name)).expect("bytes");
        if blocks(&bytes).len() < 2 {
            continue;
        }
        bytes[PAGE + 20] ^= 1;
        rotten.set_bytes(&path(name), bytes);
        match open(&rotten) {
            Err(Fault::Damaged { file, offset, .. }) => {
                assert_eq!((file, offset), (path(name), PAGE as u64));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_survey_says_what_the_log_proves_of_itself() {
    let (disk, appended) = small_log();
    let proven = |disk: &FaultyDisk| {
        Survey::take(std::sync::Arc::new(disk.clone()), &options().dir).expect("a survey").proven
    };
    assert_eq!(proven(&disk), appended[6].0, "the last block says it of those before");
    let (journal, _) = open(&disk).expect("open");
    let end = journal.next_lsn();
    journal.close().expect("close");
    assert_eq!(proven(&disk), end, "an orderly stop says it of all");
}

#[test]
fn after_a_clean_close_even_the_last_block_is_guarded() {
    let (disk, _) = small_log();
    let (journal, _) = open(&disk).expect("open");
    journal.close().expect("close");
    let file = named(&disk, "log-");
    let mut bytes = disk.bytes(&file).expect("bytes");
    let last_full = blocks(&bytes)[3];
    bytes[last_full + 80] ^= 1;
    disk.set_bytes(&file, bytes);
    let opened = open(&disk);
    assert!(matches!(opened, Err(Fault::Damaged { .. })), "{opened:?}");
}

/// Promise: P11.
#[test]
fn after_a_quiet_moment_the_last_commit_is_guarded_too() {
    let (disk, _) = small_log();
    let (mut journal, _) = open(&disk).expect("open");
    record(1, false, b"the last words", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    let before = disk.operations();
    for _ in 0..3 {
        journal.trim(usize::MAX);
        commit(&mut journal).expect("commit");
    }
    assert_eq!(disk.operations(), before + 2, "one block and its sync, and no more");
    drop(journal);
    let file = named(&disk, "log-");
    let mut bytes = disk.bytes(&file).expect("bytes");
    let last = blocks(&bytes)[4];
    bytes[last + 80] ^= 1;
    disk.set_bytes(&file, bytes);
    let opened = open(&disk);
    assert!(matches!(opened, Err(Fault::Damaged { .. })), "{opened:?}");
}

/// A log with a checkpoint, survivors, and records above both.
fn rich_log() -> (FaultyDisk, Owner) {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    for number in 0..14 {
        let lsn = owner.publish(&mut journal, 10_000).expect("publish");
        owner.publish(&mut journal, 20 + number).expect("publish");
        owner.turn(&mut journal).expect("turn");
        owner.settle(&mut journal, lsn).expect("settle");
    }
    owner.settle_down(&mut journal).expect("settle down");
    assert!(journal.stats().survivor_files > 0);
    (disk, owner)
}

/// Opens and reads everything; what comes must be what was written.
fn served(disk: &FaultyDisk, owner: &Owner) -> Result<(Lsn, usize), Fault> {
    let (mut journal, _) = open(disk)?;
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

#[test]
fn no_flipped_byte_is_served() {
    let (disk, owner) = rich_log();
    let whole = served(&disk.fork(), &owner).expect("undamaged");
    assert_eq!(whole.1, owner.needed.0.len());
    let mut detected = 0;
    for name in disk.list(&options().dir).expect("list") {
        let file = path(&name);
        let bytes = disk.bytes(&file).expect("bytes");
        for at in interesting(&bytes) {
            let rotten = disk.fork();
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x41;
            rotten.set_bytes(&file, bytes);
            // Either a fault, or exactly what was written; cut only at the very end.
            match served(&rotten, &owner) {
                Err(Fault::Damaged { .. } | Fault::Version { .. }) => detected += 1,
                Err(other) => panic!("{name} at {at}: {other}"),
                Ok(found) if found == whole => {}
                Ok((end, _)) => {
                    assert!(name.starts_with("log-") && end < whole.0, "{name} at {at} lost");
                    assert!(whole.0.0 - end.0 < 200, "{name} at {at}: more than a block is cut");
                }
            }
        }
    }
    assert!(detected > 500, "{detected}");
}

/// Heads and the small records; the long runs of filler only now and then.
fn interesting(bytes: &[u8]) -> Vec<usize> {
    let is_dull = |at: usize| at >= 12 && bytes[at - 12..at].iter().all(|byte| *byte == bytes[at]);
    (0..bytes.len()).filter(|at| at % 4999 == 0 || (at % 3 == 0 && !is_dull(*at))).collect()
}

#[test]
fn a_damaged_entry_spoils_only_what_is_behind_it() {
    let (disk, owner) = rich_log();
    let file = named(&disk, "survivor-");
    let mut bytes = disk.bytes(&file).expect("bytes");
    bytes[PAGE + 20] ^= 1;
    disk.set_bytes(&file, bytes);
    let (mut journal, _) = open(&disk).expect("entries are checked when read");
    let first = owner.oldest().expect("needed");
    let read = fetch(&mut journal, &[first]);
    assert!(matches!(read, Err(Fault::Damaged { .. })), "{read:?}");
    let newest = *owner.needed.0.keys().next_back().expect("needed");
    assert!(fetch(&mut journal, &[newest]).expect("the ring is fine")[0].1.is_some());
    journal.poll().expect("a failed read is not the end");
}

#[test]
fn files_of_the_future_are_refused() {
    for kind in ["log-", "survivor-", "checkpoint-"] {
        let (disk, _) = rich_log();
        let file = named(&disk, kind);
        let mut bytes = disk.bytes(&file).expect("bytes");
        bytes[8] = 2;
        disk.set_bytes(&file, bytes);
        match open(&disk) {
            Err(Fault::Version { file: found, found: 2, known: 1 }) => assert_eq!(found, file),
            other => panic!("{kind}: {other:?}"),
        }
    }
}

#[test]
fn missing_files_are_named() {
    let (disk, _) = rich_log();
    let mut logs: Vec<String> = disk.list(&options().dir).expect("list");
    logs.retain(|name| name.starts_with("log-"));
    logs.sort();
    let holed = disk.fork();
    holed.remove(&path(&logs[1])).expect("remove");
    assert!(matches!(open(&holed), Err(Fault::Damaged { .. })), "a gap in the sequence");
    for log in &logs {
        disk.remove(&path(log)).expect("remove");
    }
    assert!(matches!(open(&disk), Err(Fault::Damaged { .. })), "a checkpoint without a log");
}

#[test]
fn a_shortened_file_is_named() {
    for kind in ["log-", "survivor-", "checkpoint-"] {
        let (disk, owner) = rich_log();
        let file = named(&disk, kind);
        let mut bytes = disk.bytes(&file).expect("bytes");
        bytes.truncate(bytes.len() - 1);
        disk.set_bytes(&file, bytes);
        let found = served(&disk, &owner);
        assert!(matches!(found, Err(Fault::Damaged { .. })), "{kind}: {found:?}");
    }
}

#[test]
fn messages_say_what_to_do() {
    let (disk, _) = rich_log();
    let file = named(&disk, "checkpoint-");
    let mut bytes = disk.bytes(&file).expect("bytes");
    bytes[PAGE + 1] ^= 1;
    disk.set_bytes(&file, bytes);
    let fault = match open(&disk) {
        Err(fault) => fault.to_string(),
        Ok((journal, _)) => panic!("opened {journal:?}"),
    };
    assert!(fault.contains("checkpoint-") && fault.contains("restore"), "{fault}");
}
