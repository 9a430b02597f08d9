//! The engine from outside: a log in a `Vec`, a hand-moved clock, and stories told as requests.

mod commits;
mod consumers;
mod dead_letters;
mod fixtures;
mod histories;
mod job_check;
mod jobs;
mod model_check;
mod queues;
mod recovery;
mod refusals;
mod reply_to;
mod rights;
mod road;
mod tied_jobs;
mod timing;
mod worker_check;
mod workers;

use std::collections::BTreeMap;

use bytes::Bytes;
use model::properties::{Builder, Properties, Property};
use model::{
    Admin, Binding, Cell, Consume, ConsumerId, DeclareExchange, DeclareQueue, DestinationKind,
    Envelope, ExchangeKind, ExchangeSpec, JobId, Limits, Listing, Log, Lsn, Millis, Op, Permission,
    Publish, PublishOptions, QueueOptions, QueueSpec, Record, Refusal, Reply, Request, ResultFacts,
    SessionId, Stamp, TakenFacts, Ticket, TopicPermission,
};

use crate::authorize::Sight;
use crate::effects::{Effects, Handout, Output, Place, Push, Resume, SessionInfo};
use crate::{Engine, record};

/// A log that keeps everything.
#[derive(Debug, Default)]
struct Tape {
    records: Vec<(Lsn, u8, bool, Vec<u8>)>,
    by_lsn: BTreeMap<Lsn, usize>,
    next: Lsn,
}

impl Log for Tape {
    fn next_lsn(&self) -> Lsn {
        self.next
    }

    fn append(&mut self, record: Record<'_>) -> Lsn {
        let lsn = self.next;
        let payload = record.parts.concat();
        self.next = lsn.plus(16 + payload.len() as u64);
        self.by_lsn.insert(lsn, self.records.len());
        self.records.push((lsn, record.kind, record.has_more, payload));
        lsn
    }
}

impl Tape {
    fn payload(&self, lsn: Lsn) -> Vec<u8> {
        self.records[self.by_lsn[&lsn]].3.clone()
    }

    fn kinds(&self) -> Vec<u8> {
        self.records.iter().map(|record| record.1).collect()
    }
}

/// One delivery as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    session: SessionId,
    channel: u16,
    consumer: u32,
    tag: u64,
    is_redelivered: bool,
    returns: Option<u32>,
    body: String,
    properties: Bytes,
    exchange: String,
    routing_key: String,
    gate: Lsn,
    bytes: u32,
    job: Option<JobId>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<String> {
        let list = Properties::parse(&self.properties).unwrap();
        let value = list.header(name.as_bytes())?;
        Some(value.as_text().map_or_else(
            || format!("{value:?}"),
            |text| String::from_utf8_lossy(text).into_owned(),
        ))
    }
}

/// Engine, log and clock.
struct World {
    engine: Engine,
    tape: Tape,
    now: u64,
    nonce: u64,
    outputs: Vec<Output>,
    deliveries: Vec<Seen>,
    /// Handed to workers.
    taken: Vec<(TakenFacts, Seen)>,
    /// Results with their values.
    shown: Vec<(ResultFacts, String)>,
    /// Answer the engine's reads at once.
    serves_reads: bool,
    reads: Vec<crate::Read>,
}

const ALICE: SessionId = SessionId::from_parts(0, 1);
const BOB: SessionId = SessionId::from_parts(1, 1);

impl World {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// With two sessions, each with channel 1 open in `/`.
    fn with_limits(limits: Limits) -> Self {
        let mut world = Self {
            engine: Engine::new(limits),
            tape: Tape::default(),
            now: 1_000_000,
            nonce: 7,
            outputs: Vec::new(),
            deliveries: Vec::new(),
            taken: Vec::new(),
            shown: Vec::new(),
            serves_reads: true,
            reads: Vec::new(),
        };
        world.enter(ALICE);
        world.enter(BOB);
        world
    }

