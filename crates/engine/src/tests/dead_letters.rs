//! Where rejected, expired and surplus messages go, what their headers say, and that a crash in
//! between neither loses nor doubles one.

use super::*;
use model::QueueKind;
use model::table::{self, Value, put_field, put_value};

/// Queue `q` whose dead letters go to queue `dead`.
fn mourned(world: &mut World, options: &QueueOptions) {
    world.durable("dead");
    let options = QueueOptions {
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some("dead".into()),
        ..options.clone()
    };
    world.declare("q", durable(options));
}

/// The `x-death` entries as (queue, reason, count).
fn deaths(seen: &Seen) -> Vec<(String, String, i64)> {
    let list = Properties::parse(&seen.properties).unwrap();
    let Some(Value::Array(content)) = list.header(b"x-death") else { panic!("no x-death") };
    let text = |entry: &[u8], name: &[u8]| {
        let value = table::find(entry, name).unwrap();
        String::from_utf8_lossy(value.as_text().unwrap()).into_owned()
    };
    table::items(content)
        .map(|item| {
            let Value::Table(entry) = item else { panic!("not a table") };
            let count = table::find(entry, b"count").unwrap().as_integer().unwrap();
            (text(entry, b"queue"), text(entry, b"reason"), count)
        })
        .collect()
}

