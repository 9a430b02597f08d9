//! A failed sync, a new start on the same page cache, and a power cut later.
//!
//! Lives here: what recovery must not believe. Linux marks pages as clean when writing them back
//! failed, so the next process reads bytes that no later sync will store. Not here: that the first
//! failed sync ends the journal (`it/space.rs`).
//! Promise: P12.
#![allow(clippy::expect_used, reason = "helpers of tests are tests")]

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use journal::disk::{Disk, FailedSync, FaultyDisk, Operation, Trouble};
use journal::{Durability, Fault, Journal, Options, Record, Recovery, Workers};

fn open(disk: &FaultyDisk) -> Result<(Journal, Recovery), Fault> {
    let options = Options {
        dir: PathBuf::from("/data"),
        durability: Durability::Fsync,
        segment_bytes: 64 * 1024,
        segments_max: 5,
        cache_bytes: 64 * 1024,
        checkpoint_bytes: 100 * 1024,
        free_bytes_min: 1024 * 1024,
        pace_bytes: 16 * 1024,
        seed: Some(7),
        ..Options::default()
    };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Journal::open(disk, options, Workers::Inline)
}

fn commit(journal: &mut Journal, text: &str, bytes: usize) -> Result<(), Fault> {
    let mut payload = text.as_bytes().to_vec();
    payload.resize(bytes.max(text.len()), b'.');
    journal.append(Record { kind: 1, more: false, parts: &[&payload] })?;
    journal.flush()?;
    journal.run_pending();
    journal.poll().map(drop)
}

/// The first words of all records.
fn texts(recovery: &Recovery) -> Vec<String> {
    let mut texts = Vec::new();
    let visited: Result<(), Fault> = recovery.replay(|record| {
        let text: Vec<u8> = record.payload.iter().copied().take_while(|it| *it != b'.').collect();
        texts.push(String::from_utf8(text).expect("text"));
        Ok(())
    });
    visited.expect("replay what open verified");
    texts
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_stored_before_it_is_believed() {
    for (bytes, commits) in [(100, 1), (20_000, 1), (9_000, 3)] {
        for how in [FailedSync::Keep, FailedSync::Forget, FailedSync::Revert] {
            let disk = FaultyDisk::new();
            disk.on_failed_sync(how);
            let (mut journal, _) = open(&disk).expect("open");
            for number in 0..commits {
                commit(&mut journal, &format!("first {number}"), bytes).expect("commit");
            }
            let (name, error) = ("log-".to_owned(), ErrorKind::Other);
            let operation = Operation::Sync;
            disk.plan(Trouble { operation, name, after: 0, times: 1, error });
            commit(&mut journal, "unsure", bytes).expect_err("the sync fails");
            drop(journal);

            let (mut journal, recovery) = open(&disk).expect("the files are sound");
            let seen = texts(&recovery);
            commit(&mut journal, "later", 100).expect("commit");
            drop(journal);

            let (_, recovery) = open(&disk.after_power_loss(0)).expect("nothing is missing");
            let after = texts(&recovery);
            let expected: Vec<String> = seen.into_iter().chain(["later".to_owned()]).collect();
            assert_eq!(after, expected, "{bytes} bytes, {how:?}");
        }
    }
}

#[test]
fn a_clean_end_whose_sync_failed_does_not_break_the_chain() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    commit(&mut journal, "first", 100).expect("commit");
    let (operation, name, error) = (Operation::Sync, "log-".to_owned(), ErrorKind::Other);
    disk.plan(Trouble { operation, name, after: 0, times: 1, error });
    journal.close().expect_err("the sync fails");
    let (mut journal, _) = open(&disk).expect("the files are sound");
    commit(&mut journal, "later", 100).expect("commit");
    drop(journal);
    let (_, recovery) = open(&disk.after_power_loss(0)).expect("nothing is missing");
    assert_eq!(texts(&recovery), ["first", "later"]);
}
