//! Every method of the AMQP table against users with few rights: the real door, pipeline, engine
//! and log in one thread, without sockets. A method without a line fails. The same with unmodified
//! clients, to the letter of each refusal, is the conformance suite `rights`.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use journal::disk::MemoryDisk;
use journal::{Durability, Workers};
use model::{
    Admin, DeclareExchange, DeclareQueue, Envelope, ExchangeKind, ExchangeSpec, Limits, Millis,
    Output, Permission, QueueSpec, Request, SessionId, Ticket, TopicPermission,
};
use proto_amqp::codec::{PROTOCOL_HEADER, put_content};
use proto_amqp::table::{METHODS, Method, Sender};
use proto_amqp::{Connection, Options};
use replica::{Actor, Node, SessionInfo};
use wire::{Close, Connection as _, Outbox};

const NOW: Millis = Millis(1_700_000_000_000);
const CHANNEL: u16 = 1;
/// Arguments that name the exchange `x`.
const LETTERS: &[u8] = b"\x16x-dead-letter-exchangeS\0\0\0\x01x";
const ALTERNATE: &[u8] = b"\x12alternate-exchangeS\0\0\0\x01x";
/// A property list whose only header says that `z` gets a copy.
const COPY: &[u8] = b"\x20\0\0\0\0\x0e\x02CCA\0\0\0\x06S\0\0\0\x01z";
const NO_PROPERTIES: &[u8] = b"\0\0";

/// Roles by letter: everything; configure, write or read only; everything but only the topics
/// `a.*` at `t`; nothing.
const ROLES: [(char, [&str; 3]); 6] = [
    ('f', [".*", ".*", ".*"]),
    ('c', [".*", "", ""]),
    ('w', ["", ".*", ""]),
    ('r', ["", "", ".*"]),
    ('t', [".*", ".*", ".*"]),
    ('-', ["", "", ""]),
];
const EVERYBODY: &str = "fcwrt-";
/// What belongs to the connection, not to a channel; who may open one is a test of its own.
const OF_THE_CONNECTION: u16 = 10;

/// What is sent, and by whom it may be.
struct Line {
    passes: &'static str,
    methods: Vec<Method<'static>>,
    /// Property list of the content behind the last method.
    content: Option<&'static [u8]>,
}

fn line(passes: &'static str, method: Method<'static>) -> Line {
    Line { passes, methods: vec![method], content: None }
}

fn declare_exchange(
    name: &'static str,
    passive: bool,
    arguments: &'static [u8],
) -> Method<'static> {
    Method::ExchangeDeclare {
        ticket: 0,
        exchange: name.as_bytes(),
        kind: b"fanout",
        passive,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments,
    }
}

fn declare_queue(name: &'static str, passive: bool, arguments: &'static [u8]) -> Method<'static> {
    Method::QueueDeclare {
        ticket: 0,
        queue: name.as_bytes(),
        passive,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments,
    }
}

fn bind_queue(source: &'static str, key: &'static str) -> [Method<'static>; 2] {
    let (ticket, queue, exchange) = (0, &b"q"[..], source.as_bytes());
    let (routing_key, arguments) = (key.as_bytes(), &[][..]);
    [
        Method::QueueBind { ticket, queue, exchange, routing_key, nowait: false, arguments },
        Method::QueueUnbind { ticket, queue, exchange, routing_key, arguments },
    ]
}

fn bind_exchange(source: &'static str, key: &'static str) -> [Method<'static>; 2] {
    let (ticket, destination, source) = (0, &b"y"[..], source.as_bytes());
    let (routing_key, arguments, nowait) = (key.as_bytes(), &[][..], false);
    [
        Method::ExchangeBind { ticket, destination, source, routing_key, nowait, arguments },
        Method::ExchangeUnbind { ticket, destination, source, routing_key, nowait, arguments },
    ]
}

fn publish(passes: &'static str, exchange: &'static str, key: &'static str) -> Line {
    let (ticket, exchange, routing_key) = (0, exchange.as_bytes(), key.as_bytes());
    let (mandatory, immediate) = (false, false);
    let method = Method::BasicPublish { ticket, exchange, routing_key, mandatory, immediate };
    Line { content: Some(NO_PROPERTIES), ..line(passes, method) }
}