#[test]
fn a_rejected_message_moves_in_one_group() {
    let mut world = World::new();
    mourned(&mut world, &QueueOptions::default());
    world.put("q", "x");
    let tag = world.get("q").unwrap().tag;
    let before = world.tape.records.len();
    world.release(BOB, tag, false);
    let group: Vec<_> =
        world.tape.records[before..].iter().map(|record| (record.1, record.2)).collect();
    assert_eq!(group, [(record::MESSAGE, true), (record::SETTLE, false)]);
    world.check_recovery();
    let seen = world.get("dead").unwrap();
    assert_eq!((seen.body.as_str(), seen.routing_key.as_str()), ("x", "dead"));
    assert_eq!(deaths(&seen), [("q".into(), "rejected".into(), 1)]);
    for (name, value) in [
        ("x-first-death-queue", "q"),
        ("x-first-death-reason", "rejected"),
        ("x-first-death-exchange", ""),
        ("x-last-death-queue", "q"),
        ("x-last-death-reason", "rejected"),
    ] {
        assert_eq!(seen.header(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn until_it_is_read_a_dead_message_is_still_in_its_queue() {
    let mut world = World::new();
    mourned(&mut world, &QueueOptions::default());
    world.put("q", "x");
    let tag = world.get("q").unwrap().tag;
    world.serves_reads = false;
    world.release(BOB, tag, false);
    assert_eq!(world.reads.len(), 1);
    world.check_recovery();
    world.serves_reads = true;
    world.restart();
    assert_eq!(world.get("q").unwrap().body, "x");
}

/// Promise: P6.
#[test]
fn a_condemned_message_of_a_commit_dies_after_a_restart_too() {
    let mut world = World::new();
    mourned(&mut world, &QueueOptions::default());
    world.put("q", "x");
    let tag = world.get("q").unwrap().tag;
    world.serves_reads = false;
    let drop = Op::Release { tag, is_multiple: false, is_requeue: false };
    world.done(BOB, Request::Commit(vec![drop]));
    world.check_recovery();
    world.serves_reads = true;
    world.restart();
    assert_eq!(world.ready("q"), 0);
    assert_eq!(world.get("dead").unwrap().body, "x");
    assert_eq!(world.engine.next_deadline(), None);
    world.check_recovery();
}

#[test]
fn without_an_exchange_dead_messages_are_dropped() {
    let mut world = World::new();
    world.durable("q");
    let options =
        QueueOptions { dead_letter_exchange: Some("gone".into()), ..QueueOptions::default() };
    world.declare("r", durable(options));
    for queue in ["q", "r"] {
        world.put(queue, "x");
        let tag = world.get(queue).unwrap().tag;
        world.release(BOB, tag, false);
        assert_eq!(world.column(queue, "messages"), 0);
    }
    assert_eq!(world.engine.usage(Lsn::ZERO..Lsn(u64::MAX)).records, 0);
    world.check_recovery();
}

#[test]
fn counts_rise_and_the_newest_stands_first() {
    let mut world = World::new();
    // a -> b -> a by rejection and expiry.
    let to = |key: &str, ttl| {
        durable(QueueOptions {
            dead_letter_exchange: Some(Bytes::new()),
            dead_letter_routing_key: Some(Bytes::copy_from_slice(key.as_bytes())),
            message_ttl_ms: ttl,
            ..QueueOptions::default()
        })
    };
    world.declare("a", to("b", None));
    world.declare("b", to("a", Some(50)));
    world.put("a", "x");
    for round in 1..=3 {
        let tag = world.get("a").unwrap().tag;
        world.release(BOB, tag, false);
        assert_eq!(world.ready("b"), 1, "round {round}");
        world.tick(world.now + 50);
    }
    let seen = world.get("a").unwrap();
    let expected = [("b".into(), "expired".into(), 3), ("a".into(), "rejected".into(), 3)];
    assert_eq!(deaths(&seen), expected);
    assert_eq!(seen.header("x-first-death-reason").as_deref(), Some("rejected"));
    assert_eq!(seen.header("x-last-death-reason").as_deref(), Some("expired"));
    world.check_recovery();
}

/// Promise: P6.
#[test]
fn a_cycle_without_a_rejection_ends() {
    let mut world = World::new();
    let options = QueueOptions {
        dead_letter_exchange: Some(Bytes::new()),
        message_ttl_ms: Some(10),
        ..QueueOptions::default()
    };
    world.declare("q", durable(options));
    world.put("q", "x");
    world.tick(world.now + 10);
    assert_eq!(world.column("q", "messages"), 0);
    world.check_recovery();
}

#[test]
fn expiration_is_removed_and_remembered_and_other_headers_stay_exact() {
    let mut world = World::new();
    mourned(&mut world, &QueueOptions::default());
    let mut headers = Vec::new();
    // `I`, a 32-bit integer: must not come back as a 64-bit one.
    headers.extend_from_slice(b"\x01nI\x00\x00\x00\x07");
    let mut copies = Vec::new();
    put_value(&mut copies, Value::Text(b"copy"));
    put_field(&mut headers, b"CC", Value::Array(&copies));
    let mut message = publish("", "q", "x");
    message.properties = Builder::new()
        .with(Property::Headers, headers)
        .with(Property::Expiration, &b"10"[..])
        .with(Property::Priority, vec![4])
        .build();
    message.options.expiration_ms = Some(10);
    message.options.priority = 4;
    world.send(ALICE, 1, Request::Publish(message));
    world.tick(world.now + 10);
    let seen = world.get("dead").unwrap();
    let list = Properties::parse(&seen.properties).unwrap();
    assert!(!list.has(Property::Expiration) && list.priority() == Some(4));
    let table = list.headers().unwrap();
    assert!(table.windows(7).any(|bytes| bytes == b"\x01nI\0\0\0\x07"));
    assert_eq!(list.header(b"CC"), None, "a new routing key replaces the copies");
    let Some(Value::Array(content)) = list.header(b"x-death") else { panic!("no x-death") };
    let Some(Value::Table(entry)) = table::items(content).next() else { panic!("no entry") };
    assert_eq!(table::find(entry, b"original-expiration"), Some(Value::Text(b"10")));
    let Some(Value::Array(keys)) = table::find(entry, b"routing-keys") else { panic!("no keys") };
    let keys: Vec<_> = table::items(keys).collect();
    assert_eq!(keys, [Value::Text(b"q"), Value::Text(b"copy")]);
    world.tick(world.now + 100_000);
    assert_eq!(world.column("dead", "messages"), 1, "it does not expire again");
}

/// Promise: P6.
#[test]
fn a_message_that_comes_back_too_often_dies() {
    let mut world = World::new();
    let kind = QueueKind::Quorum;
    mourned(&mut world, &QueueOptions { delivery_max: Some(2), kind, ..QueueOptions::default() });
    world.put("q", "x");
    for expected in [None, Some(1), Some(2)] {
        let seen = world.get("q").unwrap();
        assert_eq!(seen.returns, expected);
        world.release(BOB, seen.tag, true);
        world.check_recovery();
    }
    assert_eq!(deaths(&world.get("dead").unwrap())[0].1, "delivery_limit");
}

/// Promise: P6.
#[test]
fn the_default_limit_never_drops_silently() {
    let mut world = World::new();
    let options = QueueOptions { kind: QueueKind::Quorum, ..QueueOptions::default() };
    world.declare("lone", durable(options.clone()));
    mourned(&mut world, &options);
    for queue in ["lone", "q"] {
        world.put(queue, "x");
        for _ in 0..21 {
            let tag = world.get(queue).unwrap().tag;
            world.release(BOB, tag, true);
        }
    }
    assert_eq!((world.ready("lone"), world.ready("q"), world.ready("dead")), (1, 0, 1));
    world.restart();
    assert_eq!(world.get("lone").unwrap().returns, Some(21));
}

#[test]
fn volatile_queues_dead_letter_too() {
    let mut world = World::new();
    world.durable("dead");
    let options = QueueOptions {
        dead_letter_exchange: Some("amq.fanout".into()),
        length_max: Some(1),
        ..QueueOptions::default()
    };
    world.bind("amq.fanout", "dead", "");
    world.declare("v", QueueSpec { options, ..QueueSpec::default() });
    world.put("v", "1");
    world.put("v", "2");
    let seen = world.get("dead").unwrap();
    assert_eq!((seen.body.as_str(), seen.routing_key.as_str()), ("1", "v"));
    assert_eq!(deaths(&seen)[0].1, "maxlen");
    world.check_recovery();
}

#[test]
fn thousands_expire_without_thousands_of_reads_at_once() {
    let mut world = World::new();
    mourned(&mut world, &QueueOptions { message_ttl_ms: Some(10), ..QueueOptions::default() });
    for index in 0..10_000 {
        world.put("q", &index.to_string());
    }
    world.serves_reads = false;
    world.tick(world.now + 10);
    assert_eq!(world.reads.len(), 256);
    world.now += 1;
    assert!(world.get("q").is_none(), "what expired is not handed out");
    world.serves_reads = true;
    for read in std::mem::take(&mut world.reads) {
        let payload = world.tape.payload(read.lsn);
        let what = Resume::Record { token: read.token, lsn: read.lsn, payload: &payload };
        let at = world.stamp();
        let mut out = Effects::default();
        world.engine.resume(at, what, &mut world.tape, &mut out);
        world.take_in(out);
    }
    world.tick(world.now);
    assert_eq!((world.column("q", "messages_ready"), world.ready("dead")), (0, 10_000));
    assert_eq!(world.get("dead").unwrap().body, "0");
    world.check_recovery();
}

/// Promise: P3, P6.
#[test]
fn a_message_that_dies_of_its_last_return_counts_the_same_after_a_restart() {
    let mut world = World::new();
    mourned(&mut world, &QueueOptions { delivery_max: Some(1), ..QueueOptions::default() });
    world.put("q", "x");
    let tag = world.get("q").unwrap().tag;
    world.release(BOB, tag, true);
    world.serves_reads = false;
    let tag = world.get("q").unwrap().tag;
    world.release(BOB, tag, true);
    assert_eq!(world.reads.len(), 1);
    world.check_recovery();
}
