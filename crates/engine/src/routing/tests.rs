//! The router as the engine uses it: declarations, walks, cascades, refusals, what a restart keeps.
//! Single rooms have their own tests beside them; `oracle` compares whole topologies.

mod oracle;

use bytes::Bytes;
use model::table::{Value, put_field};
use model::{Binding, DestinationKind, ExchangeKind, ExchangeSpec, Noun, QueueId, Refusal};

use super::walk::NoSuchExchange;
use super::*;

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn spec(kind: ExchangeKind) -> ExchangeSpec {
    ExchangeSpec {
        kind,
        is_durable: true,
        is_auto_delete: false,
        is_internal: false,
        is_delayed: false,
        alternate: None,
        arguments: Bytes::new(),
    }
}

pub(super) fn to_queue(source: &str, queue: &str, key: &str) -> Binding {
    Binding {
        source: bytes(source),
        kind: DestinationKind::Queue,
        destination: bytes(queue),
        routing_key: bytes(key),
        arguments: Bytes::new(),
    }
}

pub(super) fn to_exchange(source: &str, exchange: &str, key: &str) -> Binding {
    Binding { kind: DestinationKind::Exchange, ..to_queue(source, exchange, key) }
}

/// A router with queues `q1`, `q2`, ... whose ids are their numbers.
pub(super) fn router(queues: u32) -> Router {
    let mut router = Router::new();
    for id in 1..=queues {
        router.declare_queue(bytes(&format!("q{id}")), QueueId(id));
    }
    router
}

pub(super) fn declare(router: &mut Router, name: &str, spec: ExchangeSpec) {
    assert_eq!(router.check_declare(&bytes(name), &spec), Ok(Declared::New));
    router.declare_exchange(&bytes(name), spec);
}

pub(super) fn route(router: &mut Router, exchange: &str, key: &str) -> Vec<u32> {
    let mut out = vec![QueueId(99)];
    let request = RouteRequest {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        ..RouteRequest::default()
    };
    let any = router.route(request, &mut out).unwrap();
    assert_eq!(any, !out.is_empty());
    out.into_iter().map(|queue| queue.0).collect()
}

/// Routes twice: the second answer may come from the cache and must be the same.
fn routes(router: &mut Router, exchange: &str, key: &str, expected: &[u32]) {
    assert_eq!(route(router, exchange, key), expected, "{exchange} {key}");
    assert_eq!(route(router, exchange, key), expected, "{exchange} {key}, again");
}

#[test]
fn the_default_exchange_knows_every_queue_by_name() {
    let mut router = router(2);
    routes(&mut router, "", "q2", &[2]);
    routes(&mut router, "", "q3", &[]);
    router.declare_queue(bytes("q3"), QueueId(3));
    routes(&mut router, "", "q3", &[3]);
    router.remove_queue(b"q3", Cascade::Follow);
    routes(&mut router, "", "q3", &[]);
    assert_eq!(router.exchange(b"").unwrap().published(), 8);
}

#[test]
fn each_kind_finds_its_queues() {
    let mut router = router(3);
    for (source, queue, key) in [
        ("amq.direct", "q1", "a"),
        ("amq.direct", "q2", "a"),
        ("amq.direct", "q3", "b"),
        ("amq.fanout", "q3", "x"),
        ("amq.fanout", "q1", ""),
        ("amq.topic", "q1", "a.*"),
        ("amq.topic", "q2", "a.#"),
        ("amq.topic", "q3", "#"),
    ] {
        assert_eq!(router.bind(&to_queue(source, queue, key)), Ok(true));
        assert_eq!(router.bind(&to_queue(source, queue, key)), Ok(false));
    }
    routes(&mut router, "amq.direct", "a", &[1, 2]);
    routes(&mut router, "amq.direct", "b", &[3]);
    routes(&mut router, "amq.direct", "c", &[]);
    routes(&mut router, "amq.fanout", "any", &[1, 3]);
    routes(&mut router, "amq.topic", "a.b", &[1, 2, 3]);
    routes(&mut router, "amq.topic", "a", &[2, 3]);
    routes(&mut router, "amq.topic", "", &[3]);
    let mut out = Vec::new();
    let request = RouteRequest { exchange: b"none", ..RouteRequest::default() };
    assert_eq!(router.route(request, &mut out), Err(NoSuchExchange));
}