    fn enter(&mut self, session: SessionId) {
        self.engine.open_session(session, SessionInfo::default());
        assert!(matches!(self.ask(session, Request::OpenVhost("/".into())), Reply::Done));
        self.open(session, 1);
    }

    fn open(&mut self, session: SessionId, channel: u16) {
        let request = Request::OpenChannel { is_strict: false };
        self.send(session, channel, request);
        self.outputs.clear();
    }

    fn stamp(&mut self) -> Stamp {
        self.nonce += 1;
        Stamp { now: Millis(self.now), nonce: self.nonce }
    }

    fn send(&mut self, session: SessionId, channel: u16, request: Request) {
        let at = self.stamp();
        let envelope = Envelope { channel, ticket: Ticket(9), request };
        let mut out = Effects::default();
        self.engine.apply(at, session, envelope, &mut self.tape, &mut out);
        self.take_in(out);
    }

    /// Sorts effects, and answers reads.
    fn take_in(&mut self, out: Effects) {
        let mut todo = vec![out];
        while let Some(out) = todo.pop() {
            assert!(out.logins.is_empty() || self.serves_reads, "logins are answered by hand");
            for output in out.outputs {
                self.note(output);
            }
            for read in out.reads {
                if !self.serves_reads {
                    self.reads.push(read);
                    continue;
                }
                let payload = self.tape.payload(read.lsn);
                let what = Resume::Record { token: read.token, lsn: read.lsn, payload: &payload };
                let at = self.stamp();
                let mut more = Effects::default();
                self.engine.resume(at, what, &mut self.tape, &mut more);
                todo.push(more);
            }
        }
        let is_open = self.tape.records.last().is_some_and(|record| record.2);
        assert!(!is_open, "a group was left open");
    }

    fn note(&mut self, output: Output) {
        let Output { session, gate, push } = output;
        match push {
            Push::Deliver { consumer, delivery } => {
                let seen = self.see(session, gate, consumer.0, &delivery);
                self.deliveries.push(seen);
            }
            Push::Got { delivery, .. } => {
                let seen = self.see(session, gate, u32::MAX, &delivery);
                self.deliveries.push(seen);
            }
            Push::Taken { delivery, facts, .. } => {
                let seen = self.see(session, gate, u32::MAX, &delivery);
                self.taken.push((*facts, seen));
            }
            Push::Result { facts, place: Place::Log(lsn), .. } => {
                let payload = self.tape.payload(lsn);
                let value = crate::result(&payload).unwrap().value;
                self.shown.push((*facts, String::from_utf8_lossy(value).into_owned()));
            }
            Push::Reply { .. }
            | Push::Result { .. }
            | Push::ResultGone { .. }
            | Push::Published { .. }
            | Push::Job { .. }
            | Push::Cancelled { .. }
            | Push::Blocked(_)
            | Push::Shutdown(_) => {
                self.outputs.push(Output { session, gate, push });
            }
        }
    }

    fn see(&self, session: SessionId, gate: Lsn, consumer: u32, handout: &Handout) -> Seen {
        let payload = match &handout.place {
            Place::Log(lsn) => self.tape.payload(*lsn),
            Place::Memory(bytes) => bytes.to_vec(),
        };
        let message = crate::message(&payload).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Seen {
            session,
            channel: handout.channel,
            consumer,
            tag: handout.tag,
            is_redelivered: handout.is_redelivered,
            returns: handout.returns,
            body: text(message.body),
            properties: Bytes::copy_from_slice(message.properties),
            exchange: text(message.exchange),
            routing_key: text(message.routing_key),
            gate,
            bytes: handout.bytes,
            job: if let Place::Log(lsn) = handout.place { Some(lsn.into()) } else { None },
        }
    }

