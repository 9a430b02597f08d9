//! Space comes back: the ring turns, survivors are few, files shrink with what is needed.
//!
//! Lives here: the fault-free stories about reclaiming. Not here: a full disk (`space.rs`), crashes
//! in the middle of it (`crashes.rs`).

use journal::disk::{Disk, FaultyDisk};
use journal::{Durability, Journal, Options, Room, Workers};
use model::Lsn;

use crate::owner::Owner;
use crate::rig::{SEGMENT, fetch, open, open_with, options};

/// Bytes of all files.
fn held(disk: &FaultyDisk) -> u64 {
    let dir = options().dir;
    let names = disk.list(&dir).expect("list");
    names.iter().map(|name| disk.bytes(&dir.join(name)).expect("file").len() as u64).sum()
}

#[test]
fn one_immortal_record_does_not_hold_the_log() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    let immortal = owner.publish(&mut journal, 500).expect("publish");
    let mut peak = 0;
    for _ in 0..1500 {
        let lsn = owner.publish(&mut journal, 3000).expect("publish");
        owner.turn(&mut journal).expect("turn");
        owner.settle(&mut journal, lsn).expect("settle");
        owner.turn(&mut journal).expect("turn");
        peak = peak.max(held(&disk));
    }
    let (passed, ring) = (journal.next_lsn().0, 5 * SEGMENT);
    assert!(passed > 10 * ring, "the ring turned many times");
    assert!(peak < ring + 64 * 1024, "{peak} bytes held although one record is needed");
    let stats = journal.stats();
    assert_eq!((stats.survivor_files, stats.segments), (1, 5));
    let found = fetch(&mut journal, &[immortal]).expect("fetch");
    assert!(found[0].1.is_some(), "the immortal is still there");
    drop(journal);
    owner.recover(&disk);
}

#[test]
fn a_backlog_is_read_back_and_its_space_freed() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    for number in 0..700 {
        owner.publish(&mut journal, 1000 + number % 900).expect("publish");
        if number % 4 == 0 {
            owner.turn(&mut journal).expect("turn");
        }
    }
    owner.settle_down(&mut journal).expect("settle down");
    let live: u64 = owner.needed.0.values().sum();
    assert!(live > 10 * SEGMENT);
    assert!(held(&disk) < 5 * SEGMENT + 2 * live, "{} held for {live}", held(&disk));
    drop(journal);
    let mut journal = owner.recover(&disk);
    let mut left = owner.needed.0.len();
    while let Some(lsn) = owner.oldest() {
        owner.settle(&mut journal, lsn).expect("settle");
        left -= 1;
        if left % 10 == 0 {
            owner.turn(&mut journal).expect("turn");
        }
    }
    owner.settle_down(&mut journal).expect("settle down");
    assert_eq!(journal.stats().survivor_files, 0, "{:?}", journal.stats());
    drop(journal);
    owner.recover(&disk);
}

#[test]
fn thin_and_small_survivor_files_are_rewritten() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    let mut kept = Vec::new();
    for number in 0..1200 {
        let lsn = owner.publish(&mut journal, 1500).expect("publish");
        owner.turn(&mut journal).expect("turn");
        if number % 10 == 0 {
            kept.push(lsn);
        } else {
            owner.settle(&mut journal, lsn).expect("settle");
        }
    }
    owner.settle_down(&mut journal).expect("settle down");
    let stats = journal.stats();
    let live: u64 = owner.needed.0.values().sum();
    assert!(stats.compactions > 0, "small neighbours were merged");
    assert!(stats.survivor_files <= 10, "{stats:?}");
    assert!(stats.survivor_bytes < 2 * live + 64 * 1024, "{stats:?} for {live} live");
    let merged = stats.compactions;
    for lsn in kept.iter().step_by(5).chain(kept.iter().skip(1).step_by(5)) {
        owner.settle(&mut journal, *lsn).expect("settle");
    }
    for lsn in kept.iter().skip(2).step_by(5).chain(kept.iter().skip(3).step_by(5)) {
        owner.settle(&mut journal, *lsn).expect("settle");
    }
    owner.settle_down(&mut journal).expect("settle down");
    assert!(journal.stats().compactions > merged, "thin files were rewritten");
    drop(journal);
    owner.recover(&disk);
}

#[test]
fn publishes_wait_while_the_ring_cannot_turn_and_settles_still_fit() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    // Nobody maintains: no segment is prepared or retired.
    while journal.room() == Room::Free {
        owner.publish(&mut journal, 2000).expect("publish");
        journal.flush().expect("flush");
        journal.run_pending();
        journal.poll().expect("poll");
    }
    assert_eq!(journal.room(), Room::Wait);
    owner.settle(&mut journal, Lsn::ZERO).expect("settle");
    owner.settle_down(&mut journal).expect("settle down");
    assert_eq!(journal.room(), Room::Free);
    assert!(journal.durable() == journal.next_lsn());
}

