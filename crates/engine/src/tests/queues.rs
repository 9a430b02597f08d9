//! Queues as a whole: limits and what happens at them, exclusive and auto-delete queues, deleting
//! and purging. Expiry is `timing.rs`.

use super::*;
use model::Overflow;

fn limited(length: u64, overflow: Overflow) -> QueueSpec {
    durable(QueueOptions { length_max: Some(length), overflow, ..QueueOptions::default() })
}

fn confirmed(queue: &str, body: &str) -> Request {
    let mut message = publish("", queue, body);
    message.options.wants_confirm = true;
    Request::Publish(message)
}

#[test]
fn a_full_queue_drops_its_head() {
    let mut world = World::new();
    world.declare("q", limited(2, Overflow::DropHead));
    for body in ["1", "2", "3", "4"] {
        world.put("q", body);
    }
    assert_eq!(world.ready("q"), 2);
    world.check_recovery();
    assert_eq!(world.get("q").unwrap().body, "3");
}

#[test]
fn bytes_are_limited_too() {
    let mut world = World::new();
    let options = QueueOptions { bytes_max: Some(10), ..QueueOptions::default() };
    world.declare("q", durable(options));
    for body in ["12345", "67890", "x"] {
        world.put("q", body);
    }
    assert_eq!(world.column("q", "message_bytes_ready"), 6);
    assert_eq!(world.get("q").unwrap().body, "67890");
}

#[test]
fn a_full_queue_may_reject_and_the_others_still_get_it() {
    let mut world = World::new();
    world.declare("full", limited(0, Overflow::RejectPublish));
    world.durable("other");
    world.bind("amq.fanout", "full", "");
    world.bind("amq.fanout", "other", "");
    let mut message = publish("amq.fanout", "", "x");
    message.options.wants_confirm = true;
    assert!(matches!(world.ask(ALICE, Request::Publish(message)), Reply::Rejected));
    assert_eq!((world.ready("full"), world.ready("other")), (0, 1));
    world.check_recovery();
}

/// Promise: P1.
#[test]
fn a_queue_that_refuses_publishes_never_drops_what_comes_back() {
    for overflow in [Overflow::RejectPublish, Overflow::RejectPublishDeadLetter] {
        let mut world = World::new();
        world.declare("q", limited(1, overflow));
        world.consume(BOB, "q", 1);
        for body in ["1", "2", "3"] {
            world.put("q", body);
        }
        assert_eq!(world.bodies(), ["1", "2", "3"]);
        world.close(BOB);
        assert_eq!(world.ready("q"), 3, "{overflow:?}");
        assert!(matches!(world.ask(ALICE, confirmed("q", "4")), Reply::Rejected));
        world.check_recovery();
    }
}

#[test]
fn a_rejected_message_may_be_dead_lettered() {
    let mut world = World::new();
    world.durable("dead");
    let mut spec = limited(1, Overflow::RejectPublishDeadLetter);
    spec.options.dead_letter_exchange = Some(Bytes::new());
    spec.options.dead_letter_routing_key = Some("dead".into());
    world.declare("q", spec);
    world.put("q", "kept");
    assert!(matches!(world.ask(ALICE, confirmed("q", "refused")), Reply::Rejected));
    let dead = world.get("dead").unwrap();
    assert_eq!(dead.body, "refused");
    assert_eq!(dead.header("x-first-death-reason").as_deref(), Some("maxlen"));
    assert_eq!(world.ready("q"), 1);
    world.check_recovery();
}

#[test]
fn memory_for_volatile_queues_is_limited() {
    let limits = Limits { volatile_bytes_max: 1000, ..Limits::default() };
    let mut world = World::with_limits(limits);
    world.declare("v", QueueSpec::default());
    let body = "x".repeat(600);
    world.put("v", &body);
    assert!(matches!(world.ask(ALICE, confirmed("v", &body)), Reply::Rejected));
    let refusal = world.refusal(ALICE, Request::Publish(publish("", "v", &body)));
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal:?}");
    let tag = world.get("v").unwrap().tag;
    world.ack(BOB, tag);
    world.put("v", &body);
    assert_eq!(world.ready("v"), 1);
}

