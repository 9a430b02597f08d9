//! Flushes that the node waits for itself: when it does, what a client sees of it, and that a fault
//! ends it as any other.

use std::io::ErrorKind;
use std::time::Duration;

use journal::disk::{FaultyDisk, Operation, Trouble};
use model::{Millis, Request, SessionId};

use crate::rig::{Rig, Seen, journal_options};

/// Quick flushes before the disk is trusted to be quick, and some.
const FLUSHES: u64 = 40;

/// A node that may wait for its disk, a durable queue, and one session that has been alone with
/// them for a while.
fn alone() -> (Rig, SessionId) {
    let wait = Duration::from_millis(1);
    let options = journal::Options { flush_wait_max: wait, ..journal_options() };
    let mut rig =
        Rig::open_at(FaultyDisk::default(), options, Millis(1_000_000)).expect("the node opens");
    let id = rig.session();
    rig.declare(id, "work", true);
    for _ in 0..FLUSHES {
        rig.publish(id, "work", b"before");
        rig.settle();
    }
    rig.see(id);
    (rig, id)
}

fn commit(rig: &mut Rig) {
    rig.node.commit(rig.now).expect("no fault");
}

#[test]
fn who_is_alone_is_answered_in_the_same_turn() {
    let (mut rig, id) = alone();
    rig.publish(id, "work", b"one");
    assert_eq!(rig.see(id), [], "nothing before the turn");
    commit(&mut rig);
    assert_eq!(rig.see(id), [Seen::Published(1)]);
    let disk = rig.crash(0);
    let mut rig = Rig::open_at(disk, journal_options(), Millis(2_000_000)).unwrap();
    let id = rig.session();
    rig.declare(id, "work", true);
    rig.settle();
    assert_eq!(rig.see(id), [Seen::Queue(FLUSHES + 1)], "a confirm outlives a power cut");
}

#[test]
fn while_another_session_asks_the_commit_thread_flushes() {
    let (mut rig, id) = alone();
    let other = rig.session();
    for _ in 0..20 {
        rig.now = rig.now.plus(4);
        rig.publish(id, "work", b"waits");
        rig.declare(other, "volatile", false);
        commit(&mut rig);
        assert_eq!(rig.see(id), [], "the flush is under way");
        assert_eq!(rig.see(other), [Seen::Queue(0)], "volatile things do not wait for it");
        rig.node.run_pending();
        commit(&mut rig);
        assert_eq!(rig.see(id), [Seen::Published(1)]);
    }
    rig.publish(id, "work", b"the first of a run");
    rig.settle();
    rig.see(id);
    rig.publish(id, "work", b"alone again");
    commit(&mut rig);
    assert_eq!(rig.see(id), [Seen::Published(1)]);
}

#[test]
fn a_large_batch_is_handed_over() {
    let (mut rig, id) = alone();
    for _ in 0..3 {
        rig.publish(id, "work", &[0; 16 * 1024]);
    }
    commit(&mut rig);
    assert_eq!(rig.see(id), [], "the flush is under way");
    rig.settle();
    assert_eq!(rig.see(id), [Seen::Published(3)]);
}

#[test]
fn what_nobody_waits_for_is_handed_over() {
    let (mut rig, id) = alone();
    rig.consume(id, "work", 1);
    rig.settle();
    let seen = rig.see(id);
    assert!(matches!(seen.last(), Some(Seen::Delivered { .. })), "{seen:?}");
    rig.ask(id, Request::Ack { tag: 1, is_multiple: false });
    rig.ask(id, Request::SetCredit { count: 0, is_channel_wide: false });
    rig.see(id);
    rig.now = rig.now.plus(1000);
    let before = rig.disk.operations();
    commit(&mut rig);
    assert_eq!(rig.disk.operations(), before, "this thread touched the disk");
}

#[test]
fn a_failed_flush_ends_it_like_any_other() {
    for operation in [Operation::Write, Operation::Sync] {
        let (mut rig, id) = alone();
        let (name, error) = ("log-".to_owned(), ErrorKind::Other);
        rig.disk.plan(Trouble { operation, name, after: 0, times: 1, error });
        rig.publish(id, "work", b"lost");
        let fault = rig.node.commit(rig.now).expect_err("the flush fails");
        assert!(fault.to_string().contains("failed to"), "{fault}");
        let operations = rig.disk.operations();
        for _ in 0..3 {
            let again = rig.node.commit(rig.now).expect_err("a fault is final");
            assert_eq!(again.to_string(), fault.to_string());
        }
        assert_eq!(rig.see(id), [], "no yes after it");
        assert_eq!(rig.disk.operations(), operations, "it touched the disk again");
    }
}
