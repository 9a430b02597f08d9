//! "Yes" means durable; volatile things do not wait; a commit is there whole or not at all.

use bytes::Bytes;
use journal::disk::FaultyDisk;
use model::{Millis, Op, Request};
use replica::Alarm;

use crate::rig::{Rig, Seen, journal_options, message};

fn bodies(seen: &[Seen]) -> Vec<Vec<u8>> {
    let body = |one: &Seen| match one {
        Seen::Delivered { body, .. } => Some(body.clone()),
        _ => None,
    };
    seen.iter().filter_map(body).collect()
}

#[test]
fn a_confirm_and_a_delivery_wait_for_the_flush() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "work", true);
    rig.consume(id, "work", 10);
    rig.settle();
    rig.see(id);
    rig.publish(id, "work", b"one");
    assert_eq!(rig.see(id), [], "nothing before a turn");
    rig.node.commit(rig.now).unwrap();
    assert_eq!(rig.see(id), [], "nothing while the flush is under way");
    rig.node.run_pending();
    rig.node.commit(rig.now).unwrap();
    let seen = rig.see(id);
    assert!(seen.contains(&Seen::Published(1)), "{seen:?}");
    assert_eq!(bodies(&seen), [b"one".to_vec()]);
}

#[test]
fn volatile_queues_never_wait() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "durable", true);
    rig.settle();
    rig.see(id);
    let other = rig.session();
    rig.publish(id, "durable", b"waits");
    rig.declare(other, "volatile", false);
    rig.consume(other, "volatile", 10);
    rig.publish(other, "volatile", b"at once");
    let seen = rig.see(other);
    assert_eq!(bodies(&seen), [b"at once".to_vec()]);
    assert!(seen.contains(&Seen::Published(1)));
    assert_eq!(rig.see(id), []);
}

#[test]
fn confirms_of_one_flush_arrive_as_one() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "work", true);
    rig.settle();
    rig.see(id);
    for body in [b"a", b"b", b"c"] {
        rig.publish(id, "work", body);
    }
    rig.settle();
    assert_eq!(rig.see(id), [Seen::Published(3)]);
}

#[test]
fn what_was_confirmed_survives_and_what_was_acknowledged_does_not_return() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "work", true);
    for body in [b"1", b"2", b"3"] {
        rig.publish(id, "work", body);
    }
    rig.consume(id, "work", 10);
    rig.settle();
    rig.see(id);
    rig.ask(id, Request::Ack { tag: 2, is_multiple: false });
    rig.settle();
    let disk = rig.crash(3);
    let mut rig = Rig::open(disk, 8 << 20);
    let id = rig.session();
    rig.consume(id, "work", 10);
    rig.settle();
    let seen = rig.see_all(id);
    assert_eq!(bodies(&seen), [b"1".to_vec(), b"3".to_vec()], "{seen:?}");
    assert!(seen.iter().all(|one| !matches!(one, Seen::Delivered { is_redelivered: false, .. })));
}

#[test]
fn a_backlog_beyond_the_cache_is_read_back_in_order() {
    let mut rig = Rig::open(FaultyDisk::default(), 64 * 1024);
    let id = rig.session();
    rig.declare(id, "work", true);
    let body = |number: u32| {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(1024, 7);
        body
    };
    for number in 0..6000 {
        rig.publish(id, "work", &body(number));
        if number % 100 == 0 {
            rig.turn();
        }
    }
    rig.settle();
    rig.see(id);
    rig.consume(id, "work", 0);
    let found = bodies(&rig.see_all(id));
    assert_eq!(found.len(), 6000);
    for (number, found) in (0..).zip(found) {
        assert_eq!(found, body(number), "message {number}");
    }
}