    /// Sends on channel 1 and returns the one reply.
    fn ask(&mut self, session: SessionId, request: Request) -> Reply {
        self.outputs.clear();
        self.send(session, 1, request);
        let replies = self.outputs.drain(..).filter_map(|output| {
            if let Push::Reply { reply, .. } = output.push { Some(reply) } else { None }
        });
        let mut replies: Vec<Reply> = replies.collect();
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    fn refusal(&mut self, session: SessionId, request: Request) -> Refusal {
        let reply = self.ask(session, request);
        let Reply::Refused(refusal) = reply else { panic!("not refused: {reply:?}") };
        *refusal
    }

    fn done(&mut self, session: SessionId, request: Request) {
        let reply = self.ask(session, request);
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
    }

    fn declare(&mut self, name: &str, spec: QueueSpec) {
        self.done(ALICE, declare(name, spec));
    }

    fn durable(&mut self, name: &str) {
        self.declare(name, durable(QueueOptions::default()));
    }

    fn exchange(&mut self, name: &str, kind: ExchangeKind) {
        self.done(ALICE, declare_exchange(name, exchange_spec(kind)));
    }

    fn bind(&mut self, source: &str, queue: &str, key: &str) {
        self.done(ALICE, Request::Bind(Box::new(binding(source, queue, key))));
    }

    /// Publishes to the default exchange.
    fn put(&mut self, queue: &str, body: &str) {
        self.send(ALICE, 1, Request::Publish(publish("", queue, body)));
    }

    fn consume(&mut self, session: SessionId, queue: &str, id: u32) {
        self.done(session, Request::Consume(Box::new(consume(queue, id))));
    }

    fn credit(&mut self, session: SessionId, count: u32) {
        self.done(session, Request::SetCredit { count, is_channel_wide: false });
    }

    fn ack(&mut self, session: SessionId, tag: u64) {
        self.send(session, 1, Request::Ack { tag, is_multiple: false });
    }

    fn release(&mut self, session: SessionId, tag: u64, is_requeue: bool) {
        self.send(session, 1, Request::Release { tag, is_multiple: false, is_requeue });
    }

    fn get(&mut self, queue: &str) -> Option<Seen> {
        let before = self.deliveries.len();
        self.outputs.clear();
        self.send(
            BOB,
            1,
            Request::Get { queue: Bytes::copy_from_slice(queue.as_bytes()), no_ack: false },
        );
        self.deliveries.get(before..).and_then(<[Seen]>::first).cloned()
    }

    /// Bodies delivered since the last call.
    fn bodies(&mut self) -> Vec<String> {
        self.deliveries.drain(..).map(|seen| seen.body).collect()
    }

    fn tick(&mut self, to: u64) {
        self.now = to;
        for _ in 0..1000 {
            if self.engine.next_deadline().is_none_or(|due| due.0 > self.now) {
                return;
            }
            let at = self.stamp();
            let mut out = Effects::default();
            self.engine.tick(at, &mut self.tape, &mut out);
            self.take_in(out);
        }
        panic!("the engine is never done with {to}");
    }

    fn close(&mut self, session: SessionId) {
        let at = self.stamp();
        let mut out = Effects::default();
        self.engine.close_session(at, session, &mut self.tape, &mut out);
        self.take_in(out);
    }

    fn ready(&mut self, queue: &str) -> u64 {
        self.column(queue, "messages_ready")
    }

    fn column(&mut self, queue: &str, name: &str) -> u64 {
        let row = self.row(queue).unwrap_or_else(|| panic!("no queue {queue}"));
        match row.iter().find(|(column, _)| *column == name) {
            Some((_, Cell::Number(number))) => *number,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn row(&mut self, queue: &str) -> Option<model::Row> {
        let rows = self.engine.list(Listing::Queues, &Sight::Everything);
        rows.into_iter()
            .find(|row| row[0] == ("name", Cell::Text(Bytes::copy_from_slice(queue.as_bytes()))))
    }

    /// The state that a restart finds: from the log alone.
    fn replayed(&self) -> Engine {
        let mut engine = Engine::new(Limits::default());
        for (lsn, kind, _, payload) in &self.tape.records {
            engine.replay(*lsn, *kind, payload).unwrap();
        }
        engine
    }

    /// Checks that recovery and snapshots give the state that is there, and that exactly the same
    /// records are needed (more only for deliveries on their way).
    fn check_recovery(&self) {
        let all = Lsn::ZERO..Lsn(u64::MAX);
        let replayed = self.check_state();
        let mut live = Vec::new();
        self.engine.live(all.clone(), &mut live);
        let mut others = Vec::new();
        replayed.live(all.clone(), &mut others);
        assert_eq!(others, live, "other records are live");
        assert_eq!(replayed.usage(all.clone()), self.engine.usage(all));
    }

    /// Checks that recovery and snapshots give the state that is there.
    fn check_state(&self) -> Engine {
        let hash = self.engine.state_hash();
        let replayed = self.replayed();
        assert_eq!(replayed.state_hash(), hash, "replay gives another state");
        let mut bytes = Vec::new();
        let snapshot = self.engine.snapshot();
        assert_eq!(snapshot.write(&mut bytes).unwrap(), hash, "written with another hash");
        let restored = Engine::restore(&bytes, Limits::default()).unwrap();
        assert_eq!(restored.state_hash(), hash, "a snapshot gives another state");
        let all = Lsn::ZERO..Lsn(u64::MAX);
        let (mut named, mut needed) = (Vec::new(), Vec::new());
        snapshot.live(&all, &mut named);
        restored.live(all.clone(), &mut needed);
        assert_eq!(named, needed, "a snapshot names the records that its state refers to");
        let mut live = Vec::new();
        self.engine.live(all.clone(), &mut live);
        let mut others = Vec::new();
        for other in [&replayed, &restored] {
            other.live(all.clone(), &mut others);
            assert!(others.iter().all(|lsn| live.contains(lsn)), "{others:?} in {live:?}");
            assert!(other.usage(all.clone()).records <= self.engine.usage(all.clone()).records);
        }
        let records = self.engine.usage(all).records;
        assert!(records >= live.len() as u64, "{records} counted, {} live", live.len());
        replayed
    }

    /// Kills the process: a new engine from the log, sessions anew.
    fn restart(&mut self) {
        let mut engine = self.replayed();
        let at = self.stamp();
        engine.recovered(at);
        self.engine = engine;
        self.deliveries.clear();
        self.taken.clear();
        self.reads.clear();
        self.enter(ALICE);
        self.enter(BOB);
    }
}

fn durable(options: QueueOptions) -> QueueSpec {
    QueueSpec { is_durable: true, options, ..QueueSpec::default() }
}

fn declare(name: &str, spec: QueueSpec) -> Request {
    let name = Bytes::copy_from_slice(name.as_bytes());
    Request::DeclareQueue(Box::new(DeclareQueue { name, spec }))
}

fn exchange_spec(kind: ExchangeKind) -> ExchangeSpec {
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

fn declare_exchange(name: &str, spec: ExchangeSpec) -> Request {
    let name = Bytes::copy_from_slice(name.as_bytes());
    Request::DeclareExchange(Box::new(DeclareExchange { name, spec }))
}

fn binding(source: &str, queue: &str, key: &str) -> Binding {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Binding {
        source: bytes(source),
        kind: DestinationKind::Queue,
        destination: bytes(queue),
        routing_key: bytes(key),
        arguments: Bytes::new(),
    }
}

fn publish(exchange: &str, key: &str, body: &str) -> Publish {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Publish {
        exchange: bytes(exchange),
        routing_key: bytes(key),
        properties: Builder::new().with(Property::DeliveryMode, vec![2]).build(),
        body: bytes(body),
        options: PublishOptions::default(),
    }
}

fn consume(queue: &str, id: u32) -> Consume {
    Consume {
        queue: Bytes::copy_from_slice(queue.as_bytes()),
        id: ConsumerId(id),
        label: Bytes::new(),
        no_ack: false,
        is_exclusive: false,
        priority: 0,
    }
}

fn put_user(name: &str) -> Request {
    let name = Bytes::copy_from_slice(name.as_bytes());
    let password_hash = Bytes::from_static(b"hash");
    Request::Admin(Box::new(Admin::PutUser { name, password_hash, tags: "administrator".into() }))
}