fn consume(passes: &'static str, queue: &'static str, no_ack: bool) -> Line {
    let method = Method::BasicConsume {
        ticket: 0,
        queue: queue.as_bytes(),
        consumer_tag: b"c",
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: &[],
    };
    line(passes, method)
}

/// The table.
fn lines() -> Vec<Line> {
    let mut lines = topology();
    let (exchange, queue, ticket) = (&b"x"[..], &b"q"[..], 0);
    let (if_unused, if_empty, nowait) = (false, false, false);
    let plain: Vec<(&str, Method<'static>)> = vec![
        (EVERYBODY, Method::ChannelFlow { active: true }),
        (EVERYBODY, Method::ChannelFlowOk { active: true }),
        (EVERYBODY, Method::ChannelClose { reply_code: 0, reply_text: b"", class: 0, method: 0 }),
        (EVERYBODY, Method::ChannelCloseOk {}),
        (
            EVERYBODY,
            Method::AccessRequest {
                realm: b"",
                exclusive: false,
                passive: true,
                active: true,
                write: true,
                read: true,
            },
        ),
        ("fct", Method::ExchangeDelete { ticket, exchange, if_unused, nowait }),
        ("frt", Method::QueuePurge { ticket, queue, nowait }),
        ("fct", Method::QueueDelete { ticket, queue, if_unused, if_empty, nowait }),
        (EVERYBODY, Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false }),
        (EVERYBODY, Method::BasicCancel { consumer_tag: b"none", nowait }),
        (EVERYBODY, Method::BasicCancelOk { consumer_tag: b"none" }),
        ("frt", Method::BasicGet { ticket, queue, no_ack: true }),
        // Of nothing: what a channel has in hand was given to it.
        (EVERYBODY, Method::BasicAck { delivery_tag: 0, multiple: true }),
        (EVERYBODY, Method::BasicNack { delivery_tag: 0, multiple: true, requeue: true }),
        (EVERYBODY, Method::BasicReject { delivery_tag: 9, requeue: true }),
        (EVERYBODY, Method::BasicRecover { requeue: true }),
        (EVERYBODY, Method::BasicRecoverAsync { requeue: true }),
        (EVERYBODY, Method::ConfirmSelect { nowait }),
        (EVERYBODY, Method::TxSelect {}),
    ];
    lines.extend(plain.into_iter().map(|(passes, method)| line(passes, method)));
    lines.push(consume("frt", "q", false));
    lines.push(consume(EVERYBODY, "amq.rabbitmq.reply-to", true));
    lines.push(publish("fwt", "x", "k"));
    lines.push(publish("fwt", "", "q"));
    lines.push(publish("fwt", "none", "k"));
    lines.push(publish("fwt", "t", "a.b"));
    lines.push(publish("fw", "t", "z"));
    lines.push(Line { content: Some(COPY), ..publish("fw", "t", "a.b") });
    lines.push(Line { content: Some(COPY), ..publish("fwt", "x", "a.b") });
    for (passes, exchange, key) in [("fwt", "x", "k"), ("fw", "t", "z")] {
        let mut transaction = publish(passes, exchange, key);
        transaction.methods.insert(0, Method::TxSelect {});
        transaction.methods.push(Method::TxCommit {});
        lines.push(transaction);
    }
    let (select, rollback) = (Method::TxSelect {}, Method::TxRollback {});
    lines.push(Line { passes: EVERYBODY, methods: vec![select, rollback], content: None });
    lines
}

/// Exchanges, queues and bindings.
fn topology() -> Vec<Line> {
    let mut lines = vec![
        line("fct", declare_exchange("n", false, &[])),
        line("fct", declare_exchange("y", false, &[])),
        line("ft", declare_exchange("n", false, ALTERNATE)),
        line("fcwrt", declare_exchange("x", true, &[])),
        line("fcwrt", declare_exchange("none", true, &[])),
        line("fct", declare_queue("n", false, &[])),
        line("fct", declare_queue("q", false, &[])),
        line("fct", declare_queue("", false, &[])),
        line("ft", declare_queue("n", false, LETTERS)),
        line("fcwrt", declare_queue("q", true, &[])),
        line("fcwrt", declare_queue("none", true, &[])),
    ];
    for (passes, source, key) in [("ft", "x", "k"), ("ft", "t", "a.#"), ("f", "t", "z")] {
        let queues = bind_queue(source, key).map(|method| line(passes, method));
        let exchanges = bind_exchange(source, key).map(|method| line(passes, method));
        lines.extend(queues.into_iter().chain(exchanges));
    }
    lines
}

