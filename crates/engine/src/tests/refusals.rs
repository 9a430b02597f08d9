//! Everything that can be refused, in what words, and what a refusal does to a strict channel.
//! Refused commits stand in `commits.rs`.

use super::*;
use model::Noun;

#[test]
fn nothing_works_before_its_time() {
    let mut world = World::new();
    let carol = SessionId::from_parts(2, 1);
    world.engine.open_session(carol, SessionInfo::default());
    let publish = Request::Publish(publish("", "q", "x"));
    assert_eq!(world.refusal(carol, publish), Refusal::NotOpen);
    assert_eq!(world.refusal(carol, Request::Recover), Refusal::NotOpen);
    let refusal = world.refusal(carol, Request::OpenVhost("nowhere".into()));
    assert_eq!(refusal, Refusal::NotFound { noun: Noun::Vhost, name: "nowhere".into() });
    let stale = SessionId::from_parts(0, 7);
    assert_eq!(world.refusal(stale, Request::Recover), Refusal::NotOpen);
}

#[test]
fn missing_things_are_named() {
    let mut world = World::new();
    world.durable("q");
    let queue = Refusal::NotFound { noun: Noun::Queue, name: "none".into() };
    for request in [
        Request::LookupQueue("none".into()),
        Request::Consume(Box::new(consume("none", 1))),
        Request::Get { queue: "none".into(), no_ack: true },
        Request::PurgeQueue("none".into()),
        Request::Bind(Box::new(binding("amq.fanout", "none", ""))),
    ] {
        assert_eq!(world.refusal(ALICE, request), queue);
    }
    let exchange = Refusal::NotFound { noun: Noun::Exchange, name: "none".into() };
    for request in [
        Request::LookupExchange("none".into()),
        Request::Bind(Box::new(binding("none", "q", ""))),
        Request::Publish(publish("none", "q", "x")),
    ] {
        assert_eq!(world.refusal(ALICE, request), exchange);
    }
    let user = Request::Admin(Box::new(Admin::DeleteUser("none".into())));
    assert!(matches!(world.refusal(ALICE, user), Refusal::NotFound { noun: Noun::User, .. }));
}

/// Found by comparing with RabbitMQ: another argument that differed too was named instead.
#[test]
fn whose_a_queue_is_comes_before_what_it_is() {
    let mut world = World::new();
    world.durable("q");
    let exclusive = QueueSpec { is_exclusive: true, ..QueueSpec::default() };
    let refusal = world.refusal(ALICE, declare("q", exclusive.clone()));
    assert_eq!(refusal, Refusal::Locked { queue: "q".into() });
    world.done(ALICE, declare("own", exclusive));
    let refusal = world.refusal(ALICE, declare("own", durable(QueueOptions::default())));
    assert_eq!(refusal, Refusal::Locked { queue: "own".into() });
}

/// Found by comparing with RabbitMQ: to take away what is not there was refused.
#[test]
fn only_a_binding_that_is_there_is_somebodys() {
    let mut world = World::new();
    let exclusive = QueueSpec { is_exclusive: true, ..QueueSpec::default() };
    world.done(ALICE, declare("own", exclusive));
    let unbind = || Request::Unbind(Box::new(binding("amq.fanout", "own", "")));
    world.done(BOB, unbind());
    world.done(ALICE, Request::Bind(Box::new(binding("amq.fanout", "own", ""))));
    assert_eq!(world.refusal(BOB, unbind()), Refusal::Locked { queue: "own".into() });
    world.done(ALICE, unbind());
}

#[test]
fn a_different_declaration_names_the_argument() {
    let mut world = World::new();
    let options = || QueueOptions { message_ttl_ms: Some(5), ..QueueOptions::default() };
    world.declare("q", durable(options()));
    let mut expect = |spec: QueueSpec, argument: &str, received: &str, current: &str| {
        let Refusal::Inequivalent { argument: found, received: new, current: old, .. } =
            world.refusal(BOB, declare("q", spec))
        else {
            panic!("not inequivalent")
        };
        assert_eq!((found, new.as_str(), old.as_str()), (argument, received, current));
    };
    expect(QueueSpec { options: options(), ..QueueSpec::default() }, "durable", "false", "true");
    let auto = QueueSpec { is_auto_delete: true, ..durable(options()) };
    expect(auto, "auto_delete", "true", "false");
    expect(durable(QueueOptions::default()), "x-message-ttl", "none", "5");
    let longer = QueueOptions { message_ttl_ms: Some(6), ..QueueOptions::default() };
    expect(durable(longer), "x-message-ttl", "6", "5");
    let letters = QueueOptions { dead_letter_exchange: Some("x".into()), ..options() };
    expect(durable(letters), "x-dead-letter-exchange", "x", "none");
}

