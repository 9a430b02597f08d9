//! What a restart finds: topology, users, virtual hosts; snapshots with the records behind them;
//! damage that is named; which records of the log are still needed.

use super::*;

fn admin(request: Admin) -> Request {
    Request::Admin(Box::new(request))
}

#[test]
fn topology_and_users_come_back() {
    let mut world = World::new();
    world.done(ALICE, put_user("worker"));
    world.done(ALICE, put_user("gone"));
    world.done(ALICE, admin(Admin::DeleteUser("gone".into())));
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    world.exchange("tasks", ExchangeKind::Topic);
    world.durable("q");
    world.bind("tasks", "q", "a.#");
    let volatile = ExchangeSpec { is_durable: false, ..exchange_spec(ExchangeKind::Fanout) };
    world.done(ALICE, declare_exchange("passing", volatile));
    world.bind("passing", "q", "");
    world.check_recovery();
    world.restart();
    world.send(ALICE, 1, Request::Publish(publish("tasks", "a.b", "x")));
    assert_eq!(world.ready("q"), 1);
    world.refusal(ALICE, Request::LookupExchange("passing".into()));
    assert_eq!(world.engine.list(Listing::Users, &Sight::Everything).len(), 1);
    assert_eq!(world.engine.list(Listing::Vhosts, &Sight::Everything).len(), 2);
    assert_eq!(world.engine.list(Listing::Bindings, &Sight::Everything).len(), 1);
    world.check_recovery();
}

#[test]
fn a_deleted_vhost_takes_everything_with_it() {
    let mut world = World::new();
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    let carol = SessionId::from_parts(2, 1);
    world.engine.open_session(carol, SessionInfo::default());
    world.done(carol, Request::OpenVhost("shop".into()));
    world.open(carol, 1);
    world.done(carol, declare("q", durable(QueueOptions::default())));
    world.send(carol, 1, Request::Publish(publish("", "q", "x")));
    world.consume(carol, "q", 1);
    world.outputs.clear();
    world.send(ALICE, 1, admin(Admin::DeleteVhost("shop".into())));
    let to_carol = world.outputs.iter().filter(|output| output.session == carol).count();
    assert_eq!(to_carol, 2, "cancelled, then asked to leave: {:?}", world.outputs);
    world.check_state();
    world.close(carol);
    assert_eq!(world.engine.usage(Lsn::ZERO..Lsn(u64::MAX)).records, 0);
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    world.check_recovery();
}

/// Promise: P3.
#[test]
fn redelivered_after_a_restart_even_when_never_delivered() {
    let mut world = World::new();
    world.durable("q");
    world.put("q", "old");
    world.restart();
    world.put("q", "new");
    assert!(world.get("q").unwrap().is_redelivered);
    assert!(!world.get("q").unwrap().is_redelivered);
}

/// Promise: P18.
#[test]
fn a_snapshot_and_the_records_behind_it_give_the_same_state() {
    let mut world = World::new();
    world.durable("q");
    for index in 0..3_000 {
        world.put("q", &index.to_string());
    }
    world.credit(BOB, 1_500);
    world.consume(BOB, "q", 1);
    for tag in (2..1_400).step_by(3) {
        world.ack(BOB, tag);
    }
    let mut bytes = Vec::new();
    world.engine.snapshot().write(&mut bytes).unwrap();
    let from = world.tape.records.len();
    world.release(BOB, 1, true);
    world.send(BOB, 1, Request::Ack { tag: 700, is_multiple: true });
    for index in 0..100 {
        world.put("q", &format!("new {index}"));
    }
    let mut restored = Engine::restore(&bytes, Limits::default()).unwrap();
    for (lsn, kind, _, payload) in &world.tape.records[from..] {
        restored.replay(*lsn, *kind, payload).unwrap();
    }
    assert_eq!(restored.state_hash(), world.engine.state_hash());
    world.check_recovery();
}

#[test]
fn a_million_messages_take_little_room_in_a_snapshot() {
    let mut world = World::new();
    world.durable("q");
    let payload = {
        world.put("q", &"x".repeat(1024));
        world.tape.records.last().unwrap().3.clone()
    };
    for index in 1..100_000_u64 {
        world.engine.replay(Lsn(index * 1_100), record::MESSAGE, &payload).unwrap();
    }
    let mut bytes = Vec::new();
    world.engine.snapshot().write(&mut bytes).unwrap();
    assert!(bytes.len() < 120_000, "{} bytes for 100,000 messages", bytes.len());
}