/// With few segments the oldest full one may be the one that a batch in flight has just left.
#[test]
fn a_segment_that_is_still_being_written_is_not_retired() {
    let disk = FaultyDisk::new();
    let few = Options { segments_max: 4, ..options() };
    let (mut journal, _) = open_with(&disk, few).expect("open");
    let mut owner = Owner::default();
    for _ in 0..10 {
        owner.publish(&mut journal, 8000).expect("publish");
        owner.turn(&mut journal).expect("turn");
    }
    owner.checkpoint(&mut journal).expect("checkpoint");
    owner.settle_down(&mut journal).expect("settle down");
    let stats = journal.stats();
    assert_eq!(stats.checkpoint, journal.next_lsn(), "of all there is so far");
    assert_eq!((stats.segments, stats.segments_ready), (4, 3), "nothing has to be prepared");
    for _ in 0..12 {
        owner.publish(&mut journal, 8000).expect("publish");
    }
    journal.flush().expect("flush");
    assert!(journal.is_committing() && journal.open_lsn() == journal.next_lsn());
    for _ in 0..4 {
        journal.maintain(&owner.needed).expect("maintain");
        journal.run_pending();
        owner.promised = journal.poll().expect("poll").durable;
    }
    assert_eq!(owner.promised, journal.next_lsn());
    let wanted: Vec<Lsn> = owner.needed.0.keys().copied().collect();
    for (lsn, found) in fetch(&mut journal, &wanted).expect("fetch") {
        owner.assert_same(lsn, &found.expect("a promised record").1);
    }
    drop(journal);
    owner.recover(&disk);
}

/// Blocks take whole pages and are never split. Counted by its bytes, the log looked as if it had
/// room when it had none for what waited.
#[test]
fn room_is_left_until_the_log_says_that_it_is_tight() {
    for bytes in [50, 700, 2_900, 7_000, 11_000, 20_000, 33_000] {
        let disk = FaultyDisk::new();
        let (mut journal, _) = open(&disk).expect("open");
        let mut owner = Owner::default();
        // One long commit is in flight; nobody makes room; everything gathers behind it.
        owner.publish(&mut journal, 10).expect("publish");
        journal.flush().expect("flush");
        let mut count = 0_u64;
        while !journal.is_tight(bytes as u64 + 10) {
            owner.publish(&mut journal, bytes).expect("there was room");
            count += 1;
        }
        assert!(count * bytes as u64 > 3 * SEGMENT / 2, "{count} of {bytes}");
        for _ in 0..4 {
            journal.run_pending();
            journal.poll().expect("poll");
            journal.flush().expect("what was accepted has a place");
        }
        let newest = owner.needed.0.keys().next_back().copied();
        owner.settle(&mut journal, newest.expect("some")).expect("settle");
        owner.settle_down(&mut journal).expect("and the ring turns");
        assert_eq!(journal.durable(), journal.next_lsn());
        drop(journal);
        owner.recover(&disk);
    }
}

#[test]
fn records_beyond_the_reserve_end_the_journal() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    let fault = loop {
        let appended = owner.publish(&mut journal, 8000).map(|_| ());
        if let Err(fault) = appended.and_then(|()| journal.flush()) {
            break fault;
        }
        journal.run_pending();
        journal.poll().expect("poll");
    };
    assert!(matches!(fault, journal::Fault::Exhausted { .. }), "{fault:?}");
    assert!(journal.poll().is_err(), "and it stays ended");
    let promised = journal.durable();
    drop(journal);
    owner.promised = promised;
    owner.recover(&disk);
}

#[test]
fn level_memory_frees_what_is_not_needed() {
    let memory = Options { durability: Durability::Memory, ..options() };
    let disk = std::sync::Arc::new(FaultyDisk::new());
    let (mut journal, _) = Journal::open(disk, memory, Workers::Inline).expect("open");
    let mut owner = Owner::default();
    let immortal = owner.publish(&mut journal, 700).expect("publish");
    for _ in 0..800 {
        let lsn = owner.publish(&mut journal, 3000).expect("publish");
        owner.settle(&mut journal, lsn).expect("settle");
        owner.turn(&mut journal).expect("turn");
        assert!(!journal.checkpoint_due());
    }
    owner.settle_down(&mut journal).expect("settle down");
    assert!(journal.next_lsn().0 > 20 * SEGMENT);
    assert!(journal.stats().segments <= 5, "{:?}", journal.stats());
    let found = fetch(&mut journal, &[immortal]).expect("fetch");
    assert!(found[0].1.is_some());
}
