//! What every log must do: take records, give them back, keep groups whole, lock its directory.
//!
//! Lives here: the fault-free stories. Not here: crashes (`crashes.rs`), damage (`damage.rs`).

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use journal::disk::FaultyDisk;
use journal::{Durability, Fault, Journal, Options, RealDisk, Record, Room, Workers};
use model::Lsn;

use crate::rig::{commit, fetch, open, open_with, options, payload, record, replay};

#[test]
fn records_come_back_after_reopening() {
    let disk = FaultyDisk::new();
    let (mut journal, recovery) = open(&disk).expect("first open");
    assert!(replay(&recovery).is_empty());
    settle_ring(&mut journal);
    let mut wanted = Vec::new();
    for number in 0..100 {
        let payload = payload(number, 8 + number * 7);
        let lsn = record(3, false, &payload, &mut journal).expect("append");
        wanted.push((lsn, payload));
        if number % 7 == 0 {
            let progress = commit(&mut journal).expect("commit");
            assert_eq!(progress.durable, journal.next_lsn());
        }
    }
    commit(&mut journal).expect("commit");
    assert_eq!(wanted[0].0, Lsn::ZERO);
    assert_eq!(wanted[1].0, Lsn(18), "a position counts head and payload");
    let end = journal.next_lsn();
    journal.close().expect("close");

    let (mut journal, recovery) = open(&disk).expect("second open");
    assert_eq!(journal.next_lsn(), end);
    let seen = replay(&recovery);
    assert_eq!(seen.len(), wanted.len());
    for (seen, (lsn, payload)) in seen.iter().zip(&wanted) {
        assert_eq!((seen.lsn, seen.kind, seen.more), (*lsn, 3, false));
        assert_eq!(&seen.payload, payload);
    }
    let positions: Vec<Lsn> = wanted.iter().map(|(lsn, _)| *lsn).collect();
    let cold = fetch(&mut journal, &positions).expect("fetch");
    for ((lsn, found), (wanted_lsn, payload)) in cold.iter().zip(&wanted) {
        assert_eq!(lsn, wanted_lsn);
        assert_eq!(found.as_ref(), Some(&(3, payload.clone())));
    }
}

#[test]
fn committed_records_are_hot_and_evicted_ones_are_cold() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let first = record(1, false, &payload(0, 100), &mut journal).expect("append");
    assert!(journal.read_hot(first).is_none(), "not committed yet");
    commit(&mut journal).expect("commit");
    let hot = journal.read_hot(first).expect("hot");
    assert_eq!((hot.kind, hot.payload), (1, payload(0, 100).as_slice()));
    for number in 1..60 {
        record(1, false, &payload(number, 2000), &mut journal).expect("append");
        if number % 3 == 0 {
            commit(&mut journal).expect("commit");
        }
    }
    commit(&mut journal).expect("commit");
    journal.trim(0);
    assert!(journal.read_hot(first).is_none(), "trimmed");
    let cold = fetch(&mut journal, &[first]).expect("fetch");
    assert_eq!(cold, vec![(first, Some((1, payload(0, 100))))]);
}

#[test]
fn a_fetch_waits_for_records_that_are_not_committed() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let lsn = record(9, false, b"soon", &mut journal).expect("append");
    journal.fetch(vec![lsn], 42).expect("fetch");
    journal.run_pending();
    assert!(journal.poll().expect("poll").fetched.is_empty());
    commit(&mut journal).expect("commit");
    journal.run_pending();
    let fetched = journal.poll().expect("poll").fetched;
    assert_eq!(fetched[0].token, 42);
    let records = fetched[0].records.as_ref().expect("read");
    let (_, found) = records.iter().next().expect("one");
    assert_eq!(found.expect("there").payload, b"soon");
}