fn table(entries: &[(&str, Value<'_>)]) -> Bytes {
    let mut table = Vec::new();
    for (name, value) in entries {
        put_field(&mut table, name.as_bytes(), *value);
    }
    table.into()
}

fn bind(router: &mut Router, binding: &Binding) {
    assert_eq!(router.bind(binding), Ok(true), "{binding:?}");
}

fn with_alternate(kind: ExchangeKind, alternate: &str) -> ExchangeSpec {
    ExchangeSpec { alternate: Some(bytes(alternate)), ..spec(kind) }
}

#[test]
fn a_queue_gets_one_copy_on_any_number_of_paths() {
    let mut router = router(2);
    for name in ["top", "left", "right", "foot"] {
        declare(&mut router, name, spec(ExchangeKind::Fanout));
    }
    for (source, destination) in
        [("top", "left"), ("top", "right"), ("left", "foot"), ("right", "foot"), ("foot", "top")]
    {
        bind(&mut router, &to_exchange(source, destination, ""));
    }
    for (source, queue) in [("foot", "q2"), ("left", "q2"), ("right", "q1"), ("top", "q2")] {
        bind(&mut router, &to_queue(source, queue, ""));
    }
    for name in ["top", "left", "right", "foot"] {
        routes(&mut router, name, "k", &[1, 2]);
    }
}

#[test]
fn an_exchange_bound_to_itself_ends() {
    let mut router = router(1);
    declare(&mut router, "e", spec(ExchangeKind::Topic));
    bind(&mut router, &to_exchange("e", "e", "#"));
    routes(&mut router, "e", "k", &[]);
    bind(&mut router, &to_queue("e", "q1", "k"));
    routes(&mut router, "e", "k", &[1]);
    let removed = router.delete_exchange(b"e", Cascade::Follow);
    assert_eq!(removed.bindings.len(), 2);
    assert_eq!(router.binding_count(), 0);
}

#[test]
fn the_alternate_takes_what_finds_nothing() {
    let mut router = router(2);
    declare(&mut router, "main", with_alternate(ExchangeKind::Direct, "spare"));
    bind(&mut router, &to_queue("main", "q1", "a"));
    routes(&mut router, "main", "b", &[]);
    declare(&mut router, "spare", spec(ExchangeKind::Fanout));
    bind(&mut router, &to_queue("spare", "q2", ""));
    routes(&mut router, "main", "a", &[1]);
    routes(&mut router, "main", "b", &[2]);
    router.delete_exchange(b"spare", Cascade::Follow);
    routes(&mut router, "main", "b", &[]);
}

#[test]
fn an_exchange_without_bindings_can_change_where_others_lead() {
    let mut router = router(1);
    bind(&mut router, &to_queue("amq.fanout", "q1", ""));
    declare(&mut router, "main", with_alternate(ExchangeKind::Direct, "middle"));
    routes(&mut router, "main", "k", &[]);
    declare(&mut router, "middle", with_alternate(ExchangeKind::Direct, "amq.fanout"));
    routes(&mut router, "main", "k", &[1]);
    router.delete_exchange(b"middle", Cascade::Follow);
    routes(&mut router, "main", "k", &[]);
}

#[test]
fn a_queue_and_an_exchange_may_share_a_name() {
    let mut router = router(1);
    declare(&mut router, "q1", spec(ExchangeKind::Fanout));
    router.declare_queue(bytes("q2"), QueueId(2));
    bind(&mut router, &to_queue("q1", "q2", ""));
    bind(&mut router, &to_queue("amq.direct", "q1", "a"));
    bind(&mut router, &to_exchange("amq.direct", "q1", "a"));
    routes(&mut router, "amq.direct", "a", &[1, 2]);
    let removed = router.remove_queue(b"q1", Cascade::Follow);
    assert_eq!(removed.bindings.len(), 1);
    routes(&mut router, "amq.direct", "a", &[2]);
}

#[test]
fn alternates_in_a_circle_end() {
    let mut router = router(1);
    declare(&mut router, "a", with_alternate(ExchangeKind::Direct, "b"));
    declare(&mut router, "b", with_alternate(ExchangeKind::Topic, "a"));
    declare(&mut router, "self", with_alternate(ExchangeKind::Direct, "self"));
    routes(&mut router, "a", "k", &[]);
    routes(&mut router, "self", "k", &[]);
    bind(&mut router, &to_queue("b", "q1", "k"));
    routes(&mut router, "a", "k", &[1]);
}

#[test]
fn an_alternate_may_be_the_default_exchange() {
    let mut router = router(0);
    declare(&mut router, "main", with_alternate(ExchangeKind::Direct, ""));
    routes(&mut router, "main", "late", &[]);
    router.declare_queue(bytes("late"), QueueId(7));
    routes(&mut router, "main", "late", &[7]);
    router.remove_queue(b"late", Cascade::Follow);
    routes(&mut router, "main", "late", &[]);
}

#[test]
fn extra_keys_route_in_the_same_exchange() {
    let mut router = router(3);
    declare(&mut router, "main", with_alternate(ExchangeKind::Direct, "amq.fanout"));
    for (queue, key) in [("q1", "a"), ("q2", "b"), ("q2", "c")] {
        bind(&mut router, &to_queue("main", queue, key));
    }
    bind(&mut router, &to_queue("amq.fanout", "q3", ""));
    let mut ask = |exchange: &'static [u8], key: &'static [u8], extra: &[&str]| {
        let extra_keys: Vec<_> = extra.iter().map(|key| bytes(key)).collect();
        let request =
            RouteRequest { exchange, routing_key: key, headers: None, extra_keys: &extra_keys };
        let mut out = Vec::new();
        router.route(request, &mut out).unwrap();
        out.into_iter().map(|queue| queue.0).collect::<Vec<_>>()
    };
    assert_eq!(ask(b"main", b"a", &["b", "c"]), [1, 2]);
    assert_eq!(ask(b"main", b"none", &["b"]), [2], "the alternate is not needed");
    assert_eq!(ask(b"main", b"none", &["nothing"]), [3]);
    assert_eq!(ask(b"main", b"a", &[]), [1], "nothing wrong was remembered");
    assert_eq!(ask(b"", b"q1", &["q3", "q1", "q9"]), [1, 3]);
}

#[test]
fn headers_are_looked_at_every_time() {
    let mut router = router(1);
    declare(&mut router, "front", spec(ExchangeKind::Fanout));
    bind(&mut router, &to_exchange("front", "amq.match", ""));
    let wanted = table(&[("kind", Value::Text(b"report"))]);
    bind(&mut router, &Binding { arguments: wanted.clone(), ..to_queue("amq.match", "q1", "") });
    let other = table(&[("kind", Value::Text(b"invoice"))]);
    for (headers, expected) in
        [(Some(&wanted), 1), (Some(&other), 0), (None, 0), (Some(&wanted), 1)]
    {
        let request = RouteRequest {
            exchange: b"front",
            headers: headers.map(|headers| &headers[..]),
            ..RouteRequest::default()
        };
        let mut out = Vec::new();
        router.route(request, &mut out).unwrap();
        assert_eq!(out.len(), expected, "{headers:?}");
    }
}

#[test]
fn more_keys_than_the_cache_holds_are_still_right() {
    let mut router = router(2);
    bind(&mut router, &to_queue("amq.topic", "q1", "*.odd"));
    bind(&mut router, &to_queue("amq.topic", "q2", "#"));
    for round in 0..2 {
        for n in 0..10_000 {
            let (key, expected) = if n % 2 == 1 {
                (format!("{n}.odd"), &[1, 2][..])
            } else {
                (format!("{n}.even"), &[2][..])
            };
            assert_eq!(route(&mut router, "amq.topic", &key), expected, "{key}, round {round}");
        }
    }
}

#[test]
fn a_consistent_hash_exchange_picks_one_queue() {
    let mut router = router(3);
    declare(&mut router, "spread", spec(ExchangeKind::ConsistentHash));
    for queue in ["q1", "q2", "q3"] {
        bind(&mut router, &to_queue("spread", queue, "10"));
    }
    let mut counts = [0; 4];
    for n in 0..300 {
        let found = route(&mut router, "spread", &format!("user{n}"));
        assert_eq!(found.len(), 1);
        counts[found[0] as usize] += 1;
        assert_eq!(route(&mut router, "spread", &format!("user{n}")), found);
    }
    assert!(counts[1..].iter().all(|count| *count > 60), "{counts:?}");
}

#[test]
fn auto_delete_goes_on_from_exchange_to_exchange() {
    let mut router = router(1);
    let auto = ExchangeSpec { is_auto_delete: true, ..spec(ExchangeKind::Fanout) };
    let volatile = ExchangeSpec { is_durable: false, ..auto.clone() };
    declare(&mut router, "a", auto.clone());
    declare(&mut router, "b", volatile);
    declare(&mut router, "c", auto);
    declare(&mut router, "stays", spec(ExchangeKind::Fanout));
    for (source, destination) in [("a", "b"), ("b", "c"), ("stays", "c")] {
        bind(&mut router, &to_exchange(source, destination, ""));
    }
    bind(&mut router, &to_queue("c", "q1", ""));
    let removed = router.remove_queue(b"q1", Cascade::Follow);
    let exchanges: Vec<_> =
        removed.exchanges.iter().map(|gone| (gone.name.clone(), gone.is_durable)).collect();
    assert_eq!(exchanges, [(bytes("c"), true), (bytes("b"), false), (bytes("a"), true)]);
    assert_eq!(removed.bindings.len(), 4);
    assert_eq!(router.binding_count(), 0);
    assert!(router.exchange(b"stays").is_some());
    assert_eq!(router.exchange_count(), 7);
}

#[test]
fn auto_delete_waits_for_a_first_binding_and_holds_in_replay() {
    let mut router = router(1);
    let auto = ExchangeSpec { is_auto_delete: true, ..spec(ExchangeKind::Direct) };
    declare(&mut router, "a", auto);
    bind(&mut router, &to_exchange("amq.fanout", "a", ""));
    router.unbind(&to_exchange("amq.fanout", "a", ""), Cascade::Follow).unwrap();
    assert!(router.exchange(b"a").is_some(), "only bindings as source count");
    bind(&mut router, &to_queue("a", "q1", "x"));
    let removed = router.unbind(&to_queue("a", "q1", "x"), Cascade::Hold).unwrap();
    assert_eq!((removed.bindings.len(), removed.exchanges.len()), (1, 0));
    assert!(router.exchange(b"a").is_some());
    bind(&mut router, &to_queue("a", "q1", "x"));
    let removed = router.unbind(&to_queue("a", "q1", "x"), Cascade::Follow).unwrap();
    assert_eq!(removed.exchanges.len(), 1);
    assert!(router.exchange(b"a").is_none());
    let removed = router.unbind(&to_queue("a", "q1", "x"), Cascade::Follow).unwrap();
    assert!(removed.bindings.is_empty(), "nothing left, no error");
}

#[test]
fn bindings_differ_by_their_arguments() {
    let mut router = router(1);
    let plain = to_queue("amq.topic", "q1", "a");
    let tagged = Binding { arguments: table(&[("n", Value::Int(1))]), ..plain.clone() };
    bind(&mut router, &plain);
    bind(&mut router, &tagged);
    router.unbind(&plain, Cascade::Follow).unwrap();
    routes(&mut router, "amq.topic", "a", &[1]);
    router.unbind(&tagged, Cascade::Follow).unwrap();
    routes(&mut router, "amq.topic", "a", &[]);
}

#[test]
fn what_is_kept_over_a_restart() {
    let mut router = router(1);
    router.declare_queue(bytes("v"), QueueId(QueueId::VOLATILE | 1));
    declare(&mut router, "kept", spec(ExchangeKind::Fanout));
    declare(&mut router, "gone", ExchangeSpec { is_durable: false, ..spec(ExchangeKind::Fanout) });
    for binding in [
        to_queue("kept", "q1", ""),
        to_queue("kept", "v", ""),
        to_queue("gone", "q1", ""),
        to_queue("amq.topic", "q1", "#"),
        to_exchange("kept", "gone", ""),
        to_exchange("amq.fanout", "kept", ""),
    ] {
        bind(&mut router, &binding);
    }
    let kept: Vec<_> = router.durable_bindings().map(|binding| binding.source.clone()).collect();
    assert_eq!(kept, ["amq.fanout", "amq.topic", "kept"]);
    let names: Vec<_> = router.durable_exchanges().map(|exchange| &exchange.name[..]).collect();
    assert_eq!(names, [b"kept"]);
    assert_eq!(router.bindings_from(b"kept").count(), 3);
    assert_eq!(router.bindings_to(DestinationKind::Queue, b"q1").count(), 3);
    assert_eq!(router.bindings_to(DestinationKind::Exchange, b"gone").count(), 1);
    let all: Vec<_> = router.exchanges().iter().map(|exchange| exchange.name().clone()).collect();
    let expected =
        ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic", "gone", "kept"];
    assert_eq!(all, expected);
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> String {
    match answer {
        Err(Refusal::AccessRefused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_exchange_and_amq_names_are_not_for_clients() {
    let mut router = router(1);
    let fanout = spec(ExchangeKind::Fanout);
    let default = "operation not permitted on the default exchange";
    assert_eq!(reason(router.check_declare(&bytes(""), &fanout)), default);
    assert_eq!(reason(router.check_delete(&bytes(""), false)), default);
    assert_eq!(reason(router.bind(&to_queue("", "q1", "k"))), default);
    assert_eq!(reason(router.bind(&to_exchange("amq.direct", "", "k"))), default);
    assert_eq!(reason(router.unbind(&to_queue("", "q1", "q1"), Cascade::Follow)), default);
    assert_eq!(
        reason(router.check_declare(&bytes("amq.x"), &fanout)),
        "exchange name 'amq.x' contains reserved prefix 'amq.*'"
    );
    assert_eq!(
        reason(router.check_delete(&bytes("amq.topic"), false)),
        "deletion of system exchange 'amq.topic' not allowed"
    );
    assert_eq!(router.check_declare(&bytes("amq.fanout"), &fanout), Ok(Declared::Exists));
}

#[test]
fn a_different_declaration_is_named_by_its_first_difference() {
    let mut router = router(0);
    let base = with_alternate(ExchangeKind::Direct, "spare");
    declare(&mut router, "e", base.clone());
    let topic = ExchangeSpec { kind: ExchangeKind::Topic, is_durable: false, ..base.clone() };
    let delayed = ExchangeSpec { is_delayed: true, ..base.clone() };
    let volatile = ExchangeSpec { is_durable: false, ..base.clone() };
    let auto = ExchangeSpec { is_auto_delete: true, ..base.clone() };
    let internal = ExchangeSpec { is_internal: true, ..base.clone() };
    let lone = ExchangeSpec { alternate: None, ..base.clone() };
    for (asked, expected) in [
        (topic, ("type", "topic", "direct")),
        (delayed, ("type", "x-delayed-message", "direct")),
        (volatile, ("durable", "false", "true")),
        (auto, ("auto_delete", "true", "false")),
        (internal, ("internal", "true", "false")),
        (lone, ("alternate-exchange", "none", "spare")),
    ] {
        let (argument, received, current) = expected;
        let refusal = Refusal::Inequivalent {
            noun: Noun::Exchange,
            name: bytes("e"),
            argument,
            received: received.into(),
            current: current.into(),
        };
        assert_eq!(router.check_declare(&bytes("e"), &asked), Err(refusal));
    }
    let noted = ExchangeSpec { arguments: table(&[("note", Value::Int(1))]), ..base };
    assert_eq!(router.check_declare(&bytes("e"), &noted), Ok(Declared::Exists));
}

#[test]
fn missing_ends_and_senseless_rules_are_refused() {
    let mut router = router(1);
    declare(&mut router, "spread", spec(ExchangeKind::ConsistentHash));
    let missing = |noun, name: &str| Err(Refusal::NotFound { noun, name: bytes(name) });
    assert_eq!(router.bind(&to_queue("e", "q1", "")), missing(Noun::Exchange, "e"));
    assert_eq!(router.bind(&to_queue("amq.topic", "q9", "")), missing(Noun::Queue, "q9"));
    assert_eq!(router.bind(&to_exchange("amq.topic", "e", "")), missing(Noun::Exchange, "e"));
    let some = table(&[("x-match", Value::Text(b"some"))]);
    let refused = router.bind(&Binding { arguments: some, ..to_queue("amq.match", "q1", "") });
    assert!(matches!(refused, Err(Refusal::Inequivalent { argument: "x-match", .. })));
    let refused = router.bind(&to_queue("spread", "q1", "heavy"));
    assert!(matches!(refused, Err(Refusal::Inequivalent { argument: "routing_key", .. })));
    assert_eq!(router.binding_count(), 0);
}

#[test]
fn if_unused_looks_at_bindings_that_leave() {
    let mut router = router(1);
    declare(&mut router, "e", spec(ExchangeKind::Fanout));
    bind(&mut router, &to_exchange("amq.fanout", "e", ""));
    assert!(router.check_delete(&bytes("e"), true).unwrap().is_some());
    bind(&mut router, &to_queue("e", "q1", ""));
    let in_use = Refusal::InUse { noun: Noun::Exchange, name: bytes("e") };
    assert_eq!(router.check_delete(&bytes("e"), true).unwrap_err(), in_use);
    assert!(router.check_delete(&bytes("e"), false).unwrap().is_some());
    assert!(router.check_delete(&bytes("none"), true).unwrap().is_none());
    let removed = router.delete_exchange(b"e", Cascade::Follow);
    assert_eq!(removed.bindings.len(), 2);
    routes(&mut router, "amq.fanout", "", &[]);
}

#[test]
fn a_binding_holds_on_to_no_buffer() {
    let mut router = router(1);
    let buffer = Bytes::from(vec![b'k'; 1 << 16]);
    let binding = Binding { routing_key: buffer.slice(..4), ..to_queue("amq.direct", "q1", "") };
    bind(&mut router, &binding);
    drop(binding);
    assert!(buffer.is_unique());
}
