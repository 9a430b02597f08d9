//! What happens by itself: messages and queues that expire, messages that are held back.

use super::*;
use crate::record;

fn delayed_exchange(world: &mut World) {
    let spec = ExchangeSpec { is_delayed: true, ..exchange_spec(ExchangeKind::Direct) };
    world.done(ALICE, declare_exchange("later", spec));
    world.durable("q");
    world.bind("later", "q", "k");
}

fn delayed(body: &str, delay_ms: u64) -> Request {
    let mut message = publish("later", "k", body);
    message.options.delay_ms = Some(delay_ms);
    Request::Publish(message)
}

/// Promise: P8.
#[test]
fn the_shorter_time_to_live_wins_and_never_early() {
    let mut world = World::new();
    let options = QueueOptions { message_ttl_ms: Some(100), ..QueueOptions::default() };
    world.declare("q", durable(options));
    let start = world.now;
    let mut short = publish("", "q", "short");
    short.options.expiration_ms = Some(40);
    world.send(ALICE, 1, Request::Publish(short));
    world.put("q", "long");
    assert_eq!(world.engine.next_deadline(), Some(Millis(start + 40)));
    world.tick(start + 39);
    assert_eq!(world.ready("q"), 2);
    world.tick(start + 40);
    assert_eq!(world.ready("q"), 1);
    world.check_recovery();
    world.tick(start + 100);
    assert_eq!(world.ready("q"), 0);
    assert_eq!(world.engine.next_deadline(), None);
    world.check_recovery();
}

#[test]
fn zero_means_now_or_never() {
    let mut world = World::new();
    world.durable("q");
    let message = || {
        let mut message = publish("", "q", "now");
        message.options.expiration_ms = Some(0);
        Request::Publish(message)
    };
    world.send(ALICE, 1, message());
    assert_eq!(world.column("q", "messages"), 0);
    world.consume(BOB, "q", 1);
    world.send(ALICE, 1, message());
    assert_eq!(world.bodies(), ["now"]);
}

#[test]
fn an_expired_message_is_never_delivered_even_without_a_tick() {
    let mut world = World::new();
    let options = QueueOptions { message_ttl_ms: Some(10), ..QueueOptions::default() };
    world.declare("q", durable(options));
    world.put("q", "old");
    world.now += 11;
    world.put("q", "new");
    assert_eq!(world.get("q").unwrap().body, "new");
    world.check_recovery();
}

#[test]
fn a_message_expires_behind_others_only_when_it_is_first() {
    let mut world = World::new();
    world.durable("q");
    world.put("q", "stays");
    let mut short = publish("", "q", "short");
    short.options.expiration_ms = Some(5);
    world.send(ALICE, 1, Request::Publish(short));
    world.tick(world.now + 100);
    assert_eq!(world.ready("q"), 2);
    let first = world.get("q").unwrap();
    assert_eq!((first.body.as_str(), world.ready("q")), ("stays", 0));
    assert!(world.get("q").is_none());
    world.release(BOB, first.tag, true);
    assert_eq!(world.get("q").unwrap().body, "stays");
}

/// Promise: P8.
#[test]
fn time_to_live_survives_a_restart() {
    let mut world = World::new();
    let options = QueueOptions { message_ttl_ms: Some(100), ..QueueOptions::default() };
    world.declare("q", durable(options));
    world.put("q", "x");
    let due = world.now + 100;
    world.restart();
    assert_eq!(world.engine.next_deadline(), Some(Millis(due)));
    world.tick(due);
    assert_eq!(world.ready("q"), 0);
}

#[test]
fn an_unused_queue_deletes_itself_with_its_content() {
    let mut world = World::new();
    world.durable("dead");
    let options = QueueOptions {
        expires_ms: Some(100),
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some("dead".into()),
        ..QueueOptions::default()
    };
    world.declare("q", durable(options.clone()));
    world.put("q", "x");
    let start = world.now;
    world.tick(start + 60);
    world.declare("q", durable(options));
    world.tick(start + 100);
    assert!(world.row("q").is_some(), "declaring again is a use");
    world.now = start + 150;
    world.consume(BOB, "q", 1);
    world.tick(start + 1_000);
    world.done(BOB, Request::Cancel(ConsumerId(1)));
    world.tick(start + 1_099);
    assert!(world.row("q").is_some());
    world.tick(start + 1_100);
    assert!(world.row("q").is_none());
    assert_eq!(world.ready("dead"), 0, "contents of an expired queue are not dead-lettered");
    world.check_state();
}

#[test]
fn a_delayed_message_waits_and_is_not_copied() {
    let mut world = World::new();
    delayed_exchange(&mut world);
    let start = world.now;
    world.send(ALICE, 1, delayed("second", 200));
    world.send(ALICE, 1, delayed("first", 100));
    world.send(ALICE, 1, delayed("at once", 0));
    assert_eq!(world.get("q").unwrap().body, "at once");
    world.check_recovery();
    world.tick(start + 99);
    assert!(world.get("q").is_none());
    let records = world.tape.records.len();
    world.tick(start + 200);
    let new = &world.tape.kinds()[records..];
    assert_eq!(new, [record::PROMOTE, record::PROMOTE], "by reference");
    world.check_recovery();
    assert_eq!(world.get("q").unwrap().body, "first");
    assert_eq!(world.get("q").unwrap().body, "second");
}

