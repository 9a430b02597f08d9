//! Routing through the engine's front, against the plainest possible reading of the rules: topic
//! patterns by recursion, headers by looking up each name, direct by comparing, fanout by taking
//! all. Bindings come and go between messages, so stale caches show.

use std::collections::BTreeSet;

use bytes::Bytes;
use engine::{Effects, Engine, Push, SessionInfo};
use model::properties::{Builder, Property};
use model::table::{self, Value};
use model::{
    Binding, Consume, ConsumerId, DeclareQueue, DestinationKind, Envelope, Limits, Millis, Publish,
    PublishOptions, QueueSpec, Reply, Request, SessionId, Stamp, Ticket,
};

use crate::source::Source;
use crate::tape::Tape;

const SESSION: SessionId = SessionId::from_parts(0, 1);
const QUEUES: u32 = 4;
const EXCHANGES: [&str; 4] = ["amq.topic", "amq.headers", "amq.direct", "amq.fanout"];
const STEPS_MAX: usize = 200;

/// The last binding of a long pattern would make the naive reading slow, not the engine.
const WORDS_MAX: usize = 6;

struct World {
    engine: Engine,
    tape: Tape,
    out: Effects,
    bindings: BTreeSet<(usize, Bytes, Bytes, u32)>,
}

/// Steps: bind, unbind, publish.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if source.is_empty() {
            break;
        }
        world.step(&mut source);
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            engine: Engine::new(Limits::default()),
            tape: Tape::default(),
            out: Effects::default(),
            bindings: BTreeSet::new(),
        };
        world.engine.open_session(SESSION, SessionInfo::default());
        world.ask(Request::OpenVhost(Bytes::from_static(b"/")));
        world.ask(Request::OpenChannel { is_strict: false });
        for number in 0..QUEUES {
            let name = queue(number);
            let spec = QueueSpec::default();
            world.ask(Request::DeclareQueue(Box::new(DeclareQueue { name, spec })));
            world.ask(Request::Consume(Box::new(Consume {
                queue: queue(number),
                id: ConsumerId(number),
                label: Bytes::new(),
                no_ack: true,
                is_exclusive: false,
                priority: 0,
            })));
        }
        world
    }

    fn ask(&mut self, request: Request) {
        self.out = Effects::default();
        let envelope = Envelope { channel: 1, ticket: Ticket(1), request };
        let at = Stamp { now: Millis(5), nonce: 7 };
        self.engine.apply(at, SESSION, envelope, &mut self.tape, &mut self.out);
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let exchange = source.below(EXCHANGES.len());
        match source.below(4) {
            0 | 1 => {
                let key = words(source, true);
                let arguments = if exchange == 1 { headers(source, true) } else { Bytes::new() };
                let number = u32::from(source.u8()) % QUEUES;
                let binding = binding(exchange, &key, &arguments, number);
                self.ask(Request::Bind(Box::new(binding)));
                if !self.is_refused() {
                    self.bindings.insert((exchange, key, arguments, number));
                }
            }
            2 => {
                let Some(which) = nth(&self.bindings, source.u8()) else { return };
                self.bindings.remove(&which);
                let (exchange, key, arguments, number) = which;
                let binding = binding(exchange, &key, &arguments, number);
                self.ask(Request::Unbind(Box::new(binding)));
                assert!(!self.is_refused());
            }
            _ => self.publish(exchange, source),
        }
    }

    fn is_refused(&self) -> bool {
        self.out
            .outputs
            .iter()
            .any(|output| matches!(&output.push, Push::Reply { reply: Reply::Refused(_), .. }))
    }

    fn publish(&mut self, exchange: usize, source: &mut Source<'_>) {
        let key = words(source, false);
        let table = if exchange == 1 { headers(source, false) } else { Bytes::new() };
        let properties = Builder::new().with(Property::Headers, table.clone()).build();
        self.ask(Request::Publish(Publish {
            exchange: Bytes::from_static(EXCHANGES[exchange].as_bytes()),
            routing_key: key.clone(),
            properties,
            body: Bytes::new(),
            options: PublishOptions { has_headers: true, ..PublishOptions::default() },
        }));
        let mut bytes = 0;
        let mut found = Vec::new();
        for output in &self.out.outputs {
            if let Push::Deliver { consumer, delivery } = &output.push {
                found.push(consumer.0);
                bytes += u64::from(delivery.bytes);
            }
        }
        self.engine.taken(SESSION, bytes);
        found.sort_unstable();
        let expected: BTreeSet<u32> = self
            .bindings
            .iter()
            .filter(|(of, ..)| *of == exchange)
            .filter(|(_, pattern, arguments, _)| match exchange {
                0 => topic(&split(pattern), &split(&key)),
                1 => agrees(arguments, &table),
                2 => *pattern == key,
                _ => true,
            })
            .map(|(.., number)| *number)
            .collect();
        let expected: Vec<u32> = expected.into_iter().collect();
        assert_eq!(found, expected, "{} key {key:?} headers {table:?}", EXCHANGES[exchange]);
    }
}