#[test]
fn reserved_names_are_refused() {
    let mut world = World::new();
    let refusal = world.refusal(ALICE, declare("amq.mine", QueueSpec::default()));
    assert!(matches!(refusal, Refusal::AccessRefused { .. }));
    world.declare("amq.gen-abc", QueueSpec::default());
    let spec = exchange_spec(ExchangeKind::Direct);
    let refusal = world.refusal(ALICE, declare_exchange("amq.mine", spec));
    assert!(matches!(refusal, Refusal::AccessRefused { .. }));
    let spec = ExchangeSpec { is_internal: true, ..exchange_spec(ExchangeKind::Fanout) };
    world.done(ALICE, declare_exchange("inner", spec));
    let refusal = world.refusal(ALICE, Request::Publish(publish("inner", "", "x")));
    assert!(matches!(refusal, Refusal::AccessRefused { .. }));
}

#[test]
fn an_unknown_tag_is_refused_and_costs_nothing() {
    let mut world = World::new();
    world.durable("q");
    world.put("q", "x");
    let tag = world.get("q").unwrap().tag;
    for (tag, is_multiple) in [(tag + 1, false), (tag + 1, true), (0, false)] {
        let refusal = world.refusal(BOB, Request::Ack { tag, is_multiple });
        assert_eq!(refusal, Refusal::UnknownDelivery { tag });
    }
    world.ack(BOB, tag);
    let refusal = world.refusal(BOB, Request::Ack { tag, is_multiple: false });
    assert_eq!(refusal, Refusal::UnknownDelivery { tag });
    world.outputs.clear();
    world.send(BOB, 1, Request::Ack { tag: 0, is_multiple: true });
    assert!(world.outputs.is_empty(), "all of nothing is nothing");
}

#[test]
fn a_strict_channel_is_silent_after_a_refusal_until_it_is_closed() {
    let mut world = World::new();
    world.durable("q");
    world.send(BOB, 2, Request::OpenChannel { is_strict: true });
    world.send(BOB, 2, Request::Consume(Box::new(consume("q", 1))));
    world.put("q", "before");
    world.outputs.clear();
    world.send(BOB, 2, Request::LookupQueue("none".into()));
    assert_eq!(world.outputs.len(), 1);
    world.send(BOB, 2, Request::Publish(publish("", "q", "ignored")));
    world.send(BOB, 2, Request::LookupQueue("q".into()));
    world.put("q", "after");
    assert_eq!(world.outputs.len(), 1, "{:?}", world.outputs);
    assert_eq!(world.bodies(), ["before"]);
    world.send(BOB, 2, Request::CloseChannel);
    assert_eq!(world.outputs.len(), 2);
    assert_eq!(world.ready("q"), 2);
    assert!(world.get("q").unwrap().is_redelivered);
    world.send(BOB, 2, Request::OpenChannel { is_strict: true });
    world.send(BOB, 2, Request::LookupQueue("q".into()));
    assert_eq!(world.outputs.len(), 2, "{:?}", world.outputs);
}

#[test]
fn limits_are_kept_where_things_are_made() {
    let limits = Limits {
        queues_max: 1,
        exchanges_max: 7,
        bindings_max: 1,
        vhosts_max: 2,
        consumers_max: 1,
        ..Limits::default()
    };
    let mut world = World::with_limits(limits);
    let reached = |refusal: Refusal| matches!(refusal, Refusal::LimitReached { .. });
    world.durable("q");
    assert!(reached(world.refusal(ALICE, declare("r", QueueSpec::default()))));
    world.exchange("x", ExchangeKind::Direct);
    let another = declare_exchange("y", exchange_spec(ExchangeKind::Direct));
    assert!(reached(world.refusal(ALICE, another)));
    world.bind("x", "q", "1");
    world.bind("x", "q", "1");
    let another = Request::Bind(Box::new(binding("x", "q", "2")));
    assert!(reached(world.refusal(ALICE, another)));
    let vhost = |name: &str| {
        Request::Admin(Box::new(Admin::PutVhost(Bytes::copy_from_slice(name.as_bytes()))))
    };
    world.done(ALICE, vhost("a"));
    world.done(ALICE, vhost("a"));
    assert!(reached(world.refusal(ALICE, vhost("b"))));
    world.consume(BOB, "q", 1);
    let another = Request::Consume(Box::new(consume("q", 2)));
    assert!(reached(world.refusal(BOB, another)));
}
