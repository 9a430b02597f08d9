//! The places where the log changes its shape (segment roll, checkpoint, survivor pass) and the
//! requests that change more than one message (definitions, dead letters, expiry, returns with
//! their count), each with the power failing in every disk operation.

use bytes::Bytes;
use journal::Fault;
use model::{
    Admin, Binding, DeclareExchange, DeclareQueue, DestinationKind, ExchangeKind, ExchangeSpec,
    Overflow, Publish, PublishOptions, QueueOptions, QueueSpec, Request,
};

use crate::run::{Contents, Ledger, Run, body};
use crate::sweep::{Sweep, small};

/// What the ledger demands of every story is enough for these.
fn nothing_more(_: &Contents, _: &Ledger, _: &str) {}

/// Segments are filled, by single blocks and by commits of several blocks that span two segments.
fn rolls(run: &mut Run) -> Result<(), Fault> {
    run.declare("work", QueueOptions::default());
    for number in 0..64 {
        run.publish("work", body("work", number, 3000 + 50 * number));
        if number % 12 < 6 || number % 12 == 11 {
            run.turn()?;
        }
    }
    run.turns(3)
}

/// Promise: P1, P5.
#[test]
fn a_cut_while_segments_roll() {
    let finished = |run: &Run| {
        let stats = run.rig.node.journal().stats();
        assert!(stats.segments >= 6, "segments were filled: {stats:?}");
        assert_eq!(stats.checkpoint.0, 0, "by nothing but rolls");
        assert!(stats.blocks > stats.commits + 4, "commits of several blocks: {stats:?}");
    };
    Sweep {
        name: "segment roll",
        options: journal::Options { segments_max: 12, checkpoint_bytes: 1 << 30, ..small() },
        story: rolls,
        queues: &["work"],
        pause_ms: 0,
        check: nothing_more,
        finished,
        writes_short: false,
        cuts_min: 300,
    }
    .every_cut();
}

/// A checkpoint every few messages, under traffic, and the one of an orderly stop.
fn checkpoints(run: &mut Run) -> Result<(), Fault> {
    run.declare("work", QueueOptions::default());
    run.declare("done", QueueOptions::default());
    run.consume("work", 8);
    for number in 0..60 {
        run.publish("work", body("work", number, 400));
        run.publish("done", body("done", number, 700));
        if number % 4 == 1 {
            run.ack();
        }
        run.turn()?;
    }
    run.prepare_close()?;
    run.turns(6)
}

/// Promise: P1, P5.
#[test]
fn a_cut_while_checkpoints_are_written() {
    let finished = |run: &Run| {
        let journal = run.rig.node.journal();
        assert_eq!(journal.stats().checkpoint, journal.next_lsn(), "the last one covers it all");
    };
    Sweep {
        name: "checkpoint",
        options: journal::Options { checkpoint_bytes: 6 * 1024, pace_bytes: 4096, ..small() },
        story: checkpoints,
        queues: &["work", "done"],
        pause_ms: 0,
        check: nothing_more,
        finished,
        writes_short: false,
        cuts_min: 1000,
    }
    .every_cut();
}

/// The ring turns while some messages stay for long; then most of those go, so that survivor
/// files are rewritten and removed.
pub(crate) fn survivors(run: &mut Run) -> Result<(), Fault> {
    run.declare("keep", QueueOptions::default());
    run.declare("flow", QueueOptions::default());
    run.consume("flow", 20);
    for number in 0..100 {
        if number % 10 == 0 {
            run.publish("keep", body("keep", number, 1200));
        }
        run.publish("flow", body("flow", number, 7000));
        run.turn()?;
        if number % 25 != 24 {
            run.ack();
        }
    }
    run.consume("keep", 20);
    run.turns(3)?;
    run.ledger.held.make_contiguous().sort_unstable();
    for _ in 0..11 {
        run.ack();
        run.turns(2)?;
    }
    run.turns(6)
}

/// The sweep over [`survivors`], for other files too.
pub(crate) fn survivor_sweep() -> Sweep {
    let finished = |run: &Run| {
        let stats = run.rig.node.journal().stats();
        assert!(stats.checkpoint.0 > 0 && stats.compactions > 0, "{stats:?}");
        assert!(run.rig.node.journal().next_lsn().0 > 600 * 1024, "the ring turned");
    };
    Sweep {
        name: "survivor pass",
        options: small(),
        story: survivors,
        queues: &["keep", "flow"],
        pause_ms: 0,
        check: nothing_more,
        finished,
        writes_short: false,
        cuts_min: 1000,
    }
}

/// Promise: P1, P5.
#[test]
fn a_cut_while_survivors_are_copied_and_rewritten() {
    survivor_sweep().every_cut();
}