fn nth(
    bindings: &BTreeSet<(usize, Bytes, Bytes, u32)>,
    at: u8,
) -> Option<(usize, Bytes, Bytes, u32)> {
    bindings.iter().nth(usize::from(at) % bindings.len().max(1)).cloned()
}

fn queue(number: u32) -> Bytes {
    format!("q{number}").into()
}

fn binding(exchange: usize, key: &Bytes, arguments: &Bytes, number: u32) -> Binding {
    Binding {
        source: Bytes::from_static(EXCHANGES[exchange].as_bytes()),
        kind: DestinationKind::Queue,
        destination: queue(number),
        routing_key: key.clone(),
        arguments: arguments.clone(),
    }
}

/// A routing key, or a pattern: words of a small alphabet, some empty.
fn words(source: &mut Source<'_>, is_pattern: bool) -> Bytes {
    const WORDS: [&str; 6] = ["a", "b", "ab", "", "*", "#"];
    let count = source.below(WORDS_MAX + 1);
    let choice = if is_pattern { &WORDS[..] } else { &WORDS[..4] };
    let list: Vec<&str> = (0..count).map(|_| source.pick(choice)).collect();
    list.join(".").into()
}

/// A header table with few names, so that they meet, and values of many types.
fn headers(source: &mut Source<'_>, is_binding: bool) -> Bytes {
    const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"x-d", b"x-match"];
    let mut table = Vec::new();
    if is_binding {
        const MODES: [&[u8]; 4] = [b"all", b"any", b"all-with-x", b"any-with-x"];
        match source.below(6) {
            5 => {}
            4 => table::put_field(&mut table, b"x-match", Value::Text(source.bytes(4))),
            mode => table::put_field(&mut table, b"x-match", Value::Text(MODES[mode])),
        }
    }
    for _ in 0..source.below(4) {
        let name = source.pick(&NAMES[..4]);
        let value = match source.below(9) {
            0 => Value::Bool(source.is()),
            1 => Value::Int(i64::from(source.u8()) - 3),
            2 => Value::Text(source.bytes(1)),
            3 => Value::Bytes(source.bytes(1)),
            4 => Value::Timestamp(u64::from(source.u8())),
            5 => Value::Float(f64::from(source.u8()) / 2.0),
            6 => Value::Void,
            7 => Value::Decimal(source.u8() & 1, 1),
            _ => Value::Table(b""),
        };
        table::put_field(&mut table, name, value);
    }
    table.into()
}

/// An empty key has no words.
fn split(key: &Bytes) -> Vec<&[u8]> {
    if key.is_empty() { Vec::new() } else { key.split(|byte| *byte == b'.').collect() }
}

fn topic(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&b"#", rest)), _) => (0..=key.len()).any(|skip| topic(rest, &key[skip..])),
        (Some((&word, rest)), Some((&first, tail))) => {
            (word == b"*" || word == first) && topic(rest, tail)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether a message's headers satisfy a binding. Of entries with one name the first counts.
fn agrees(arguments: &[u8], headers: &[u8]) -> bool {
    let mode = match table::find(arguments, b"x-match") {
        Some(Value::Text(mode)) => mode,
        _ => b"all",
    };
    let with_x = mode.ends_with(b"with-x");
    let mut seen = BTreeSet::new();
    let wanted: Vec<_> = table::fields(arguments)
        .filter(|(name, _)| seen.insert(*name))
        .filter(|(name, _)| *name != b"x-match" && (with_x || !name.starts_with(b"x-")))
        .collect();
    let has = |(name, value): &(&[u8], Value<'_>)| {
        table::find(headers, name).is_some_and(|found| equal(*value, found))
    };
    if mode.starts_with(b"any") { wanted.iter().any(has) } else { wanted.iter().all(has) }
}

/// Numbers by value, texts by content, nothing asks for presence only.
fn equal(wanted: Value<'_>, found: Value<'_>) -> bool {
    let number = |value: Value<'_>| match value {
        Value::Int(number) => Some(number as f64),
        Value::Uint(number) | Value::Timestamp(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    };
    let text = |value: Value<'_>| match value {
        Value::Text(text) | Value::Bytes(text) => Some(text.to_vec()),
        _ => None,
    };
    match (number(wanted), number(found)) {
        (Some(one), Some(other)) => return one == other,
        (None, None) => {}
        _ => return wanted == Value::Void,
    }
    match (text(wanted), text(found)) {
        (Some(one), Some(other)) => one == other,
        _ => wanted == Value::Void || wanted == found,
    }
}