/// Promise: P3.
#[test]
fn a_delayed_message_is_shown_only_once_its_coming_is_durable() {
    let mut world = World::new();
    delayed_exchange(&mut world);
    world.send(ALICE, 1, delayed("late", 100));
    world.consume(BOB, "q", 1);
    world.tick(world.now + 200);
    let seen = world.deliveries.last().unwrap();
    assert_eq!((seen.body.as_str(), seen.gate), ("late", world.tape.next));
}

/// Promise: P8.
#[test]
fn a_delayed_message_survives_a_restart_and_goes_where_bindings_lead_then() {
    let mut world = World::new();
    delayed_exchange(&mut world);
    world.declare("v", QueueSpec::default());
    world.send(ALICE, 1, delayed("x", 100));
    let due = world.now + 100;
    world.restart();
    world.durable("other");
    world.bind("later", "other", "k");
    world.declare("v", QueueSpec::default());
    world.bind("later", "v", "k");
    world.serves_reads = false;
    world.tick(due);
    world.check_recovery();
    let read = world.reads.remove(0);
    world.serves_reads = true;
    let payload = world.tape.payload(read.lsn);
    let what = Resume::Record { token: read.token, lsn: read.lsn, payload: &payload };
    let at = world.stamp();
    let mut out = Effects::default();
    world.engine.resume(at, what, &mut world.tape, &mut out);
    world.take_in(out);
    for queue in ["q", "other", "v"] {
        assert_eq!(world.get(queue).unwrap().body, "x", "{queue}");
    }
    assert_eq!(world.engine.next_deadline(), None);
    world.check_recovery();
}

#[test]
fn celerys_ladder_is_one_timer() {
    let mut world = World::new();
    let name = |level: usize| format!("celery_delayed_{level}");
    world.exchange("celery_delayed_delivery", ExchangeKind::Topic);
    for level in 0..28 {
        world.exchange(&name(level), ExchangeKind::Topic);
    }
    for level in 0..28_usize {
        let below = if level == 0 { "celery_delayed_delivery".to_owned() } else { name(level - 1) };
        let ttl = 1000 << level;
        let options = QueueOptions {
            message_ttl_ms: Some(ttl),
            dead_letter_exchange: Some(below.clone().into()),
            ..QueueOptions::default()
        };
        world.declare(&name(level), durable(options));
        let stars = "*.".repeat(27 - level);
        world.bind(&name(level), &name(level), &format!("{stars}1.#"));
        let mut pass = binding(&name(level), &below, &format!("{stars}0.#"));
        pass.kind = DestinationKind::Exchange;
        world.done(ALICE, Request::Bind(Box::new(pass)));
    }
    world.durable("tasks");
    world.bind("celery_delayed_delivery", "tasks", "#.tasks");
    let digits: Vec<_> = format!("{:028b}", 5).chars().map(String::from).collect();
    let key = format!("{}.tasks", digits.join("."));
    let start = world.now;
    let records = world.tape.records.len();
    world.send(ALICE, 1, Request::Publish(publish("celery_delayed_27", &key, "eta")));
    assert_eq!(world.tape.records.len(), records + 1);
    world.tick(start + 4_999);
    assert_eq!(world.ready("tasks"), 0);
    world.tick(start + 5_000);
    let seen = world.get("tasks").unwrap();
    assert_eq!((seen.exchange.as_str(), seen.routing_key), ("celery_delayed_delivery", key));
    world.check_recovery();
}

/// Promise: P7.
#[test]
fn a_live_owner_keeps_its_delivery_through_hours_and_clock_jumps() {
    let mut world = World::new();
    world.durable("q");
    world.put("q", "long");
    let delivery = world.get("q").unwrap();
    world.consume(ALICE, "q", 1);
    assert_eq!(world.bodies(), ["long"]);
    let start = world.now;
    let hour = 3_600_000;
    for now in [start + 6 * hour, start + 24 * hour, start, start + 10 * 365 * 24 * hour] {
        world.tick(now);
        assert_eq!(world.bodies(), [""; 0], "nobody else is given it");
        assert_eq!(world.column("q", "messages_unacknowledged"), 1);
    }
    world.send(BOB, 1, Request::Ack { tag: delivery.tag, is_multiple: false });
    assert_eq!(world.column("q", "messages"), 0);
}

/// Found by comparing with RabbitMQ: an expired message behind the first was still counted.
#[test]
fn what_has_expired_behind_a_message_is_not_counted_with_it() {
    let mut world = World::new();
    world.durable("q");
    world.put("q", "stays");
    let mut brief = publish("", "q", "brief");
    brief.options.expiration_ms = Some(0);
    world.send(ALICE, 1, Request::Publish(brief));
    world.outputs.clear();
    let at = world.stamp();
    let request = Request::Get { queue: "q".into(), no_ack: false };
    let envelope = Envelope { channel: 1, ticket: Ticket(9), request };
    let mut out = Effects::default();
    world.engine.apply(at, BOB, envelope, &mut world.tape, &mut out);
    let got = out.outputs.iter().find_map(|output| {
        if let Push::Got { ready, .. } = &output.push { Some(*ready) } else { None }
    });
    assert_eq!(got, Some(0));
    world.check_recovery();
}