#[test]
fn an_unfinished_group_is_not_committed() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    record(1, false, b"before", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    record(2, true, b"half", &mut journal).expect("append");
    let durable = commit(&mut journal).expect("commit").durable;
    assert_eq!(durable, Lsn(16), "the group waits for its end");
    record(2, false, b"whole", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    drop(journal);
    let (_, recovery) = open(&disk).expect("reopen");
    let seen: Vec<_> = replay(&recovery).into_iter().map(|seen| (seen.kind, seen.more)).collect();
    assert_eq!(seen, vec![(1, false), (2, true), (2, false)]);
}

#[test]
fn a_group_that_is_too_large_is_refused_whole_and_nothing_else_is_lost() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    record(1, false, b"kept", &mut journal).expect("append");
    let before = journal.next_lsn();
    record(2, true, &payload(1, 30_000), &mut journal).expect("append");
    record(2, true, &payload(2, 30_000), &mut journal).expect("append");
    let refused = record(2, false, &payload(3, 30_000), &mut journal);
    assert!(matches!(refused, Err(Fault::TooLarge { .. })), "{refused:?}");
    assert_eq!(journal.next_lsn(), before);
    record(1, false, b"after", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    drop(journal);
    let (_, recovery) = open(&disk).expect("reopen");
    let seen: Vec<_> = replay(&recovery).into_iter().map(|seen| seen.payload).collect();
    assert_eq!(seen, vec![b"kept".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_large_group_behind_other_records_gets_a_block_of_its_own() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    settle_ring(&mut journal);
    record(1, false, &payload(0, 12_000), &mut journal).expect("append");
    for number in 1..=6 {
        record(2, number < 6, &payload(number, 9_000), &mut journal).expect("append");
    }
    let end = journal.next_lsn();
    for _ in 0..3 {
        commit(&mut journal).expect("commit");
    }
    assert_eq!(journal.durable(), end);
    drop(journal);
    let (_, recovery) = open(&disk).expect("reopen");
    let seen = replay(&recovery);
    assert_eq!(seen.len(), 7);
    for (number, seen) in seen.iter().enumerate() {
        assert_eq!(&seen.payload[..8], number.to_le_bytes());
        assert_eq!(seen.more, (1..6).contains(&number));
    }
}

fn settle_ring(journal: &mut Journal) {
    let needed = crate::rig::Needed::default();
    crate::rig::settle(journal, &needed, b"").expect("settle");
}

#[test]
fn a_directory_has_one_owner() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk).expect("open");
    let second = open(&disk);
    assert!(matches!(second, Err(Fault::Locked { .. })), "{second:?}");
    drop(journal);
    open(&disk).expect("free again");
}

#[test]
fn a_real_directory_is_locked_against_another_handle() {
    let temp = tempfile::tempdir().expect("temp dir");
    let options = Options { dir: temp.path().join("data"), ..options() };
    let opened = Journal::open(Arc::new(RealDisk), options.clone(), Workers::Inline);
    let (journal, _) = opened.expect("open");
    let second = Journal::open(Arc::new(RealDisk), options.clone(), Workers::Inline);
    match second {
        Err(Fault::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("expected a lock fault, got {other:?}"),
    }
    journal.close().expect("close");
    Journal::open(Arc::new(RealDisk), options, Workers::Inline).expect("free again");
}

#[test]
fn threads_commit_and_fetch_on_a_real_disk() {
    let temp = tempfile::tempdir().expect("temp dir");
    let real = Options {
        dir: temp.path().to_path_buf(),
        segment_bytes: 1 << 20,
        free_bytes_min: 0,
        ..options()
    };
    let (bell, rung) = sync_channel::<()>(64);
    // A full bell rings anyway.
    let wake = Arc::new(move || bell.try_send(()).unwrap_or_default());
    let workers = Workers::Threads { wake };
    let (mut journal, _) = Journal::open(Arc::new(RealDisk), real.clone(), workers).expect("open");
    let mut positions = Vec::new();
    for number in 0..500 {
        let payload = payload(number, 500);
        positions.push(record(5, false, &payload, &mut journal).expect("append"));
        journal.flush().expect("flush");
        journal.poll().expect("poll");
    }
    while journal.durable() < journal.next_lsn() {
        journal.flush().expect("flush");
        rung.recv_timeout(Duration::from_secs(20)).expect("a completion wakes the owner");
        journal.poll().expect("poll");
    }
    journal.fetch(positions.clone(), 1).expect("fetch");
    let fetched = loop {
        rung.recv_timeout(Duration::from_secs(20)).expect("an answer wakes the owner");
        let mut progress = journal.poll().expect("poll");
        if let Some(fetched) = progress.fetched.pop() {
            break fetched;
        }
    };
    let records = fetched.records.expect("read");
    assert_eq!(records.len(), 500);
    for (number, (_, found)) in records.iter().enumerate() {
        assert_eq!(found.expect("there").payload, payload(number, 500));
    }
    assert!(journal.stats().sync.count > 0);
    journal.close().expect("close");
    let (_, recovery) = Journal::open(Arc::new(RealDisk), real, Workers::Inline).expect("reopen");
    assert_eq!(replay(&recovery).len(), 500);
    assert!(!recovery.is_torn());
}

#[test]
fn level_memory_keeps_nothing_and_needs_no_turn_to_commit() {
    let temp = tempfile::tempdir().expect("temp dir");
    let dir = temp.path().join("never");
    let memory = Options { dir: dir.clone(), durability: Durability::Memory, ..options() };
    let opened = Journal::open(Arc::new(RealDisk), memory, Workers::Inline);
    let (mut journal, _) = opened.expect("open");
    let lsn = journal
        .append(Record { kind: 1, more: false, parts: &[b"in ", b"memory"] })
        .expect("append");
    journal.flush().expect("flush");
    assert_eq!(journal.poll().expect("poll").durable, journal.next_lsn());
    assert_eq!(journal.read_hot(lsn).expect("hot").payload, b"in memory");
    assert!(!dir.exists());
    assert_eq!(journal.room(), Room::Free);
}

#[test]
fn level_os_commits_without_a_sync() {
    let disk = FaultyDisk::new();
    let os = Options { durability: Durability::Os, ..options() };
    let (mut journal, _) = open_with(&disk, os.clone()).expect("open");
    record(1, false, b"written", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    assert_eq!(journal.durable(), journal.next_lsn());
    drop(journal);
    // A killed process loses nothing, a power cut may.
    let (_, recovery) = open_with(&disk.fork(), os.clone()).expect("reopen");
    assert_eq!(replay(&recovery).len(), 1);
    let (_, recovery) = open_with(&disk.after_power_loss(0), os).expect("reopen");
    assert!(replay(&recovery).is_empty());
}

#[test]
fn settings_out_of_range_are_named() {
    let disk = FaultyDisk::new();
    let bad = Options { segment_bytes: 1000, ..options() };
    let refused = open_with(&disk, bad);
    assert!(matches!(refused, Err(Fault::Setting { name: "segment_bytes", .. })), "{refused:?}");
}

#[test]
fn a_record_larger_than_the_short_first_segment_waits_for_the_second() {
    let disk = FaultyDisk::new();
    let large = Options { segment_bytes: 8 << 20, ..options() };
    let (mut journal, _) = open_with(&disk, large.clone()).expect("open");
    record(1, false, b"small", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    let huge = payload(1, 6 << 20);
    let lsn = record(2, false, &huge, &mut journal).expect("append");
    commit(&mut journal).expect("nothing is ready yet");
    assert_eq!(journal.durable(), lsn);
    assert_eq!(journal.room(), Room::Wait);
    settle_ring(&mut journal);
    commit(&mut journal).expect("commit");
    assert_eq!(journal.durable(), journal.next_lsn());
    drop(journal);
    let (mut journal, recovery) = open_with(&disk, large).expect("reopen");
    assert_eq!(replay(&recovery)[1].payload, huge);
    assert_eq!(fetch(&mut journal, &[lsn]).expect("fetch")[0].1, Some((2, huge)));
    // The short one is not used again.
    for number in 0..60 {
        record(3, false, &payload(number, 1 << 20), &mut journal).expect("append");
        commit(&mut journal).expect("commit");
        settle_ring(&mut journal);
    }
    assert!(journal.stats().segments <= 5);
    assert_eq!(journal.durable(), journal.next_lsn());
}
