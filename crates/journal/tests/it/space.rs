//! The disk fails or fills: the first fault ends it, a lack of space in the background does not.
//!
//! Lives here: planned errors. Not here: power loss (`crashes.rs`), a ring that only lags
//! (`survivors.rs`).

use std::io::ErrorKind;

use journal::disk::{FaultyDisk, Operation, Trouble};
use journal::{Durability, Fault, Options, Room};

use crate::owner::Owner;
use crate::rig::{commit, open, open_with, options, record};

fn trouble(operation: Operation, name: &str, error: ErrorKind) -> Trouble {
    Trouble { operation, name: name.to_owned(), after: 0, times: u64::MAX, error }
}

#[test]
fn the_first_failed_sync_or_write_ends_the_journal() {
    for operation in [Operation::Sync, Operation::Write] {
        for after in 0..6 {
            let disk = FaultyDisk::new();
            let (mut journal, _) = open(&disk).expect("open");
            let mut plan = trouble(operation, "log-", ErrorKind::Other);
            plan.after = after;
            plan.times = 1;
            disk.plan(plan);
            for _ in 0..after {
                record(1, false, b"fine", &mut journal).expect("append");
                commit(&mut journal).expect("commit");
            }
            let promised = journal.durable();
            record(1, false, b"lost", &mut journal).expect("append");
            let failed = commit(&mut journal);
            assert!(matches!(failed, Err(Fault::Io { .. })), "{failed:?}");
            let operations = disk.operations();
            // The trouble is over, but the journal does not try again.
            for _ in 0..3 {
                assert!(record(1, false, b"no", &mut journal).is_err());
                assert!(commit(&mut journal).is_err());
                assert!(journal.maintain(&crate::rig::Needed::default()).is_err());
            }
            assert_eq!(journal.durable(), promised);
            assert_eq!(disk.operations(), operations, "nothing touched the disk any more");
            assert!(journal.fault().is_some());
            assert!(journal.close().is_err());
        }
    }
}

/// Fills the ring until background work has failed for lack of space.
fn until_full(disk: &FaultyDisk, owner: &mut Owner) -> journal::Journal {
    let (mut journal, _) = open(disk).expect("open");
    for _ in 0..400 {
        if journal.room() == Room::Full {
            return journal;
        }
        if journal.room() == Room::Free {
            owner.publish(&mut journal, 3000).expect("publish");
        }
        owner.turn(&mut journal).expect("lack of space does not end the journal");
    }
    panic!("no lack of space was noticed");
}

#[test]
fn no_space_for_background_work_refuses_publishes_until_it_clears() {
    let places = [
        (Operation::Create, "survivor.tmp"),
        (Operation::Write, "survivor.tmp"),
        (Operation::Sync, "survivor.tmp"),
        (Operation::Create, "checkpoint.tmp"),
        (Operation::Write, "checkpoint.tmp"),
        (Operation::Sync, "checkpoint.tmp"),
        (Operation::Allocate, "segment.tmp"),
        (Operation::Write, "segment.tmp"),
        (Operation::Create, "segment.tmp"),
    ];
    for (operation, name) in places {
        let disk = FaultyDisk::new();
        drop(open(&disk).expect("the first segment is made"));
        disk.plan(trouble(operation, name, ErrorKind::StorageFull));
        let mut owner = Owner::default();
        let mut journal = until_full(&disk, &mut owner);
        // Settles still work, out of the reserve.
        for _ in 0..20 {
            let newest = owner.needed.0.keys().next_back().copied();
            owner.settle(&mut journal, newest.unwrap_or_default()).expect("settle");
            owner.turn(&mut journal).expect("turn");
        }
        assert_eq!(journal.room(), Room::Full, "{operation:?} of {name}");
        disk.heal();
        for _ in 0..3000 {
            owner.turn(&mut journal).expect("turn");
            if journal.room() == Room::Free && journal.is_idle() {
                break;
            }
        }
        assert_eq!(journal.room(), Room::Free, "{operation:?} of {name}");
        for _ in 0..200 {
            owner.publish(&mut journal, 2000).expect("publish");
            owner.turn(&mut journal).expect("turn");
        }
        drop(journal);
        owner.recover(&disk);
    }
}

#[test]
fn little_free_space_refuses_publishes() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    owner.settle_down(&mut journal).expect("settle down");
    assert_eq!(journal.room(), Room::Free);
    disk.set_free_bytes(Some(1000));
    owner.publish(&mut journal, 10_000).expect("publish");
    for _ in 0..150 {
        owner.publish(&mut journal, 10_000).expect("publish");
        owner.turn(&mut journal).expect("turn");
    }
    assert_eq!(journal.room(), Room::Full);
    assert!(journal.stats().segments <= 5);
    disk.set_free_bytes(None);
    owner.settle_down(&mut journal).expect("settle down");
    assert_eq!(journal.room(), Room::Free);
}

#[test]
fn a_background_fault_other_than_space_ends_the_journal() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    disk.plan(trouble(Operation::Sync, "segment.tmp", ErrorKind::Other));
    let mut owner = Owner::default();
    owner.publish(&mut journal, 10).expect("publish");
    let failed = (0..10).find_map(|_| owner.turn(&mut journal).err());
    assert!(matches!(failed, Some(Fault::Io { op: "sync", .. })), "{failed:?}");
}

#[test]
fn without_checkpoints_nothing_is_given_up() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut published = 0;
    while journal.room() == Room::Free && published < 1000 {
        record(1, false, &[7; 3000], &mut journal).expect("append");
        published += 1;
        journal.maintain(&crate::rig::Needed::default()).expect("maintain");
        commit(&mut journal).expect("commit");
        journal.poll().expect("poll");
    }
    assert_eq!(journal.room(), Room::Wait);
    assert!(journal.checkpoint_due());
    commit(&mut journal).expect("commit");
    drop(journal);
    let (_, recovery) = open(&disk).expect("reopen");
    assert_eq!(crate::rig::replay(&recovery).len(), published);
}

#[test]
fn a_checkpoint_waits_for_its_log() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    record(1, false, b"not durable yet", &mut journal).expect("append");
    let lsn = journal.next_lsn();
    journal.checkpoint(lsn, Box::new(|out| out.write_all(b"state"))).expect("checkpoint");
    for _ in 0..5 {
        journal.maintain(&crate::rig::Needed::default()).expect("maintain");
        journal.run_pending();
        assert!(journal.poll().expect("poll").checkpoint.is_none());
    }
    commit(&mut journal).expect("commit");
    journal.run_pending();
    let done = journal.poll().expect("poll").checkpoint.expect("now");
    assert_eq!(done.0, lsn);
    done.1.expect("written");
    assert_eq!(journal.stats().checkpoint, lsn);
}

#[test]
fn at_level_os_a_checkpoint_makes_its_log_durable_first() {
    let disk = FaultyDisk::new();
    let os = Options { durability: Durability::Os, ..options() };
    let (mut journal, _) = open_with(&disk, os.clone()).expect("open");
    record(1, false, b"body", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    let lsn = journal.next_lsn();
    journal.checkpoint(lsn, Box::new(|out| out.write_all(b"state"))).expect("checkpoint");
    journal.run_pending();
    journal.poll().expect("poll");
    drop(journal);
    let (mut journal, recovery) = open_with(&disk.after_power_loss(0), os).expect("reopen");
    assert_eq!(recovery.from(), lsn);
    let found = crate::rig::fetch(&mut journal, &[model::Lsn::ZERO]).expect("fetch");
    assert_eq!(found[0].1, Some((1, b"body".to_vec())));
}