fn name(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn queue(text: &'static str) -> Request {
    let spec = QueueSpec { is_durable: true, ..QueueSpec::default() };
    Request::DeclareQueue(Box::new(DeclareQueue { name: name(text), spec }))
}

fn exchange(text: &'static str, kind: ExchangeKind) -> Request {
    let spec = ExchangeSpec {
        kind,
        is_durable: true,
        is_auto_delete: false,
        is_internal: false,
        is_delayed: false,
        alternate: None,
        arguments: Bytes::new(),
    };
    Request::DeclareExchange(Box::new(DeclareExchange { name: name(text), spec }))
}

fn binding(source: &'static str, to: &'static str, key: &'static str) -> Box<Binding> {
    Box::new(Binding {
        source: name(source),
        kind: DestinationKind::Queue,
        destination: name(to),
        routing_key: name(key),
        arguments: Bytes::new(),
    })
}

fn routed(run: &mut Run, exchange: &'static str, key: &'static str, body: Vec<u8>) {
    run.ask(Request::Publish(Publish {
        exchange: name(exchange),
        routing_key: name(key),
        body: Bytes::copy_from_slice(&body),
        options: PublishOptions { wants_confirm: true, ..PublishOptions::default() },
        ..Publish::default()
    }));
    run.sent(body);
}

fn admin(admin: Admin) -> Request {
    Request::Admin(Box::new(admin))
}

fn user(name: &'static str, hash: &'static str) -> Request {
    admin(Admin::PutUser {
        name: Bytes::from_static(name.as_bytes()),
        password_hash: Bytes::from_static(hash.as_bytes()),
        tags: Bytes::from_static(b"administrator"),
    })
}

/// Everything that can be defined comes, carries a message, and goes again.
fn definitions(run: &mut Run) -> Result<(), Fault> {
    run.turns(2)?;
    for round in 0..4 {
        run.define(queue("one"))?;
        run.define(queue("two"))?;
        run.define(exchange("topics", ExchangeKind::Topic))?;
        run.define(Request::Bind(binding("topics", "one", "a.*")))?;
        run.define(Request::Bind(binding("topics", "two", "b.#")))?;
        run.define(user("ada", if round == 1 { "$argon2id$1" } else { "$argon2id$2" }))?;
        run.define(admin(Admin::PutVhost(name("farm"))))?;
        for number in 0..3 {
            routed(run, "topics", "a.x", body("one", round * 10 + number, 200));
            routed(run, "topics", "b.x.y", body("two", round * 10 + number, 200));
        }
        run.turn()?;
        run.define(Request::Unbind(binding("topics", "one", "a.*")))?;
        remove_all(run, "one", Request::PurgeQueue(name("one")))?;
        if round == 1 {
            let delete =
                Request::DeleteQueue { name: name("two"), if_unused: false, if_empty: false };
            remove_all(run, "two", delete)?;
            run.define(Request::DeleteExchange { name: name("topics"), if_unused: false })?;
            run.define(admin(Admin::DeleteUser(name("ada"))))?;
            run.define(admin(Admin::DeleteVhost(name("farm"))))?;
        }
    }
    run.turns(2)
}

/// A request after which nothing with this label is left.
fn remove_all(run: &mut Run, label: &str, request: Request) -> Result<(), Fault> {
    run.ask(request);
    let bodies: Vec<Vec<u8>> = run.ledger.published.keys().cloned().collect();
    let start = format!("{label}-");
    for body in bodies.iter().filter(|body| body.starts_with(start.as_bytes())) {
        if run.ledger.published[body].gone_at.is_none() {
            run.gone(body);
        }
    }
    run.turns(2)
}

/// Promise: P1.
#[test]
fn a_cut_while_definitions_change() {
    Sweep {
        name: "definitions",
        options: journal::Options { checkpoint_bytes: 3000, ..small() },
        story: definitions,
        queues: &["one", "two"],
        pause_ms: 0,
        check: nothing_more,
        finished: |run| assert!(run.ledger.done > 20, "{} answers", run.ledger.done),
        writes_short: false,
        cuts_min: 450,
    }
    .every_cut();
}

/// Messages that expire, that overflow, that are refused, and that come back until they have come
/// back too often; all of them end in one queue.
fn dead_letters(run: &mut Run) -> Result<(), Fault> {
    let dead = QueueOptions {
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some(name("dead")),
        ..QueueOptions::default()
    };
    run.declare("dead", QueueOptions::default());
    run.declare("brief", QueueOptions { message_ttl_ms: Some(40), ..dead.clone() });
    let short = QueueOptions { length_max: Some(4), overflow: Overflow::DropHead, ..dead.clone() };
    run.declare("short", short);
    run.declare("retry", QueueOptions { delivery_max: Some(2), ..dead });
    run.consume("retry", 3);
    for number in 0..24 {
        run.publish("brief", body("brief", number, 900));
        run.publish("short", body("short", number, 900));
        run.publish("retry", body("retry", number, 900));
        run.turn()?;
        if let Some((tag, _)) = run.ledger.held.pop_front() {
            let is_requeue = number % 4 != 0;
            run.ask(Request::Release { tag, is_multiple: false, is_requeue });
        }
        run.turn()?;
    }
    run.turns(8)
}

/// Promise: P1, P3.
#[test]
fn a_cut_while_messages_expire_die_and_return() {
    let finished = |run: &Run| {
        let stats = run.rig.node.journal().stats();
        assert!(stats.fetched > 0, "dead letters were read from disk: {stats:?}");
    };
    Sweep {
        name: "dead letters",
        options: journal::Options { cache_bytes: 2048, checkpoint_bytes: 20_000, ..small() },
        story: dead_letters,
        queues: &["brief", "short", "retry", "dead"],
        pause_ms: 300,
        check: nothing_more,
        finished,
        writes_short: false,
        cuts_min: 800,
    }
    .every_cut();
}