#[test]
fn a_commit_is_whole_or_absent_whatever_operation_the_power_fails_in() {
    let mut clean = Rig::new();
    let id = clean.session();
    for queue in ["input", "result", "next"] {
        clean.declare(id, queue, true);
    }
    clean.publish(id, "input", b"job");
    clean.settle();
    drop(clean.see(id));
    let before = clean.disk.operations();
    let base = clean.crash(0);
    for step in 1..40 {
        let disk = base.fork();
        let mut rig = Rig::open(disk, 8 << 20);
        rig.disk.crash_at(rig.disk.operations() + step);
        let is_confirmed = try_commit(&mut rig);
        let mut after = Rig::open(rig.disk.after_power_loss(step), 8 << 20);
        let id = after.session();
        let counts = ["input", "result", "next"].map(|queue| {
            after.ask(id, Request::LookupQueue(Bytes::from_static(queue.as_bytes())));
            after.settle();
            let [Seen::Queue(count)] = after.see(id)[..] else { panic!("no queue {queue}") };
            count
        });
        let is_whole = counts == [0, 1, 1];
        assert!(is_whole || counts == [1, 0, 0], "half a commit at step {step}: {counts:?}");
        assert!(is_whole || !is_confirmed, "a confirmed commit is gone at step {step}");
    }
    assert!(before > 0);
}

/// Runs the step "acknowledge, store, publish" until the power fails; whether it was confirmed.
fn try_commit(rig: &mut Rig) -> bool {
    let turn = |rig: &mut Rig| {
        rig.now = rig.now.plus(10);
        let is_well = rig.node.commit(rig.now).is_ok();
        rig.node.run_pending();
        is_well && rig.node.commit(rig.now).is_ok()
    };
    let id = rig.node.open_session(replica::SessionInfo::default(), std::rc::Rc::new(|| {}));
    rig.ask(id, Request::OpenVhost(Bytes::from_static(b"/")));
    rig.ask(id, Request::OpenChannel { is_strict: true });
    rig.consume(id, "input", 1);
    for _ in 0..4 {
        if !turn(rig) {
            return false;
        }
    }
    if bodies(&rig.see(id)).is_empty() {
        return false;
    }
    let ops = vec![
        Op::Ack { tag: 1, is_multiple: false },
        Op::Publish(message("result", b"answer")),
        Op::Publish(message("next", b"job 2")),
    ];
    rig.ask(id, Request::Commit(ops));
    for _ in 0..4 {
        if !turn(rig) {
            break;
        }
    }
    rig.see(id).contains(&Seen::Done)
}

#[test]
fn an_alarm_blocks_publishers_and_nobody_else() {
    let mut rig = Rig::new();
    let publisher = rig.session();
    let reader = rig.session();
    rig.declare(publisher, "work", true);
    rig.settle();
    rig.see(publisher);
    rig.node.set_alarm(Alarm::Memory, true);
    rig.publish(publisher, "work", b"one");
    rig.settle();
    assert!(rig.see(publisher).contains(&Seen::Blocked(true)));
    assert!(rig.node.is_paused(publisher));
    rig.consume(reader, "work", 1);
    rig.settle();
    assert_eq!(bodies(&rig.see(reader)), [b"one".to_vec()]);
    assert!(!rig.node.is_paused(reader));
    rig.node.set_alarm(Alarm::Memory, false);
    rig.settle();
    assert!(rig.see(publisher).contains(&Seen::Blocked(false)));
    assert!(!rig.node.is_paused(publisher));
}

/// Promise: P13.
#[test]
fn a_full_disk_is_told_to_publishers_that_are_not_read_from() {
    let disk = FaultyDisk::default();
    let journal = journal::Options { free_bytes_min: 1 << 20, ..journal_options() };
    let mut rig = Rig::open_at(disk, journal, Millis(1_000_000)).expect("the node opens");
    let (publisher, reader) = (rig.session(), rig.session());
    rig.declare(publisher, "work", true);
    rig.publish(publisher, "work", b"one");
    rig.settle();
    rig.see(publisher);
    rig.disk.set_free_bytes(Some(1 << 19));
    rig.node.measure_disk();
    assert!(rig.node.is_paused(publisher) && !rig.node.is_paused(reader));
    assert_eq!(rig.see(publisher), [Seen::Blocked(true)]);
    rig.disk.set_free_bytes(None);
    rig.node.measure_disk();
    rig.settle();
    assert_eq!(rig.see(publisher), [Seen::Blocked(false)]);
    assert!(!rig.node.is_paused(publisher));
}

