//! Persisted layouts as they were released. A fixture of `testdata` holds the records of a story
//! (`kind hex`, one per line) and the snapshot after it (`snapshot hex`). Every later release must
//! read both; while the version stays it also writes exactly these bytes. A new layout gets a new
//! kind or version and a new fixture beside these: `v1.txt` is from before there were permissions,
//! `v2.txt` has them, `v3.txt` has jobs, `v4.txt` workers and results.

use model::{Enqueue, JobVerb, Policy, Results, StoreResult, Ties};

use super::jobs::Claimed;
use super::workers::{CAROL, store};
use super::*;

const FIRST: &str = include_str!("../../testdata/v1.txt");
const SECOND: &str = include_str!("../../testdata/v2.txt");
const THIRD: &str = include_str!("../../testdata/v3.txt");
const FIXTURE: &str = include_str!("../../testdata/v4.txt");

/// One of each kind of record but those of permissions.
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

/// The records of a fixture replayed, and its snapshot restored.
fn read_back(fixture: &str) -> (Engine, Engine) {
    let mut engine = Engine::new(Limits::default());
    let mut next = Lsn::ZERO;
    let mut restored = None;
    for line in fixture.lines() {
        let (kind, payload) = line.split_once(' ').unwrap();
        let payload = unhex(payload);
        if kind == "snapshot" {
            restored = Some(Engine::restore(&payload, Limits::default()).unwrap());
            continue;
        }
        engine.replay(next, kind.parse().unwrap(), &payload).unwrap();
        next = next.plus(16 + payload.len() as u64);
    }
    (engine, restored.unwrap())
}

/// The story, and every kind of permission.
fn story_with_permissions() -> World {
    let mut world = story();
    let admin = |it| Request::Admin(Box::new(it));
    let (user, vhost, exchange): (Bytes, Bytes, Bytes) =
        ("worker".into(), "/".into(), "amq.topic".into());
    for (vhost, read) in [("/", "^q$"), ("kept", "")] {
        let (configure, write) = ("^(q|x)-".into(), ".*".into());
        let permission = Permission { configure, write, read: Bytes::from_static(read.as_bytes()) };
        let (user, vhost) = (user.clone(), vhost.into());
        world.done(ALICE, admin(Admin::SetPermission { user, vhost, permission }));
    }
    for exchange in ["amq.topic", "later"] {
        let permission = TopicPermission { write: "^{username}-a".into(), read: ".*".into() };
        let (user, vhost, exchange) = (user.clone(), vhost.clone(), exchange.into());
        let set = Admin::SetTopicPermission { user, vhost, exchange, permission };
        world.done(ALICE, admin(set));
    }
    let vhost_kept = "kept".into();
    world.done(ALICE, admin(Admin::ClearPermission { user: user.clone(), vhost: vhost_kept }));
    let exchange = Some(exchange);
    world.done(ALICE, admin(Admin::ClearTopicPermission { user, vhost, exchange }));
    world
}

/// The story, permissions, and jobs in every state.
fn story_with_jobs() -> World {
    let mut world = story_with_permissions();
    world.serves_reads = true;
    for (rank, delay_s) in [(3, 0), (65_536, 0), (9, 30), (4, 0)] {
        let job = jobs::new_job("jobs", rank, "a job");
        world.done(ALICE, Request::Enqueue(Enqueue { delay_s, ..job }));
    }
    world.watch(BOB, "jobs");
    for verb in [JobVerb::Bury { rank: 7 }, JobVerb::Release { rank: 2, delay_s: 5 }] {
        let Claimed::Job(seen) = world.claim(BOB) else { panic!("nothing to claim") };
        world.done(BOB, Request::Job(seen.job.unwrap(), verb));
    }
    let job = jobs::new_job("kept", 1, "another");
    world.done(ALICE, Request::Enqueue(job));
    let ties = Ties {
        idempotency: Some("key".into()),
        idempotency_s: 100,
        group: Some("group".into()),
        after_group: Some("others".into()),
        concurrency: Some(("lane".into(), 2)),
    };
    for verb in [JobVerb::Delete, JobVerb::Look] {
        let job = jobs::new_job("jobs", 1, "tied");
        let ties = Some(Box::new(Ties { idempotency_s: 50, ..ties.clone() }));
        let id = world.enqueue(ALICE, Enqueue { ties, ..job });
        world.send(ALICE, 1, Request::Job(id, verb));
    }
    let job = jobs::new_job("kept", 1, "tied");
    world.enqueue(ALICE, Enqueue { ties: Some(Box::new(ties)), ..job });
    world.durable("kept");
    world.tick(world.now + 10_000);
    world
}

