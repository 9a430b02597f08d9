//! All or nothing: acknowledge the input, publish what comes next, in one group of records; and
//! what makes a commit be refused without leaving a trace.

use super::*;

fn ack(tag: u64) -> Op {
    Op::Ack { tag, is_multiple: false }
}

/// Promise: P2.
#[test]
fn a_commit_is_one_group() {
    let mut world = World::new();
    for queue in ["in", "out", "results"] {
        world.durable(queue);
    }
    world.put("in", "job");
    let tag = world.get("in").unwrap().tag;
    let before = world.tape.records.len();
    let ops = vec![
        Op::Publish(publish("", "results", "result")),
        ack(tag),
        Op::Publish(publish("", "out", "next")),
    ];
    world.outputs.clear();
    world.send(BOB, 1, Request::Commit(ops));
    let flags: Vec<bool> = world.tape.records[before..].iter().map(|record| record.2).collect();
    assert_eq!(flags, [true, true, false], "one atomic group");
    assert_eq!(world.outputs[0].gate, world.tape.next);
    assert_eq!(world.column("in", "messages"), 0);
    assert_eq!((world.ready("out"), world.ready("results")), (1, 1));
    world.check_recovery();
}

/// Promise: P2, P4.
#[test]
fn a_refused_commit_changes_nothing() {
    let mut world = World::new();
    world.durable("q");
    let options = QueueOptions {
        length_max: Some(1),
        overflow: model::Overflow::RejectPublish,
        ..QueueOptions::default()
    };
    world.declare("full", durable(options));
    world.put("q", "a");
    world.put("q", "b");
    let (one, two) = (world.get("q").unwrap().tag, world.get("q").unwrap().tag);
    let hash = world.engine.state_hash();
    let to = |exchange, key| Op::Publish(publish(exchange, key, "x"));
    for ops in [
        vec![ack(one), to("", "q"), ack(77)],
        vec![ack(one), ack(one)],
        vec![Op::Ack { tag: two, is_multiple: true }, ack(one)],
        vec![Op::Ack { tag: 0, is_multiple: true }, ack(one)],
        vec![ack(one), to("nowhere", "q")],
        vec![ack(one), to("", "full"), to("", "full")],
    ] {
        let text = format!("{ops:?}");
        world.refusal(BOB, Request::Commit(ops));
        assert_eq!(world.engine.state_hash(), hash, "{text}");
        assert_eq!(world.column("q", "messages_unacknowledged"), 2, "{text}");
    }
    let all = Op::Ack { tag: two, is_multiple: true };
    world.done(BOB, Request::Commit(vec![all, Op::Ack { tag: 0, is_multiple: true }]));
    assert_eq!(world.column("q", "messages"), 0);
}

#[test]
fn returns_and_drops_belong_to_it_too() {
    let mut world = World::new();
    world.durable("dead");
    let options = QueueOptions {
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some("dead".into()),
        ..QueueOptions::default()
    };
    world.declare("q", durable(options));
    for body in ["done", "back", "drop"] {
        world.put("q", body);
    }
    let tags: Vec<u64> = (0..3).map(|_| world.get("q").unwrap().tag).collect();
    let before = world.tape.records.len();
    let release = |tag, is_requeue| Op::Release { tag, is_multiple: false, is_requeue };
    let ops = vec![ack(tags[0]), release(tags[1], true), release(tags[2], false)];
    world.done(BOB, Request::Commit(ops));
    let kinds: Vec<u8> = world.tape.kinds()[before..].to_vec();
    assert_eq!(
        kinds,
        [record::SETTLE, record::RETURN, record::CONDEMN, record::MESSAGE, record::SETTLE]
    );
    assert_eq!(world.get("q").unwrap().body, "back");
    assert_eq!(world.get("dead").unwrap().body, "drop");
    world.check_recovery();
}

#[test]
fn a_commit_for_memory_only_waits_for_nobody() {
    let mut world = World::new();
    world.durable("elsewhere");
    world.declare("v", QueueSpec::default());
    world.outputs.clear();
    world.send(ALICE, 1, Request::Commit(vec![Op::Publish(publish("", "v", "x"))]));
    assert_eq!(world.outputs[0].gate, Lsn::ZERO);
    world.outputs.clear();
    world.send(ALICE, 1, Request::Commit(Vec::new()));
    assert_eq!(world.outputs[0].gate, Lsn::ZERO);
}

#[test]
fn unroutable_messages_of_a_commit_come_back_at_its_end() {
    let mut world = World::new();
    let mut message = publish("amq.direct", "nowhere", "x");
    message.options.is_mandatory = true;
    world.outputs.clear();
    world.send(ALICE, 1, Request::Commit(vec![Op::Publish(message)]));
    let replies: Vec<_> = world.outputs.iter().map(|output| format!("{:?}", output.push)).collect();
    assert!(replies[0].contains("Unroutable") && replies[1].contains("Done"), "{replies:?}");
}

#[test]
fn a_commit_has_limits() {
    let limits = Limits { commit_ops_max: 2, commit_bytes_max: 100, ..Limits::default() };
    let mut world = World::with_limits(limits);
    world.durable("q");
    let put = |body: &str| Op::Publish(publish("", "q", body));
    let many = Request::Commit(vec![put("1"), put("2"), put("3")]);
    assert!(matches!(world.refusal(ALICE, many), Refusal::LimitReached { .. }));
    let large = Request::Commit(vec![put(&"x".repeat(101))]);
    assert!(matches!(world.refusal(ALICE, large), Refusal::LimitReached { .. }));
    assert_eq!(world.ready("q"), 0);
}
