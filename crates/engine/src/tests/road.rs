//! The narrow road: declare, publish, confirm, consume, acknowledge, return; which records that
//! makes and what each output waits for.

use super::*;

#[test]
fn a_confirmed_message_is_delivered_and_acknowledged() {
    let mut world = World::new();
    world.durable("q");
    world.consume(BOB, "q", 3);
    let mut message = publish("", "q", "hello");
    message.options.wants_confirm = true;
    let before = world.tape.next;
    world.outputs.clear();
    world.send(ALICE, 1, Request::Publish(message));
    let seen = world.deliveries.remove(0);
    assert_eq!((seen.session, seen.consumer, seen.tag), (BOB, 3, 1));
    assert_eq!((seen.body.as_str(), seen.routing_key.as_str()), ("hello", "q"));
    assert_eq!(seen.gate, before.plus(1), "a delivery waits for its own message only");
    let [output] = &world.outputs[..] else { panic!("{:?}", world.outputs) };
    assert!(matches!(output.push, Push::Published { channel: 1 }));
    assert_eq!((output.session, output.gate), (ALICE, world.tape.next));
    assert_eq!(world.column("q", "messages_unacknowledged"), 1);
    world.check_recovery();
    world.ack(BOB, 1);
    assert_eq!(world.column("q", "messages"), 0);
    assert_eq!(world.engine.usage(Lsn::ZERO..Lsn(u64::MAX)).records, 0);
    assert_eq!(world.tape.kinds()[1..], [record::MESSAGE, record::SETTLE]);
    world.check_recovery();
}

#[test]
fn one_record_whatever_the_number_of_queues() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.durable(name);
        world.bind("amq.fanout", name, "");
    }
    let before = world.tape.records.len();
    world.send(ALICE, 1, Request::Publish(publish("amq.fanout", "", "body")));
    assert_eq!(world.tape.records.len(), before + 1);
    for name in ["a", "b", "c"] {
        assert_eq!(world.get(name).unwrap().body, "body");
    }
    world.check_recovery();
}

#[test]
fn volatile_traffic_never_touches_the_log() {
    let mut world = World::new();
    world.declare("v", QueueSpec::default());
    world.consume(BOB, "v", 1);
    let mut message = publish("", "v", "quick");
    message.options.wants_confirm = true;
    world.outputs.clear();
    world.send(ALICE, 1, Request::Publish(message));
    world.ack(BOB, 1);
    assert!(world.tape.records.is_empty());
    assert_eq!(world.deliveries[0].gate, Lsn::ZERO);
    assert!(world.outputs.iter().all(|output| output.gate == Lsn::ZERO), "{:?}", world.outputs);
    assert_eq!(world.engine.state.holdings.volatile_bytes, 0);
}

#[test]
fn mixed_targets_are_logged_once_and_copied() {
    let mut world = World::new();
    world.durable("d");
    world.declare("v", QueueSpec::default());
    world.bind("amq.fanout", "d", "");
    world.bind("amq.fanout", "v", "");
    world.send(ALICE, 1, Request::Publish(publish("amq.fanout", "", "both")));
    assert_eq!(world.get("d").unwrap().body, "both");
    let seen = world.get("v").unwrap();
    assert_eq!((seen.body.as_str(), seen.gate), ("both", Lsn::ZERO));
    world.check_recovery();
}

/// Promise: P3, P5.
#[test]
fn a_returned_message_keeps_its_place_and_says_so() {
    let mut world = World::new();
    world.durable("q");
    for body in ["1", "2", "3", "4"] {
        world.put("q", body);
    }
    world.credit(BOB, 2);
    world.consume(BOB, "q", 1);
    assert_eq!(world.bodies(), ["1", "2"]);
    world.ack(BOB, 2);
    assert_eq!(world.bodies(), ["3"]);
    world.done(BOB, Request::Cancel(ConsumerId(1)));
    world.release(BOB, 1, true);
    world.release(BOB, 3, true);
    world.check_recovery();
    let order: Vec<_> = std::iter::from_fn(|| world.get("q"))
        .map(|seen| (seen.body, seen.is_redelivered))
        .collect();
    let expected = [("1", true), ("3", true), ("4", false)];
    assert_eq!(order, expected.map(|(body, is)| (body.to_owned(), is)));
}

/// Promise: P3, P5.
#[test]
fn a_lost_session_gives_everything_back_in_order() {
    let mut world = World::new();
    world.durable("q");
    for index in 0..10 {
        world.put("q", &index.to_string());
    }
    world.consume(BOB, "q", 1);
    assert_eq!(world.bodies().len(), 10);
    world.send(BOB, 1, Request::Ack { tag: 3, is_multiple: true });
    world.close(BOB);
    world.check_recovery();
    world.enter(BOB);
    world.consume(ALICE, "q", 1);
    assert_eq!(world.bodies(), ["3", "4", "5", "6", "7", "8", "9"]);
    let returns = world.tape.records.iter().filter(|it| it.1 == record::RETURN);
    assert_eq!(returns.count(), 1);
}

