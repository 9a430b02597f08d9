//! The router as the engine uses it: declarations, walks, cascades, refusals.

use bytes::Bytes;
use model::table::{Value, put_field};
use model::{Binding, DestinationKind, ExchangeKind, ExchangeSpec, Noun, QueueId, Refusal};

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
