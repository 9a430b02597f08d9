//! Who gets the next message: credit, priorities, exclusive and single active consumers.

use super::*;

fn by_consumer(world: &mut World) -> Vec<(u32, String)> {
    world.deliveries.drain(..).map(|seen| (seen.consumer, seen.body)).collect()
}

fn with_priority(queue: &str, id: u32, priority: i32) -> Request {
    Request::Consume(Box::new(Consume { priority, ..consume(queue, id) }))
}

fn single_active(world: &mut World) {
    let options = QueueOptions { is_single_active_consumer: true, ..QueueOptions::default() };
    world.declare("q", durable(options));
}

#[test]
fn consumers_take_turns() {
    let mut world = World::new();
    world.durable("q");
    world.consume(ALICE, "q", 1);
    world.consume(BOB, "q", 2);
    for index in 0..4 {
        world.put("q", &index.to_string());
    }
    let consumers: Vec<u32> = by_consumer(&mut world).into_iter().map(|it| it.0).collect();
    assert_eq!(consumers, [1, 2, 1, 2]);
}

#[test]
fn credit_takes_effect_on_live_consumers() {
    let mut world = World::new();
    world.durable("q");
    world.credit(BOB, 1);
    world.consume(BOB, "q", 1);
    for index in 0..5 {
        world.put("q", &index.to_string());
    }
    assert_eq!(world.bodies(), ["0"]);
    world.credit(BOB, 3);
    assert_eq!(world.bodies(), ["1", "2"]);
    world.credit(BOB, 1);
    world.ack(BOB, 1);
    world.ack(BOB, 2);
    assert!(world.bodies().is_empty(), "one is still out");
    world.ack(BOB, 3);
    assert_eq!(world.bodies(), ["3"]);
    world.credit(BOB, 0);
    assert_eq!(world.bodies(), ["4"]);
}

#[test]
fn a_channel_wide_limit_holds_beside_the_other() {
    let mut world = World::new();
    world.durable("a");
    world.durable("b");
    world.done(BOB, Request::SetCredit { count: 3, is_channel_wide: true });
    world.credit(BOB, 2);
    world.consume(BOB, "a", 1);
    world.consume(BOB, "b", 2);
    for index in 0..3 {
        world.put("a", &format!("a{index}"));
    }
    for index in 0..3 {
        world.put("b", &format!("b{index}"));
    }
    assert_eq!(world.bodies(), ["a0", "a1", "b0"]);
    world.ack(BOB, 3);
    assert_eq!(world.bodies(), ["b1"]);
    world.ack(BOB, 1);
    let next = world.bodies();
    assert_eq!(next.len(), 1, "{next:?}");
    world.send(BOB, 1, Request::Ack { tag: 0, is_multiple: true });
    assert_eq!(world.bodies().len(), 1);
}

#[test]
fn no_ack_and_get_are_not_limited() {
    let mut world = World::new();
    world.durable("q");
    for index in 0..4 {
        world.put("q", &index.to_string());
    }
    world.credit(BOB, 1);
    assert!(world.get("q").is_some() && world.get("q").is_some());
    let request = Consume { no_ack: true, ..consume("q", 1) };
    world.done(BOB, Request::Consume(Box::new(request)));
    assert_eq!(world.bodies(), ["0", "1", "2", "3"]);
    assert_eq!(world.column("q", "messages"), 2);
    world.check_state();
    assert_eq!(world.engine.usage(Lsn::ZERO..Lsn(u64::MAX)).records, 4, "two are on their way");
    world.engine.taken(BOB, 10_000);
    world.check_recovery();
}