/// Promise: P3.
#[test]
fn a_delivery_count_is_shown_once_it_is_durable() {
    let mut world = World::new();
    let options = QueueOptions { delivery_max: Some(5), ..QueueOptions::default() };
    world.declare("q", durable(options));
    world.put("q", "x");
    world.consume(BOB, "q", 1);
    let tag = world.deliveries[0].tag;
    world.deliveries.clear();
    world.release(BOB, tag, true);
    let returned = world.tape.records.iter().rfind(|it| it.1 == record::RETURN).unwrap().0;
    let seen = &world.deliveries[0];
    assert_eq!(seen.returns, Some(1));
    assert!(seen.gate > returned, "{:?} is shown before {returned:?} is durable", seen.gate);
}

#[test]
fn acknowledging_many_at_once_is_one_record() {
    let mut world = World::new();
    world.durable("q");
    for index in 0..100 {
        world.put("q", &index.to_string());
    }
    world.consume(BOB, "q", 1);
    let before = world.tape.next.0;
    world.send(BOB, 1, Request::Ack { tag: 0, is_multiple: true });
    let (_, kind, _, payload) = world.tape.records.last().unwrap();
    assert_eq!((*kind, payload.len()), (record::SETTLE, 7), "one run");
    assert!(world.tape.next.0 - before < 40);
    world.check_recovery();
}

#[test]
fn unroutable_mandatory_messages_come_back_before_their_confirm() {
    let mut world = World::new();
    let mut message = publish("amq.direct", "nowhere", "lost");
    message.options.is_mandatory = true;
    message.options.wants_confirm = true;
    world.outputs.clear();
    world.send(ALICE, 1, Request::Publish(message));
    let [returned, confirmed] = &world.outputs[..] else { panic!("{:?}", world.outputs) };
    let Push::Reply { reply: Reply::Unroutable(message), .. } = &returned.push else {
        panic!("{returned:?}")
    };
    assert_eq!(message.body, "lost");
    assert!(matches!(confirmed.push, Push::Published { .. }));
}

#[test]
fn a_login_is_checked_outside() {
    let mut world = World::new();
    world.serves_reads = false;
    world.done(ALICE, put_user("guest"));
    let attempt = |world: &mut World, user: &str, is_loopback| {
        let request = Request::Authenticate(model::Credentials {
            user: Bytes::copy_from_slice(user.as_bytes()),
            proof: model::Proof::Password("secret".into()),
            is_loopback,
        });
        let at = world.stamp();
        let envelope = Envelope { channel: 0, ticket: Ticket(1), request };
        let mut out = Effects::default();
        world.engine.apply(at, BOB, envelope, &mut world.tape, &mut out);
        assert!(out.outputs.is_empty(), "nothing is said before the check");
        out.logins.remove(0)
    };
    assert_eq!(attempt(&mut world, "guest", false).hash, None, "guest is local only");
    assert_eq!(attempt(&mut world, "nobody", true).hash, None);
    let login = attempt(&mut world, "guest", true);
    assert_eq!(login.hash.as_deref(), Some(&b"hash"[..]));
    assert!(!format!("{login:?}").contains("secret"));
    let mut out = Effects::default();
    let what = Resume::Verified { session: BOB, token: login.token, is_ok: true };
    let at = world.stamp();
    world.engine.resume(at, what, &mut world.tape, &mut out);
    let Push::Reply { reply: Reply::Authenticated { tags }, .. } = &out.outputs[0].push else {
        panic!("{out:?}")
    };
    assert_eq!(tags, "administrator");
    world.check_recovery();
}

#[test]
fn a_certificate_needs_no_further_check_but_a_user() {
    let mut world = World::new();
    world.done(ALICE, put_user("guest"));
    world.done(ALICE, put_user("ann"));
    let mut attempt = |user: &'static str, is_loopback| {
        world.outputs.clear();
        let proof = model::Proof::Certificate;
        let credentials = model::Credentials { user: user.into(), proof, is_loopback };
        world.send(BOB, 0, Request::Authenticate(credentials));
        let [output] = &world.outputs[..] else { panic!("{:?}", world.outputs) };
        let Push::Reply { reply, .. } = &output.push else { panic!("{output:?}") };
        matches!(reply, Reply::Authenticated { .. })
    };
    assert!(attempt("ann", false));
    assert!(!attempt("nobody", true), "no such user");
    assert!(attempt("guest", true));
    assert!(!attempt("guest", false), "guest is local only");
}

#[test]
fn declaring_again_is_a_read_gated_by_the_first() {
    let mut world = World::new();
    world.durable("q");
    let gate = world.tape.next;
    world.put("other", "moves nothing");
    world.durable("unrelated");
    let records = world.tape.records.len();
    world.outputs.clear();
    world.send(BOB, 1, declare("q", durable(QueueOptions::default())));
    assert_eq!(world.outputs[0].gate, gate);
    assert_eq!(world.tape.records.len(), records);
}
