//! The steps of a history: which requests an input's bytes stand for. Small numbers of names, so
//! that things meet; what must hold afterwards is not here (`ledger`, the parent).

use bytes::Bytes;
use model::properties::{Builder, Property};
use model::table::{self, Value};
use model::{
    Admin, Binding, Consume, ConsumerId, DeclareExchange, DeclareQueue, DestinationKind,
    ExchangeKind, ExchangeSpec, Listing, Op, Overflow, Publish, PublishOptions, QueueKind,
    QueueOptions, QueueSpec, Request,
};

use super::{CHANNELS, SESSIONS, World};
use crate::source::Source;

/// Names of queues; the later ones are declared in unusual shapes more often.
pub(super) const QUEUES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Names of queues that doors for jobs make.
pub(super) const JOB_QUEUES: [&str; 3] = ["j", "k", SHARED];
/// The one of them that other doors work with, too.
pub(super) const SHARED: &str = "l";
const EXCHANGES: [&str; 7] = ["", "amq.topic", "amq.fanout", "e0", "e1", "e2", "amq.headers"];
const KEYS: [&str; 4] = ["a", "a.b", "#", "*.b"];

impl World {
    /// One step.
    pub(super) fn step(&mut self, source: &mut Source<'_>) {
        let session = source.below(SESSIONS);
        let channel = 1 + u16::from(source.u8()) % CHANNELS;
        match source.below(if self.has_jobs { 40 } else { 24 }) {
            24.. => self.job_step(session, channel, source),
            0 | 1 => {
                let request = declare(source, self.is_plain);
                self.send(session, channel, request);
            }
            2..=6 => {
                let publish = self.publish(source);
                self.send(session, channel, Request::Publish(publish));
            }
            7 | 8 => {
                self.consumers += 1;
                let consume = Consume {
                    queue: queue(source),
                    id: ConsumerId(self.consumers),
                    label: Bytes::new(),
                    no_ack: source.below(4) == 0,
                    is_exclusive: source.below(8) == 0,
                    priority: i32::from(source.u8() % 3) - 1,
                };
                self.send(session, channel, Request::Consume(Box::new(consume)));
            }
            9..=11 => self.settle(session, channel, source),
            12 => {
                let ops = (0..source.below(4)).map(|_| self.op(session, channel, source)).collect();
                self.send(session, channel, Request::Commit(ops));
            }
            13 => {
                let (queue, no_ack) = (queue(source), source.is());
                self.send(session, channel, Request::Get { queue, no_ack });
            }
            14 => {
                let request = Request::SetCredit {
                    count: u32::from(source.u8() % 5),
                    is_channel_wide: source.is(),
                };
                self.send(session, channel, request);
            }
            15 => {
                let binding = Box::new(binding(source));
                let is_bind = source.below(3) != 0;
                let request =
                    if is_bind { Request::Bind(binding) } else { Request::Unbind(binding) };
                self.send(session, channel, request);
            }
            16 => self.rare(session, channel, source),
            17 => self.wait(u64::from(source.u8())),
            18 | 19 => self.answer(source.below(256)),
            20 => self.take(session),
            21 => {
                self.close(session);
                self.enter(session);
            }
            22 => self.check_or_restart(source),
            _ => {
                let request = if source.is() {
                    Request::Cancel(ConsumerId(1 + u32::from(source.u8())))
                } else {
                    Request::Recover
                };
                self.send(session, channel, request);
            }
        }
    }

    fn settle(&mut self, session: usize, channel: u16, source: &mut Source<'_>) {
        let (tag, is_multiple) = (self.tag(session, channel, source), source.is());
        let request = match source.below(4) {
            0 | 1 => Request::Ack { tag, is_multiple },
            end => Request::Release { tag, is_multiple, is_requeue: end == 2 },
        };
        self.send(session, channel, request);
    }

    fn check_or_restart(&mut self, source: &mut Source<'_>) {
        self.survey();
        match source.below(4) {
            0 => self.check(),
            1 => {
                let mut bytes = Vec::new();
                self.engine.snapshot().write(&mut bytes).expect("a Vec takes everything");
                self.snapshot = Some((bytes, self.tape.records.len()));
            }
            2 => self.restart(usize::MAX),
            _ => {
                let lost = usize::from(source.u8() % 8);
                self.restart(self.tape.records.len().saturating_sub(lost));
            }
        }
    }

    fn rare(&mut self, session: usize, channel: u16, source: &mut Source<'_>) {
        let request = match source.below(12) {
            0 => Request::PurgeQueue(queue(source)),
            1 => {
                let (if_unused, if_empty) = (source.is(), source.is());
                Request::DeleteQueue { name: queue(source), if_unused, if_empty }
            }
            2 => {
                let name = exchange(source);
                Request::DeleteExchange { name, if_unused: source.is() }
            }
            3 | 4 => declare_exchange(source, self.is_plain),
            5 => Request::LookupQueue(queue(source)),
            6 => Request::LookupExchange(exchange(source)),
            7 => Request::CloseChannel,
            8 => Request::OpenChannel { is_strict: source.is() },
            9 => {
                let second = Bytes::from_static(b"second");
                let is_put = source.is();
                let admin =
                    if is_put { Admin::PutVhost(second) } else { Admin::DeleteVhost(second) };
                Request::Admin(Box::new(admin))
            }
            10 => {
                let name = Bytes::from_static(b"guest");
                let (password_hash, tags) = (name.clone(), name.clone());
                let admin = if source.is() {
                    Admin::PutUser { name, password_hash, tags }
                } else {
                    Admin::DeleteUser(name)
                };
                Request::Admin(Box::new(admin))
            }
            _ => Request::Admin(Box::new(Admin::List(source.pick(&[
                Listing::Queues,
                Listing::Exchanges,
                Listing::Bindings,
                Listing::Consumers,
                Listing::Connections,
            ])))),
        };
        self.send(session, channel, request);
    }