/// Promise: P11.
#[test]
fn damaged_snapshots_and_records_are_named_and_never_panic() {
    let mut world = World::new();
    world.durable("q");
    world.exchange("x", ExchangeKind::Headers);
    world.put("q", "x");
    world.put("q", "y");
    let tag = world.get("q").unwrap().tag;
    world.release(BOB, tag, true);
    let mut bytes = Vec::new();
    world.engine.snapshot().write(&mut bytes).unwrap();
    for cut in 0..bytes.len() {
        assert!(Engine::restore(&bytes[..cut], Limits::default()).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 0x81;
        // Any answer will do, but it must be an answer.
        drop(Engine::restore(&bent, Limits::default()));
    }
    for (lsn, kind, _, payload) in &world.tape.records {
        for cut in 0..payload.len().min(24) {
            let mut engine = Engine::new(Limits::default());
            if *kind != record::SETTLE && *kind != record::RETURN {
                let damage = engine.replay(*lsn, *kind, &payload[..cut]).unwrap_err();
                assert!(damage.to_string().contains(&lsn.to_string()), "{damage}");
            }
        }
    }
    let mut engine = Engine::new(Limits::default());
    assert!(engine.replay(Lsn(5), 99, b"").is_err());
}

#[test]
fn usage_covers_every_live_record() {
    let mut world = World::new();
    world.durable("q");
    for _ in 0..3_000 {
        world.put("q", &"x".repeat(1_000));
    }
    let mut live = Vec::new();
    let end = world.tape.next;
    let half = Lsn(end.0 / 2);
    for range in [Lsn::ZERO..half, half..end, Lsn::ZERO..end, end..Lsn(u64::MAX)] {
        world.engine.live(range.clone(), &mut live);
        let usage = world.engine.usage(range.clone());
        assert!(usage.records >= live.len() as u64);
        let bytes: usize = live.iter().map(|lsn| world.tape.payload(*lsn).len()).sum();
        assert!(usage.bytes >= bytes as u64, "{usage:?} for {bytes}");
        assert!(live.iter().all(|lsn| range.contains(lsn)));
    }
}

/// Found by the fuzz target `engine_replay`: both are records that the engine never writes.
#[test]
fn records_nobody_wrote_are_refused_and_cost_little() {
    let mut engine = Engine::new(Limits::default());
    let bound_to_the_default_exchange = b"\x00\x00\x00\x00\x00\x00\x00\x80";
    assert!(engine.replay(Lsn::ZERO, 20, bound_to_the_default_exchange).is_err());
    // A run of 2^50 entries in a queue that has none: must not be walked.
    let endless_run = b"\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x01";
    assert!(engine.replay(Lsn::ZERO, 2, endless_run).is_ok());
}

/// Found by the fuzz target `engine_snapshot`: names and numbers that are taken ended the process.
#[test]
fn a_queue_that_is_there_is_not_put_there_again() {
    let declared = |id: u32, name: &str| {
        let mut payload = id.to_le_bytes().to_vec();
        payload.extend_from_slice(&[0, 0]);
        record::put_text(&mut payload, name.as_bytes());
        record::put_queue_spec(&mut payload, &durable(QueueOptions::default()));
        payload
    };
    let mut engine = Engine::new(Limits::default());
    let mut replay = |payload: &[u8]| engine.replay(Lsn::ZERO, record::QUEUE_DECLARED, payload);
    assert!(replay(&declared(0, "q")).is_ok());
    assert!(replay(&declared(1, "q")).is_err(), "the name is taken");
    assert!(replay(&declared(0, "other")).is_err(), "the number is taken");
    assert!(replay(&declared(u32::MAX, "volatile")).is_err(), "such a queue has no records");

    let mut world = World::new();
    world.durable("one");
    world.durable("two");
    let mut bytes = Vec::new();
    world.engine.snapshot().write(&mut bytes).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at..at + 3].copy_from_slice(b"one");
    assert!(Engine::restore(&bytes, Limits::default()).is_err());
}
