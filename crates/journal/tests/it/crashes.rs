//! Power fails at every single disk operation; what was promised is there afterwards.
//!
//! Lives here: the exhaustive crash test and the process-kill variants. Not here: damage to bytes
//! that were durable (`damage.rs`).

use journal::disk::FaultyDisk;
use journal::{Fault, Journal, Options};

use crate::owner::Owner;
use crate::rig::{Needed, SEGMENT, commit, fetch, open, options, payload, record, settle};

/// A story with segment rolls, checkpoints, survivor passes and compaction. Stops at the first
/// fault, which is the power failing.
fn story(disk: &FaultyDisk, owner: &mut Owner) -> Result<(), Fault> {
    let (mut journal, _) = open(disk)?;
    let mut kept = Vec::new();
    for number in 0_usize..90 {
        let lsn = owner.publish(&mut journal, 4000 + 37 * number)?;
        owner.turn(&mut journal)?;
        match number % 6 {
            0 => kept.push(lsn),
            1 | 2 => {
                owner.exchange(&mut journal, lsn, 100).map(|lsn| kept.push(lsn))?;
            }
            _ => owner.settle(&mut journal, lsn)?,
        }
        if number % 7 == 0 {
            owner.turn(&mut journal)?;
        }
        if number % 20 == 10 {
            // Several blocks in one commit, some of them across the end of a segment.
            for _ in 0..7 {
                owner.publish(&mut journal, 9000)?;
            }
            owner.turn(&mut journal)?;
            owner.turn(&mut journal)?;
        }
    }
    // Thin out what survived, so that files are rewritten and removed.
    for lsn in kept.iter().take(kept.len() * 4 / 5) {
        owner.settle(&mut journal, *lsn)?;
    }
    for _ in 0..25 {
        owner.turn(&mut journal)?;
    }
    journal.close()
}

/// The recovered journal must go on as if nothing had happened, and survive being reopened.
fn go_on(mut owner: Owner, disk: &FaultyDisk) {
    let mut journal = owner.recover(disk);
    for _ in 0..6 {
        owner.publish(&mut journal, 5000).expect("publish");
        owner.turn(&mut journal).expect("turn");
    }
    owner.settle_down(&mut journal).expect("settle down");
    assert_eq!(journal.durable(), journal.next_lsn());
    drop(journal);
    owner.recover(disk);
}

#[test]
fn the_story_contains_what_it_should() {
    let disk = FaultyDisk::new();
    let mut owner = Owner::default();
    story(&disk, &mut owner).expect("no fault was planned");
    let journal = owner.recover(&disk);
    let stats = journal.stats();
    assert!(stats.checkpoint.0 > 0, "a checkpoint was written");
    assert!(stats.survivor_files > 0, "records survived their segment");
    assert!(journal.next_lsn().0 > 6 * SEGMENT, "the ring turned");
}

#[test]
fn power_fails_at_every_operation() {
    let whole = FaultyDisk::new();
    story(&whole, &mut Owner::default()).expect("no fault was planned");
    let operations = whole.operations();
    assert!(operations > 200, "{operations}");
    for at in 1..=operations {
        let disk = FaultyDisk::new();
        disk.crash_at(at);
        let mut owner = Owner::default();
        let ended = story(&disk, &mut owner);
        assert!(ended.is_err() || at == operations, "operation {at} was not noticed");
        for seed in [0, 1, at + 5000] {
            owner.clone().recover(&disk.after_power_loss(seed));
        }
        go_on(owner, &disk.after_power_loss(at + 1));
    }
}

#[test]
fn power_fails_again_while_recovering() {
    let whole = FaultyDisk::new();
    story(&whole, &mut Owner::default()).expect("no fault was planned");
    for at in (10..whole.operations()).step_by(17) {
        let disk = FaultyDisk::new();
        disk.crash_at(at);
        let mut owner = Owner::default();
        assert!(story(&disk, &mut owner).is_err());
        let after = disk.after_power_loss(at + 99);
        for second in 1..12 {
            let again = after.fork();
            again.crash_at(second);
            if let Ok((journal, _)) = open(&again) {
                drop(journal);
            }
            go_on(owner.clone(), &again.after_power_loss(second + at));
        }
    }
}

