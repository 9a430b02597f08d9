//! A small log at its limits: whatever clients send and whatever time brings, the room for
//! acknowledgements stays.
//!
//! Lives here: a ring that cannot turn as fast as it is asked to. Not here: a full disk
//! (`durability.rs`), calls to the disk that fail (`faults.rs`).

use bytes::Bytes;
use journal::disk::FaultyDisk;
use model::{DeclareQueue, Envelope, Millis, QueueOptions, QueueSpec, Request, SessionId, Ticket};

use crate::rig::{Rig, Seen, journal_options, message};

/// The smallest segments that there are.
const SEGMENT_BYTES: u64 = 64 * 1024;

fn small() -> Rig {
    let journal = journal::Options {
        segment_bytes: SEGMENT_BYTES,
        segments_max: 5,
        checkpoint_bytes: SEGMENT_BYTES / 2,
        ..journal_options()
    };
    Rig::open_at(FaultyDisk::default(), journal, Millis(1_000_000)).expect("the node opens")
}

/// Messages in a queue.
fn ready(rig: &mut Rig, id: SessionId, name: &str) -> u64 {
    rig.see(id);
    rig.declare(id, name, true);
    rig.settle();
    let seen = rig.see(id);
    let found = seen.iter().find_map(|one| match one {
        Seen::Queue(ready) => Some(*ready),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{seen:?}"))
}

/// Promise: P13.
#[test]
fn messages_that_die_together_leave_room_for_acknowledgements() {
    const COUNT: u64 = 400;
    let mut rig = small();
    let id = rig.session();
    rig.declare(id, "dead", true);
    let options = QueueOptions {
        message_ttl_ms: Some(3_600_000),
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some(Bytes::from_static(b"dead")),
        ..QueueOptions::default()
    };
    let spec = QueueSpec { is_durable: true, options, ..QueueSpec::default() };
    let name = Bytes::from_static(b"brief");
    rig.ask(id, Request::DeclareQueue(Box::new(DeclareQueue { name, spec })));
    for _ in 0..COUNT {
        rig.publish(id, "brief", &[7; 2_000]);
        rig.settle();
    }
    const { assert!(COUNT * 2_000 > 2 * 5 * SEGMENT_BYTES, "more than the ring holds") };
    rig.now = rig.now.plus(2 * 3_600_000);
    // All of them are due in one turn.
    for _ in 0..COUNT {
        rig.settle();
    }
    assert_eq!(ready(&mut rig, id, "dead"), COUNT);
}

/// Promise: P13.
#[test]
fn what_many_publishers_send_at_once_leaves_room_for_acknowledgements() {
    const EACH: usize = 40;
    let mut rig = small();
    let owner = rig.session();
    rig.declare(owner, "work", true);
    rig.settle();
    let publishers: Vec<SessionId> = (0..12).map(|_| rig.session()).collect();
    for id in &publishers {
        // As one read of its socket gives them; by itself more than is left in the end.
        let publish = || Request::Publish(message("work", &[7; 1_000]));
        let envelope = |_| Envelope { channel: 1, ticket: Ticket(9), request: publish() };
        let mut batch: Vec<Envelope> = (0..EACH).map(envelope).collect();
        rig.node.submit(rig.now, *id, &mut batch);
    }
    rig.settle();
    let (mut published, mut refused) = (0, 0);
    for id in &publishers {
        for seen in rig.see(*id) {
            match seen {
                Seen::Published(count) => published += u64::from(count),
                Seen::Other(text) if text.contains("Rejected") => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(published + refused, (publishers.len() * EACH) as u64, "all are answered");
    assert!(published * 1_000 > 2 * SEGMENT_BYTES && refused > 0, "{published}, {refused}");
    assert_eq!(ready(&mut rig, owner, "work"), published);
    rig.consume(owner, "work", 1_000);
    rig.settle();
    rig.see_all(owner);
    rig.ask(owner, Request::Ack { tag: 0, is_multiple: true });
    rig.settle();
    assert_eq!(ready(&mut rig, owner, "work"), 0);
    rig.publish(publishers[0], "work", b"again");
    rig.settle();
    assert!(rig.see(publishers[0]).contains(&Seen::Published(1)));
}
