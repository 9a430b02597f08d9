//! Persisted layouts as they were first released. `testdata/v1.txt` holds the records of a story
//! (`kind hex`, one per line) and the snapshot after it (`snapshot hex`). Every later release must
//! read both; while the version is 1 it also writes exactly these bytes. A new layout gets a new
//! kind or version and a new fixture beside this one.

use super::*;

const FIXTURE: &str = include_str!("../../testdata/v1.txt");

/// One of each kind of record.
fn story() -> World {
    let mut world = World::new();
    let admin = |it| Request::Admin(Box::new(it));
    world.done(ALICE, put_user("worker"));
    world.done(ALICE, put_user("gone"));
    world.done(ALICE, admin(Admin::DeleteUser("gone".into())));
    world.done(ALICE, admin(Admin::PutVhost("kept".into())));
    world.done(ALICE, admin(Admin::PutVhost("gone".into())));
    world.done(ALICE, admin(Admin::DeleteVhost("gone".into())));
    world.exchange("gone", ExchangeKind::Direct);
    let name = "gone".into();
    world.done(ALICE, Request::DeleteExchange { name, if_unused: false });
    let later = ExchangeSpec { is_delayed: true, ..exchange_spec(ExchangeKind::Fanout) };
    world.done(ALICE, declare_exchange("later", later));
    world.durable("gone");
    let name = "gone".into();
    world.done(ALICE, Request::DeleteQueue { name, if_unused: false, if_empty: false });
    let options = QueueOptions {
        priority_max: 3,
        message_ttl_ms: Some(60_000),
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some("dead".into()),
        ..QueueOptions::default()
    };
    world.declare("q", durable(options));
    world.durable("dead");
    world.bind("later", "q", "key");
    world.bind("amq.topic", "q", "a.#");
    world.done(ALICE, Request::Unbind(Box::new(binding("amq.topic", "q", "a.#"))));
    for index in 0..6 {
        let mut message = publish("", "q", &format!("body {index}"));
        message.options.priority = index % 2;
        message.options.expiration_ms = (index == 4).then_some(7_000);
        world.send(ALICE, 1, Request::Publish(message));
    }
    for delay in [5, 90_000] {
        let mut message = publish("later", "", "delayed");
        message.options.delay_ms = Some(delay);
        message.options.extra_keys = Some(Box::new(vec!["cc".into()]));
        world.send(ALICE, 1, Request::Publish(message));
    }
    world.tick(world.now + 5);
    let tags: Vec<u64> = (0..4).map(|_| world.get("q").unwrap().tag).collect();
    world.ack(BOB, tags[0]);
    world.release(BOB, tags[1], true);
    world.serves_reads = false;
    let tag = tags[2];
    let drop = Op::Release { tag, is_multiple: false, is_requeue: false };
    world.done(BOB, Request::Commit(vec![drop]));
    world
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn snapshot(engine: &Engine) -> Vec<u8> {
    let mut bytes = Vec::new();
    engine.snapshot().write(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_first_release_reads_back() {
    let mut engine = Engine::new(Limits::default());
    let mut next = Lsn::ZERO;
    let mut restored = None;
    for line in FIXTURE.lines() {
        let (kind, payload) = line.split_once(' ').unwrap();
        let payload = unhex(payload);
        if kind == "snapshot" {
            restored = Some(Engine::restore(&payload, Limits::default()).unwrap());
            continue;
        }
        engine.replay(next, kind.parse().unwrap(), &payload).unwrap();
        next = next.plus(16 + payload.len() as u64);
    }
    let expected = story().engine.state_hash();
    assert_eq!(engine.state_hash(), expected, "records");
    assert_eq!(restored.unwrap().state_hash(), expected, "snapshot");
}

#[test]
fn the_bytes_are_still_the_same() {
    let world = story();
    let records = world.tape.records.iter();
    let mut lines: Vec<String> =
        records.map(|(_, kind, _, payload)| format!("{kind} {}\n", hex(payload))).collect();
    lines.push(format!("snapshot {}\n", hex(&snapshot(&world.engine))));
    let text = lines.concat();
    assert_eq!(text, FIXTURE, "a layout changed; written now:\n{text}");
    let mut kinds = world.tape.kinds();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21, 32, 33, 34, 35], "one of each");
}