/// Publishes when there is room, and does one step of the log's work.
fn step(owner: &mut Owner, journal: &mut Journal) {
    if !journal.is_tight(3010) {
        owner.publish(journal, 3000).expect("publish");
    }
    journal.flush().expect("flush");
    if journal.checkpoint_due() {
        owner.checkpoint(journal).expect("checkpoint");
    }
    journal.maintain(&owner.needed).expect("maintain");
    journal.run_pending();
    owner.promised = journal.poll().expect("poll").durable;
}

/// The process ends when the oldest segment was given up and its file not used again yet, so that
/// it is part of the ring once more. The next start may have more segments, and nothing presses:
/// the survivors of that segment are merged with their neighbours. When it goes at last, there is
/// nothing to copy: a second file would overlap with the merged one.
#[test]
fn what_comes_back_after_its_survivors_were_merged_is_not_copied_again() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let mut owner = Owner::default();
    // Eight neighbours are merged; the process ends in the moment when there are so many.
    while journal.stats().survivor_files < 8 {
        step(&mut owner, &mut journal);
        assert!(journal.next_lsn().0 < 40 * SEGMENT, "{:?}", journal.stats());
    }
    drop(journal);
    let more = Options { segments_max: 9, ..options() };
    let mut journal = owner.recover_with(&disk, more.clone());
    owner.settle_down(&mut journal).expect("settle down");
    assert!(journal.stats().survivor_files < 7, "merged: {:?}", journal.stats());
    for _ in 0..200 {
        step(&mut owner, &mut journal);
        drop(journal);
        journal = owner.recover_with(&disk, more.clone());
        step(&mut owner, &mut journal);
    }
    assert!(journal.stats().survivor_files > 1, "the ring turned: {:?}", journal.stats());
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let disk = FaultyDisk::new();
    let mut owner = Owner::default();
    let (mut journal, _) = open(&disk).expect("open");
    for round in 0_usize..40 {
        for _ in 0..3 {
            owner.publish(&mut journal, 900).expect("publish");
        }
        owner.turn(&mut journal).expect("turn");
        owner.publish(&mut journal, 10).expect("publish");
        drop(journal);
        let (promised, oldest) = (owner.promised, owner.oldest());
        journal = owner.recover(&disk);
        assert_eq!(journal.next_lsn(), promised, "what was not committed is not there");
        if round % 2 == 0 {
            owner.settle(&mut journal, oldest.expect("one is there")).expect("settle");
        }
    }
}

#[test]
fn nothing_is_dropped_for_a_settlement_that_is_not_durable() {
    let disk = FaultyDisk::new();
    let mut owner = Owner::default();
    let (mut journal, _) = open(&disk).expect("open");
    let small: Vec<_> =
        (0..120).map(|_| owner.publish(&mut journal, 300).expect("publish")).collect();
    for lsn in small {
        owner.publish(&mut journal, 4000).expect("publish");
        if journal.checkpoint_due() {
            owner.checkpoint(&mut journal).expect("checkpoint");
        }
        commit(&mut journal).expect("commit");
        // The background counts this one as gone; the log does not know it yet.
        owner.settle(&mut journal, lsn).expect("settle");
        for _ in 0..4 {
            journal.maintain(&owner.needed).expect("maintain");
            journal.run_pending();
            owner.promised = journal.poll().expect("poll").durable;
        }
        owner.clone().recover(&disk.after_power_loss(0));
    }
    assert!(journal.stats().survivor_files > 0);
}

#[test]
fn short_writes_are_finished() {
    let disk = FaultyDisk::new();
    disk.write_short(true);
    let mut owner = Owner::default();
    story(&disk, &mut owner).expect("no fault was planned");
    owner.recover(&disk);
}