#[test]
fn an_exclusive_queue_is_its_owners_and_goes_with_it() {
    let mut world = World::new();
    let spec = QueueSpec { is_exclusive: true, is_durable: true, ..QueueSpec::default() };
    world.declare("mine", spec.clone());
    for request in [
        declare("mine", spec),
        Request::LookupQueue("mine".into()),
        Request::Consume(Box::new(consume("mine", 1))),
        Request::Get { queue: "mine".into(), no_ack: true },
        Request::PurgeQueue("mine".into()),
        Request::Bind(Box::new(binding("amq.fanout", "mine", ""))),
        Request::DeleteQueue { name: "mine".into(), if_unused: false, if_empty: false },
    ] {
        let refusal = world.refusal(BOB, request);
        assert_eq!(refusal, Refusal::Locked { queue: "mine".into() });
    }
    world.put("mine", "x");
    assert_eq!(world.ready("mine"), 1);
    world.close(ALICE);
    assert!(world.row("mine").is_none());
    assert_eq!(world.engine.state.holdings.volatile_bytes, 0);
    assert!(world.tape.records.is_empty(), "{:?}", world.tape.kinds());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut world = World::new();
    let spec = QueueSpec { is_durable: true, is_auto_delete: true, ..QueueSpec::default() };
    world.declare("q", spec);
    world.put("q", "x");
    world.consume(ALICE, "q", 1);
    world.consume(BOB, "q", 1);
    world.done(ALICE, Request::Cancel(ConsumerId(1)));
    assert!(world.row("q").is_some());
    world.close(BOB);
    assert!(world.row("q").is_none());
    world.check_state();
    // What was still out is settled by its own channel, quietly.
    world.ack(ALICE, 1);
    assert_eq!(world.engine.usage(Lsn::ZERO..Lsn(u64::MAX)).records, 0);
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut world = World::new();
    let spec = ExchangeSpec { is_auto_delete: true, ..exchange_spec(ExchangeKind::Fanout) };
    world.done(ALICE, declare_exchange("x", spec));
    world.durable("q");
    world.declare("v", QueueSpec::default());
    world.bind("x", "q", "");
    world.bind("x", "v", "");
    world.done(ALICE, Request::Unbind(Box::new(binding("x", "q", ""))));
    world.check_recovery();
    world.done(ALICE, Request::LookupExchange("x".into()));
    let name = "v".into();
    world.done(ALICE, Request::DeleteQueue { name, if_unused: false, if_empty: false });
    world.refusal(ALICE, Request::LookupExchange("x".into()));
    world.check_recovery();
}

#[test]
fn deleting_a_queue_tells_its_consumers() {
    let mut world = World::new();
    world.durable("q");
    world.put("q", "1");
    world.put("q", "2");
    world.credit(BOB, 1);
    world.consume(BOB, "q", 5);
    world.outputs.clear();
    let name = Bytes::from_static(b"q");
    world.send(ALICE, 1, Request::DeleteQueue { name, if_unused: false, if_empty: false });
    let [deleted, cancelled] = &world.outputs[..] else { panic!("{:?}", world.outputs) };
    assert!(matches!(cancelled.push, Push::Cancelled { channel: 1, consumer: ConsumerId(5) }));
    let Push::Reply { reply: Reply::Deleted { messages }, .. } = deleted.push else {
        panic!("{deleted:?}")
    };
    assert_eq!(messages, 1);
    world.check_state();
    world.done(BOB, Request::Cancel(ConsumerId(5)));
    world.ack(BOB, 1);
    assert!(world.engine.usage(Lsn::ZERO..Lsn(u64::MAX)).records == 0);
}

#[test]
fn deletion_conditions_are_kept() {
    let mut world = World::new();
    world.durable("q");
    world.put("q", "x");
    let delete =
        |if_unused, if_empty| Request::DeleteQueue { name: "q".into(), if_unused, if_empty };
    assert!(matches!(world.refusal(ALICE, delete(false, true)), Refusal::NotEmpty { .. }));
    world.consume(BOB, "q", 1);
    assert!(matches!(world.refusal(ALICE, delete(true, false)), Refusal::InUse { .. }));
    world.done(ALICE, delete(false, false));
    world.done(ALICE, delete(true, true));
}

#[test]
fn purging_takes_ready_messages_only() {
    let mut world = World::new();
    world.durable("q");
    for index in 0..5 {
        world.put("q", &index.to_string());
    }
    let first = world.get("q").unwrap();
    let second = world.get("q").unwrap();
    world.release(BOB, first.tag, true);
    let reply = world.ask(ALICE, Request::PurgeQueue("q".into()));
    assert!(matches!(reply, Reply::Deleted { messages: 4 }), "{reply:?}");
    world.check_recovery();
    world.release(BOB, second.tag, true);
    assert_eq!(world.get("q").unwrap().body, "1");
    world.check_recovery();
}

#[test]
fn many_idle_queues_are_small() {
    assert!(size_of::<crate::queue::Queue>() <= 256, "{}", size_of::<crate::queue::Queue>());
}