/// The story, jobs, and what workers and results leave behind.
fn story_with_workers() -> World {
    let mut world = story_with_jobs();
    world.hire(CAROL, "carol");
    for body in ["fails", "stays", "is done"] {
        world.enqueue(ALICE, jobs::new_job("work", 5, body));
    }
    for failure in [Some("engine_died"), None] {
        let held = world.take_one(CAROL, "work");
        world.give(CAROL, held, failure);
    }
    let held = world.take_one(CAROL, "work");
    world.finish(CAROL, held.job);
    for (key, ttl_s) in [("a", 0), ("b", 1000), ("gone", 0)] {
        let result = StoreResult { ttl_s, ..store(key, "v", Policy::LastWins) };
        world.done(ALICE, Request::Results(Box::new(Results::Put(result))));
    }
    world.done(ALICE, Request::Results(Box::new(Results::Delete("gone".into()))));
    world.close(CAROL);
    world.tick(world.now + 10_000);
    world
}

/// What an older release did not count is not in its snapshots.
fn without_totals(mut world: World) -> u64 {
    world.engine.state.done.jobs = 0;
    world.engine.state.queues.values_mut().for_each(|queue| queue.total = 0);
    world.engine.state_hash()
}

#[test]
fn the_first_release_reads_back() {
    let (replayed, restored) = read_back(FIRST);
    let mut world = story();
    // Nobody was restricted then.
    world.engine.state.users.values_mut().for_each(|user| user.is_unrestricted = true);
    assert_eq!(replayed.state_hash(), world.engine.state_hash(), "records");
    assert_eq!(restored.state_hash(), without_totals(world), "snapshot");
}

#[test]
fn the_second_layout_reads_back() {
    let (replayed, restored) = read_back(SECOND);
    let world = story_with_permissions();
    assert_eq!(replayed.state_hash(), world.engine.state_hash(), "records");
    assert_eq!(restored.state_hash(), without_totals(world), "snapshot");
}

#[test]
fn the_third_layout_reads_back() {
    let (replayed, restored) = read_back(THIRD);
    let expected = story_with_jobs().engine.state_hash();
    assert_eq!(replayed.state_hash(), expected, "records");
    assert_eq!(restored.state_hash(), expected, "snapshot");
}

#[test]
fn this_release_reads_back() {
    let (replayed, restored) = read_back(FIXTURE);
    let expected = story_with_workers().engine.state_hash();
    assert_eq!(replayed.state_hash(), expected, "records");
    assert_eq!(restored.state_hash(), expected, "snapshot");
}

#[test]
fn the_bytes_are_still_the_same() {
    let world = story_with_workers();
    let records = world.tape.records.iter();
    let mut lines: Vec<String> =
        records.map(|(_, kind, _, payload)| format!("{kind} {}\n", hex(payload))).collect();
    lines.push(format!("snapshot {}\n", hex(&snapshot(&world.engine))));
    let text = lines.concat();
    assert_eq!(text, FIXTURE, "a layout changed; written now:\n{text}");
    let mut kinds = world.tape.kinds();
    kinds.sort_unstable();
    kinds.dedup();
    let messages = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    let definitions = [16, 17, 18, 19, 20, 21, 22, 32, 33, 35, 36, 37, 38, 39, 40];
    assert_eq!(kinds, [&messages[..], &definitions].concat(), "one of each that is written");
}