    /// A tag that is out with the channel, or any.
    fn tag(&self, session: usize, channel: u16, source: &mut Source<'_>) -> u64 {
        let tags = self.ledger.tags((self.id(session), channel));
        let at = source.below(16);
        tags.get(at).or_else(|| tags.last()).copied().unwrap_or(u64::from(source.u8()))
    }

    fn op(&mut self, session: usize, channel: u16, source: &mut Source<'_>) -> Op {
        let which = source.below(4);
        if which < 2 {
            return Op::Publish(self.publish(source));
        }
        let (tag, is_multiple) = (self.tag(session, channel, source), source.is());
        if which == 2 {
            Op::Ack { tag, is_multiple }
        } else {
            Op::Release { tag, is_multiple, is_requeue: source.is() }
        }
    }

    pub(super) fn publish(&mut self, source: &mut Source<'_>) -> Publish {
        let exchange = exchange(source);
        let bits = source.u8();
        let mut options = PublishOptions {
            is_mandatory: bits & 1 != 0,
            wants_confirm: bits & 2 != 0,
            ..PublishOptions::default()
        };
        if !self.is_plain {
            options.priority = bits >> 5;
            options.expiration_ms = (bits & 4 != 0).then(|| u64::from(source.u8()));
            options.delay_ms = (bits & 8 != 0).then(|| u64::from(source.u8()));
        }
        if bits & 16 != 0 {
            options.extra_keys = Some(Box::new(vec![key(source)]));
        }
        let mut body = self.ledger.number().to_le_bytes().to_vec();
        body.resize(8 + usize::from(source.u8() % 100), b'.');
        let mut headers = Vec::new();
        table::put_field(&mut headers, b"n", Value::Int(i64::from(bits & 3)));
        options.has_headers = true;
        let properties = Builder::new()
            .with(Property::DeliveryMode, vec![2])
            .with(Property::Headers, headers)
            .build();
        let routing_key = if exchange.is_empty() { queue(source) } else { key(source) };
        Publish { exchange, routing_key, properties, body: body.into(), options }
    }
}

fn queue(source: &mut Source<'_>) -> Bytes {
    Bytes::from_static(source.pick(&QUEUES).as_bytes())
}

fn exchange(source: &mut Source<'_>) -> Bytes {
    Bytes::from_static(source.pick(&EXCHANGES).as_bytes())
}

fn key(source: &mut Source<'_>) -> Bytes {
    Bytes::from_static(source.pick(&KEYS).as_bytes())
}

fn declare(source: &mut Source<'_>, is_plain: bool) -> Request {
    let name = queue(source);
    let bits = source.u8();
    let mut spec = QueueSpec {
        is_durable: bits & 3 != 0,
        is_exclusive: bits & 28 == 4,
        is_auto_delete: bits & 28 == 8,
        ..QueueSpec::default()
    };
    if !is_plain {
        spec.options = options(source);
    }
    Request::DeclareQueue(Box::new(DeclareQueue { name, spec }))
}

fn options(source: &mut Source<'_>) -> QueueOptions {
    let (bits, more) = (source.u8(), source.u8());
    let small = |source: &mut Source<'_>| u64::from(source.u8());
    QueueOptions {
        kind: if more & 1 != 0 { QueueKind::Quorum } else { QueueKind::Classic },
        message_ttl_ms: (bits & 1 != 0).then(|| small(source)),
        expires_ms: (bits & 2 != 0).then(|| 1 + small(source)),
        length_max: (bits & 4 != 0).then(|| small(source) % 5),
        bytes_max: (bits & 8 != 0).then(|| small(source)),
        overflow: match more >> 6 {
            0 | 1 => Overflow::DropHead,
            2 => Overflow::RejectPublish,
            _ => Overflow::RejectPublishDeadLetter,
        },
        dead_letter_exchange: (bits & 16 != 0).then(|| exchange(source)),
        dead_letter_routing_key: (bits & 48 == 48).then(|| queue(source)),
        delivery_max: (bits & 64 != 0).then(|| u32::from(source.u8() % 3)),
        priority_max: if bits & 128 != 0 { 1 + source.u8() % 9 } else { 0 },
        is_single_active_consumer: more & 6 == 6,
    }
}

fn declare_exchange(source: &mut Source<'_>, is_plain: bool) -> Request {
    let kinds = [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
        ExchangeKind::Headers,
        ExchangeKind::ConsistentHash,
    ];
    let (name, bits) = (exchange(source), source.u8());
    let spec = ExchangeSpec {
        kind: source.pick(&kinds),
        is_durable: bits & 3 != 0,
        is_auto_delete: bits & 12 == 12,
        is_internal: bits & 48 == 48,
        is_delayed: bits & 64 != 0 && !is_plain,
        alternate: (bits & 128 != 0).then(|| exchange(source)),
        arguments: Bytes::new(),
    };
    Request::DeclareExchange(Box::new(DeclareExchange { name, spec }))
}

fn binding(source: &mut Source<'_>) -> Binding {
    let is_queue = source.below(4) != 0;
    let mut arguments = Vec::new();
    if source.below(3) == 0 {
        table::put_field(&mut arguments, b"n", Value::Int(i64::from(source.u8() & 3)));
    }
    Binding {
        source: exchange(source),
        kind: if is_queue { DestinationKind::Queue } else { DestinationKind::Exchange },
        destination: if is_queue { queue(source) } else { exchange(source) },
        routing_key: key(source),
        arguments: arguments.into(),
    }
}