#[test]
fn higher_priorities_are_served_first() {
    let mut world = World::new();
    world.durable("q");
    world.credit(BOB, 1);
    world.credit(ALICE, 1);
    world.done(ALICE, with_priority("q", 1, 0));
    world.done(BOB, with_priority("q", 2, 10));
    for index in 0..3 {
        world.put("q", &index.to_string());
    }
    assert_eq!(by_consumer(&mut world), [(2, "0".into()), (1, "1".into())]);
    world.ack(BOB, 1);
    assert_eq!(by_consumer(&mut world), [(2, "2".into())]);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut world = World::new();
    world.durable("q");
    let exclusive =
        |id| Request::Consume(Box::new(Consume { is_exclusive: true, ..consume("q", id) }));
    world.done(BOB, exclusive(1));
    let refused = Refusal::ExclusiveConsumer { queue: "q".into() };
    let ordinary = Request::Consume(Box::new(consume("q", 2)));
    assert_eq!(world.refusal(ALICE, ordinary), refused);
    world.done(BOB, Request::Cancel(ConsumerId(1)));
    world.consume(ALICE, "q", 2);
    assert_eq!(world.refusal(BOB, exclusive(3)), refused);
}

/// Found by comparing with RabbitMQ: it was accepted.
#[test]
fn a_single_active_consumer_is_never_exclusive() {
    let mut world = World::new();
    single_active(&mut world);
    let queue = Bytes::from_static(b"q");
    let alone = Consume { is_exclusive: true, ..consume("q", 1) };
    let refusal = world.refusal(BOB, Request::Consume(Box::new(alone)));
    assert_eq!(refusal, Refusal::ExclusiveConsumer { queue });
    world.consume(BOB, "q", 2);
}

#[test]
fn a_single_active_consumer_gets_everything_until_it_ends() {
    let mut world = World::new();
    single_active(&mut world);
    world.consume(ALICE, "q", 1);
    world.consume(BOB, "q", 2);
    world.put("q", "a");
    world.put("q", "b");
    assert_eq!(by_consumer(&mut world), [(1, "a".into()), (1, "b".into())]);
    let refusal = world.refusal(BOB, Request::Get { queue: "q".into(), no_ack: true });
    assert!(matches!(refusal, Refusal::SingleActiveConsumer { .. }));
    world.close(ALICE);
    assert_eq!(by_consumer(&mut world), [(2, "a".into()), (2, "b".into())]);
    world.check_recovery();
}

#[test]
fn a_higher_priority_becomes_active_once_nothing_is_out() {
    let mut world = World::new();
    single_active(&mut world);
    world.credit(ALICE, 1);
    world.consume(ALICE, "q", 1);
    world.put("q", "a");
    world.put("q", "b");
    world.done(BOB, with_priority("q", 2, 5));
    assert_eq!(by_consumer(&mut world), [(1, "a".into())]);
    world.ack(ALICE, 1);
    assert_eq!(by_consumer(&mut world), [(2, "b".into())]);
}

#[test]
fn a_slow_session_is_paused_until_it_drains() {
    let limits = Limits { undelivered_bytes_max: 10_000, ..Limits::default() };
    let mut world = World::with_limits(limits);
    world.durable("q");
    let request = Consume { no_ack: true, ..consume("q", 1) };
    world.done(BOB, Request::Consume(Box::new(request)));
    for _ in 0..100 {
        world.put("q", &"x".repeat(1000));
    }
    let first = std::mem::take(&mut world.deliveries);
    assert!((9..=10).contains(&first.len()), "{}", first.len());
    let bytes = |seen: &[Seen]| seen.iter().map(|seen| u64::from(seen.bytes)).sum();
    assert!(!world.engine.taken(BOB, 0));
    assert!(world.engine.taken(BOB, bytes(&first)));
    let at = world.stamp();
    let mut out = Effects::default();
    world.engine.resume(at, Resume::Room(BOB), &mut world.tape, &mut out);
    world.take_in(out);
    assert_eq!(world.deliveries.len(), first.len());
}

#[test]
fn many_parked_consumers_cost_nothing_per_message() {
    let mut world = World::with_limits(Limits { consumers_max: 100_000, ..Limits::default() });
    world.durable("q");
    world.credit(BOB, 1);
    for id in 0..2_000 {
        world.consume(BOB, "q", id);
    }
    for index in 0..2_000 {
        world.put("q", &index.to_string());
    }
    world.bodies();
    for tag in 1..=2_000 {
        world.put("q", "more");
        world.ack(BOB, tag);
    }
    assert_eq!(world.bodies().len(), 2_000);
}