/// Promise: P1.
#[test]
fn a_checkpoint_asked_for_while_the_same_one_is_written_is_not_lost() {
    let disk = FaultyDisk::new();
    let mut owner = Owner::default();
    let (mut journal, _) = open(&disk).expect("open");
    for _ in 0..30 {
        owner.publish(&mut journal, 9000).expect("publish");
        owner.turn(&mut journal).expect("turn");
    }
    owner.settle_down(&mut journal).expect("settle down");
    owner.publish(&mut journal, 100).expect("publish");
    commit(&mut journal).expect("commit");
    // As an orderly stop does when the last checkpoint is just under way.
    owner.checkpoint(&mut journal).expect("the first");
    owner.checkpoint(&mut journal).expect("the same");
    journal.run_pending();
    let first = journal.poll().expect("poll").checkpoint.expect("written").0;
    journal.run_pending();
    journal.poll().expect("poll");
    assert_eq!(journal.stats().checkpoint, first);
    journal.close().expect("close");
    assert_eq!(owner.recover(&disk).stats().checkpoint, first);
}

/// Promise: P1, P11.
#[test]
fn what_a_cut_tail_leaves_behind_is_never_read_in_place_of_what_came_later() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    let kept = record(1, false, b"kept", &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    let torn = record(2, false, &payload(1, 100), &mut journal).expect("append");
    record(2, false, &payload(2, 9000), &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    drop(journal);
    // Of the second block its first page was stored, and that one record in it is whole.
    let file = options().dir.join("log-0000000000000001.seg");
    let mut bytes = disk.bytes(&file).expect("bytes");
    bytes[3 * 4096..].fill(0);
    disk.set_bytes(&file, bytes);
    let (mut journal, recovery) = open(&disk).expect("a torn tail");
    assert!(recovery.is_torn() && journal.next_lsn() == torn);
    // Reads what follows in the file, too.
    fetch(&mut journal, &[kept]).expect("fetch");
    let again = record(3, false, &payload(3, 100), &mut journal).expect("append");
    assert_eq!(again, torn, "the position is given out again");
    commit(&mut journal).expect("commit");
    let found = fetch(&mut journal, &[again]).expect("fetch");
    assert_eq!(found[0].1, Some((3, payload(3, 100))), "the record of the time before");
}

/// Promise: P1, P11.
#[test]
fn a_torn_block_that_a_later_segment_took_the_place_of_stays_cut() {
    let disk = FaultyDisk::new();
    let (mut journal, _) = open(&disk).expect("open");
    record(1, false, &payload(1, 40_000), &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    let torn = record(2, false, &payload(2, 9_000), &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    drop(journal);
    // Of the second block its first page was stored.
    let file = options().dir.join("log-0000000000000001.seg");
    let mut bytes = disk.bytes(&file).expect("bytes");
    bytes[12 * 4096..].fill(0);
    disk.set_bytes(&file, bytes);
    let (mut journal, recovery) = open(&disk).expect("a torn tail");
    assert!(recovery.is_torn() && journal.next_lsn() == torn);
    // Too much for the rest of this segment: the next one begins, and the head stays behind.
    settle(&mut journal, &Needed::default(), b"").expect("the next one is prepared");
    record(3, false, &payload(3, 30_000), &mut journal).expect("append");
    commit(&mut journal).expect("commit");
    let end = journal.durable();
    assert!(end > torn.plus(30_000));
    // All that is history now, which is not read again at the next start.
    journal.checkpoint(end, Box::new(|out| out.write_all(b"state"))).expect("checkpoint");
    journal.run_pending();
    let written = journal.poll().expect("poll").checkpoint.expect("written");
    written.1.expect("a checkpoint");
    drop(journal);
    let (journal, _) = open(&disk).expect("nothing is missing");
    assert_eq!(journal.next_lsn(), end);
}