/// Promise: P13.
#[test]
fn publishers_that_come_to_a_full_disk_do_not_use_up_its_reserve() {
    let disk = FaultyDisk::default();
    let journal = journal::Options {
        segment_bytes: 1 << 20,
        segments_max: 6,
        free_bytes_min: 1,
        ..journal_options()
    };
    let mut rig = Rig::open_at(disk, journal, Millis(1_000_000)).expect("the node opens");
    let reader = rig.session();
    rig.declare(reader, "work", true);
    rig.settle();
    rig.disk.set_capacity(Some(rig.disk.used_bytes()));
    rig.node.measure_disk();
    let mut refused = 0;
    for _ in 0..200 {
        let late = rig.session();
        rig.publish(late, "work", &vec![7; 60_000]);
        rig.settle();
        let seen = rig.see(late);
        assert!(seen.contains(&Seen::Blocked(true)), "{seen:?}");
        let is_no = |one: &Seen| matches!(one, Seen::Other(text) if text.contains("Rejected"));
        refused += usize::from(seen.iter().any(is_no));
    }
    assert!((100..200).contains(&refused), "{refused} of 200");
    rig.see(reader);
    rig.consume(reader, "work", 1_000);
    rig.settle();
    let taken = bodies(&rig.see_all(reader)).len();
    assert_eq!(taken, 200 - refused);
    rig.ask(reader, Request::Ack { tag: 0, is_multiple: true });
    rig.settle();
}

/// Promise: P19.
#[test]
fn what_was_asked_before_the_end_is_answered_before_it() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "work", true);
    rig.settle();
    rig.see(id);
    rig.publish(id, "work", b"one");
    rig.node.shut_down("a test");
    assert!(rig.node.is_paused(id), "nothing more is read before the end is told");
    rig.publish(id, "work", b"was parsed already");
    rig.settle();
    let seen = rig.see(id);
    assert!(matches!(seen.as_slice(), [Seen::Published(2), Seen::Other(_)]), "{seen:?}");
    rig.ask(id, Request::CloseChannel);
    assert!(!rig.node.is_paused(id), "the goodbye is heard");
    let late = rig.node.open_session(replica::SessionInfo::default(), std::rc::Rc::new(|| {}));
    assert!(matches!(rig.see(late).as_slice(), [Seen::Other(_)]), "who comes now has to go");
}

#[test]
fn a_channel_closes_also_when_what_came_back_left_no_record() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "volatile", false);
    rig.publish(id, "volatile", b"one");
    rig.consume(id, "volatile", 1);
    rig.settle();
    assert_eq!(bodies(&rig.see_all(id)), [b"one".to_vec()]);
    rig.ask(id, Request::Release { tag: 1, is_multiple: false, is_requeue: true });
    rig.ask(id, Request::CloseChannel);
    rig.settle();
    let seen = rig.see_all(id);
    assert_eq!(seen.last(), Some(&Seen::Done), "{seen:?}");
}

/// Nobody waits for an acknowledgement, so only the clock sends it to the disk.
#[test]
fn an_acknowledgement_is_flushed_although_the_wall_clock_went_back() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "work", true);
    rig.publish(id, "work", b"one");
    rig.consume(id, "work", 10);
    rig.settle();
    rig.see(id);
    rig.ask(id, Request::Ack { tag: 1, is_multiple: false });
    rig.node.commit(rig.now).unwrap();
    rig.now = Millis(rig.now.0 - 3_600_000 / 4);
    let deadline = rig.node.commit(rig.now).unwrap().deadline;
    assert!(deadline.is_some_and(|at| at <= rig.now.plus(100)), "{deadline:?}");
    rig.settle();
    assert!(rig.node.is_quiet(), "the acknowledgement is durable");
    let disk = rig.crash(3);
    let mut rig = Rig::open(disk, 8 << 20);
    let id = rig.session();
    rig.consume(id, "work", 10);
    rig.settle();
    assert_eq!(bodies(&rig.see_all(id)), [] as [Vec<u8>; 0]);
}