/// One connection: a door and its session.
struct Client {
    door: Connection,
    session: SessionId,
    input: BytesMut,
    out: Outbox,
    now: Instant,
}

impl Client {
    /// Logs in as the user with this name and opens `/` and a channel; returns what came back.
    fn connect(node: &mut Node, user: &str) -> (Self, Vec<u8>) {
        let now = Instant::now();
        let info = SessionInfo { actor: Actor::Stranger, ..SessionInfo::default() };
        let session = node.open_session(info, Rc::new(|| {}));
        let door = Connection::new(Arc::new(Options::default()), true, 1, now);
        let (input, out) = (BytesMut::from(&PROTOCOL_HEADER[..]), Outbox::new());
        let mut client = Self { door, session, input, out, now };
        client.settle(node);
        let response = format!("\0{user}\0secret");
        Method::ConnectionStartOk {
            client_properties: &[],
            mechanism: b"PLAIN",
            response: response.as_bytes(),
            locale: b"en_US",
        }
        .put(&mut client.input, 0);
        client.settle(node);
        Method::ConnectionTuneOk { channel_max: 100, frame_max: 131_072, heartbeat: 0 }
            .put(&mut client.input, 0);
        let (virtual_host, capabilities, insist) = (&b"/"[..], &[][..], false);
        Method::ConnectionOpen { virtual_host, capabilities, insist }.put(&mut client.input, 0);
        let came = client.settle(node);
        Method::ChannelOpen { out_of_band: &[] }.put(&mut client.input, CHANNEL);
        (client, came)
    }

    /// Works off what was sent, disk included; returns what came back.
    fn settle(&mut self, node: &mut Node) -> Vec<u8> {
        let mut came = Vec::new();
        for _ in 0..4 {
            let _closed = self.door.on_bytes(self.now, &mut self.input, &mut self.out);
            node.submit(NOW, self.session, &mut self.out.requests);
            for login in node.take_logins() {
                node.verified(NOW, &login, login.hash.is_some());
            }
            node.commit(NOW).unwrap();
            node.run_pending();
            node.commit(NOW).unwrap();
            let Self { door, session, out, now, .. } = self;
            let outcome = node.collect(NOW, *session, &mut |output| {
                match output {
                    Output::Reply { channel, ticket, reply } => {
                        door.on_reply(*now, (channel, ticket), reply, out)?;
                    }
                    Output::Event(event) => door.on_event(*now, event, out)?,
                }
                Ok::<bool, Close>(true)
            });
            drop(outcome);
            door.on_batch_end(out);
            came.extend_from_slice(&out.bytes);
            out.bytes.clear();
            node.submit(NOW, *session, &mut out.requests);
        }
        came
    }
}

/// Reply codes of the closes among the frames.
fn closes(mut frames: &[u8]) -> Vec<u16> {
    let mut codes = Vec::new();
    while let [1..=8, _, _, a, b, c, d, rest @ ..] = frames {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (payload, tail) = rest.split_at(length);
        if let [0, 10, 0, 50, high, low, ..] | [0, 20, 0, 40, high, low, ..] = payload {
            codes.push(u16::from_be_bytes([*high, *low]));
        }
        frames = tail.strip_prefix(&[0xCE]).unwrap();
    }
    codes
}

/// A node with the queue `q`, the exchanges `x` (direct), `y` (fanout) and `t` (topic), and a user
/// for each role, called by its letter; `n` has no row at all.
fn node() -> Node {
    let journal = journal::Options {
        dir: "/data".into(),
        durability: Durability::Memory,
        free_bytes_min: 0,
        seed: Some(7),
        ..journal::Options::default()
    };
    let mut count = 0;
    let entropy = Box::new(move || {
        count += 1;
        count
    });
    let options = replica::Options { journal, limits: Limits::default() };
    let disk = Arc::new(MemoryDisk::default());
    let (mut node, _) = Node::open(disk, options, Workers::Inline, NOW, entropy).unwrap();
    let session = node.open_session(SessionInfo::default(), Rc::new(|| {}));
    let mut batch: Vec<Envelope> = setup()
        .into_iter()
        .map(|request| Envelope { channel: CHANNEL, ticket: Ticket(1), request })
        .collect();
    node.submit(NOW, session, &mut batch);
    node.close_session(NOW, session);
    node
}

fn setup() -> Vec<Request> {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let admin = |it| Request::Admin(Box::new(it));
    let mut requests = Vec::new();
    for name in ROLES.map(|(letter, _)| letter).into_iter().chain(['n']) {
        let (name, password_hash, tags) = (text(&name.to_string()), text("hash"), Bytes::new());
        requests.push(admin(Admin::PutUser { name, password_hash, tags }));
    }
    for (letter, [configure, write, read]) in ROLES {
        let permission =
            Permission { configure: text(configure), write: text(write), read: text(read) };
        let (user, vhost) = (text(&letter.to_string()), text("/"));
        requests.push(admin(Admin::SetPermission { user, vhost, permission }));
    }
    let (user, vhost, exchange) = (text("t"), text("/"), text("t"));
    let permission = TopicPermission { write: text("^a\\."), read: text("^a\\.") };
    requests.push(admin(Admin::SetTopicPermission { user, vhost, exchange, permission }));
    requests.push(Request::OpenVhost(text("/")));
    requests.push(Request::OpenChannel { is_strict: false });
    let exchanges =
        [("x", ExchangeKind::Direct), ("y", ExchangeKind::Fanout), ("t", ExchangeKind::Topic)];
    for (name, kind) in exchanges {
        let spec = ExchangeSpec {
            kind,
            is_durable: false,
            is_auto_delete: false,
            is_internal: false,
            is_delayed: false,
            alternate: None,
            arguments: Bytes::new(),
        };
        let declare = DeclareExchange { name: text(name), spec };
        requests.push(Request::DeclareExchange(Box::new(declare)));
    }
    let declare = DeclareQueue { name: text("q"), spec: QueueSpec::default() };
    requests.push(Request::DeclareQueue(Box::new(declare)));
    requests
}

/// Whether a line passes by a role: nothing is closed for lack of rights.
fn passes(line: &Line, role: char) -> bool {
    let mut node = node();
    let (mut client, came) = Client::connect(&mut node, &role.to_string());
    assert!(closes(&came).is_empty(), "{role} cannot enter");
    let mut left = line.content;
    for method in &line.methods {
        method.put(&mut client.input, CHANNEL);
        if let Method::BasicPublish { .. } = method
            && let Some(properties) = left.take()
        {
            put_content(&mut client.input, CHANNEL, properties, b"body", 131_072);
        }
    }
    let came = client.settle(&mut node);
    !closes(&came).contains(&403)
}

#[test]
fn every_method_by_every_role() {
    let lines = lines();
    for line in &lines {
        let names: Vec<&str> = line.methods.iter().map(Method::name).collect();
        for (role, _) in ROLES {
            let expected = line.passes.contains(role);
            assert_eq!(passes(line, role), expected, "{:?} by {role}", line.methods);
        }
        assert!(!names.is_empty());
    }
    let known: BTreeSet<&str> = METHODS
        .iter()
        .filter(|entry| entry.sender != Sender::server && entry.class != OF_THE_CONNECTION)
        .map(|entry| entry.name)
        .collect();
    let methods = lines.iter().flat_map(|line| &line.methods);
    let mut tried: BTreeSet<&str> = methods.map(Method::name).collect();
    // Every line began with it.
    tried.insert("channel.open");
    assert_eq!(tried, known, "a method has no line");
}

#[test]
fn a_user_without_a_row_stays_outside() {
    let mut node = node();
    let (_, came) = Client::connect(&mut node, "n");
    assert_eq!(closes(&came), [530]);
    let text = String::from_utf8_lossy(&came).into_owned();
    assert!(text.contains("NOT_ALLOWED - access to vhost '/' refused for user 'n'"), "{text}");
    let (mut stranger, came) = Client::connect(&mut node, "nobody");
    assert!(!String::from_utf8_lossy(&came).contains("open-ok"));
    assert!(stranger.settle(&mut node).is_empty(), "nobody is there any more");
}
