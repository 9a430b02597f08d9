//! The server's own work per message without sockets, disk and threads: one door per client, the
//! pipeline, the engine and the log in one thread, with fixed input, time and randomness.
//!
//! Counted under Callgrind by `cargo x instructions`, which collects inside [`measured`] only.
//! Lives here: the scenarios. Not here: the budgets (`bench/instructions.toml`). What is not
//! counted: the system's part (sockets, flushes) and the commit thread's.
//!
//! Usage: `instructions SCENARIO`, prints how many messages were measured.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use journal::disk::MemoryDisk;
use journal::{Durability, Workers};
use model::{Admin, Envelope, Limits, Millis, Output, Permission, Request, SessionId, Ticket};
use proto_amqp::codec::{PROTOCOL_HEADER, put_content};
use proto_amqp::table::Method;
use proto_amqp::{Connection, Options};
use replica::{Node, SessionInfo};
use wire::{Close, Connection as _, Outbox};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Millis = Millis(1_700_000_000_000);
const CHANNEL: u16 = 1;
const BODY_BYTES: usize = 1024;
/// Messages before the measurement: enough to fill the log's cache, so that its blocks are reused.
const WARM_MESSAGES: usize = 4_000;
const CACHE_BYTES: usize = 1 << 20;
const MESSAGES: usize = 10_000;

/// One way of using the server.
struct Scenario {
    name: &'static str,
    /// Messages per turn: how much arrives together.
    batch: usize,
    is_durable: bool,
    is_confirmed: bool,
    is_auto_ack: bool,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "confirm-200",
        batch: 200,
        is_durable: true,
        is_confirmed: true,
        is_auto_ack: false,
    },
    Scenario {
        name: "confirm-1",
        batch: 1,
        is_durable: true,
        is_confirmed: true,
        is_auto_ack: false,
    },
    Scenario {
        name: "transient-200",
        batch: 200,
        is_durable: false,
        is_confirmed: false,
        is_auto_ack: true,
    },
];

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("name a scenario")?;
    let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = found.with_context(|| format!("no scenario is called {name}"))?;
    let mut bench = Bench::prepare(scenario)?;
    for _ in 0..WARM_MESSAGES / scenario.batch {
        turn(&mut bench)?;
    }
    let turns = MESSAGES / scenario.batch;
    let before = bench.delivered_bytes;
    for _ in 0..turns {
        bench.receive();
        measured(&mut bench, Part::Publish)?;
        bench.node.run_pending();
        measured(&mut bench, Part::Deliver)?;
        bench.node.run_pending();
    }
    if bench.delivered_bytes - before < turns * scenario.batch * BODY_BYTES {
        bail!("not everything that was published was delivered");
    }
    anstream::println!("{}", turns * scenario.batch);
    Ok(())
}

/// The two halves of a turn, between which the disk does its work.
#[derive(Clone, Copy)]
enum Part {
    Publish,
    Deliver,
}

/// Everything inside is counted.
#[inline(never)]
fn measured(bench: &mut Bench, part: Part) -> anyhow::Result<()> {
    bench.perform(part)
}

/// A whole turn that is not counted.
#[inline(never)]
fn turn(bench: &mut Bench) -> anyhow::Result<()> {
    bench.receive();
    bench.perform(Part::Publish)?;
    bench.node.run_pending();
    bench.perform(Part::Deliver)?;
    bench.node.run_pending();
    Ok(())
}

/// A publisher and a consumer on one node.
struct Bench {
    node: Node,
    publisher: Client,
    consumer: Client,
    /// The publishes of one turn.
    publishes: Vec<u8>,
    batch: u64,
    is_auto_ack: bool,
    /// Deliveries acknowledged so far.
    acknowledged: u64,
    delivered_bytes: usize,
}

/// One connection: a door and its session.
struct Client {
    door: Connection,
    session: SessionId,
    input: BytesMut,
    out: Outbox,
    now: Instant,
}

impl Bench {
    fn prepare(scenario: &Scenario) -> anyhow::Result<Self> {
        let mut node = open()?;
        let mut publisher = Client::connect(&mut node, 1)?;
        let mut consumer = Client::connect(&mut node, 2)?;
        consumer.say(&mut node, &declare(scenario.is_durable))?;
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 1000, global: false };
        consumer.say(&mut node, &qos)?;
        consumer.say(&mut node, &consume(scenario.is_auto_ack))?;
        if scenario.is_confirmed {
            publisher.say(&mut node, &Method::ConfirmSelect { nowait: false })?;
        }
        let mut publish = BytesMut::new();
        let (exchange, routing_key) = (&b""[..], &b"instructions"[..]);
        let (ticket, mandatory, immediate) = (0, false, false);
        Method::BasicPublish { ticket, exchange, routing_key, mandatory, immediate }
            .put(&mut publish, CHANNEL);
        let properties = [0x10, 0x00, if scenario.is_durable { 2 } else { 1 }];
        put_content(&mut publish, CHANNEL, &properties, &[b'p'; BODY_BYTES], 131_072);
        Ok(Self {
            node,
            publisher,
            consumer,
            publishes: publish.repeat(scenario.batch),
            batch: u64::try_from(scenario.batch)?,
            is_auto_ack: scenario.is_auto_ack,
            acknowledged: 0,
            delivered_bytes: 0,
        })
    }

    /// What the system would do: the publishes of one turn arrive.
    fn receive(&mut self) {
        self.publisher.input.extend_from_slice(&self.publishes);
    }

    fn perform(&mut self, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Publish => {
                self.publisher.feed(&mut self.node)?;
                self.node.commit(NOW)?;
            }
            Part::Deliver => {
                self.node.commit(NOW)?;
                self.publisher.gather(&mut self.node)?;
                self.delivered_bytes += self.consumer.gather(&mut self.node)?;
                if !self.is_auto_ack {
                    self.acknowledged += self.batch;
                    let delivery_tag = self.acknowledged;
                    Method::BasicAck { delivery_tag, multiple: true }
                        .put(&mut self.consumer.input, CHANNEL);
                    self.consumer.feed(&mut self.node)?;
                }
                self.node.commit(NOW)?;
            }
        }
        Ok(())
    }
}

/// A node on a disk in memory, whose work is done only when asked.
fn open() -> anyhow::Result<Node> {
    let journal = journal::Options {
        dir: "/data".into(),
        durability: Durability::Fsync,
        free_bytes_min: 0,
        cache_bytes: CACHE_BYTES,
        seed: Some(7),
        ..journal::Options::default()
    };
    let options = replica::Options { journal, limits: Limits::default() };
    let mut count = 0;
    let entropy = Box::new(move || {
        count += 1;
        count
    });
    let disk = Arc::new(MemoryDisk::default());
    let (mut node, _) = Node::open(disk, options, Workers::Inline, NOW, entropy)?;
    let user = Admin::PutUser {
        name: Bytes::from_static(b"guest"),
        password_hash: Bytes::from_static(b"never looked at"),
        tags: Bytes::new(),
    };
    let right = Admin::SetPermission {
        user: Bytes::from_static(b"guest"),
        vhost: Bytes::from_static(b"/"),
        permission: Permission::full(),
    };
    let session = node.open_session(SessionInfo::default(), Rc::new(|| {}));
    for admin in [user, right] {
        let request = Request::Admin(Box::new(admin));
        node.submit(NOW, session, &mut vec![Envelope { channel: 0, ticket: Ticket(0), request }]);
    }
    node.close_session(NOW, session);
    Ok(node)
}

const fn declare(is_durable: bool) -> Method<'static> {
    Method::QueueDeclare {
        ticket: 0,
        queue: b"instructions",
        passive: false,
        durable: is_durable,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: &[],
    }
}

const fn consume(is_auto_ack: bool) -> Method<'static> {
    Method::BasicConsume {
        ticket: 0,
        queue: b"instructions",
        consumer_tag: b"c",
        no_local: false,
        no_ack: is_auto_ack,
        exclusive: false,
        nowait: false,
        arguments: &[],
    }
}

impl Client {
    /// Logs in and opens the channel.
    fn connect(node: &mut Node, nonce: u64) -> anyhow::Result<Self> {
        let now = Instant::now();
        let session = node.open_session(SessionInfo::default(), Rc::new(|| {}));
        let door = Connection::new(Arc::new(Options::default()), true, nonce, now);
        let (input, out) = (BytesMut::from(&PROTOCOL_HEADER[..]), Outbox::new());
        let mut client = Self { door, session, input, out, now };
        client.settle(node)?;
        let (client_properties, locale) = (&[][..], &b"en_US"[..]);
        let (mechanism, response) = (&b"PLAIN"[..], &b"\0guest\0guest"[..]);
        Method::ConnectionStartOk { client_properties, mechanism, response, locale }
            .put(&mut client.input, 0);
        client.settle(node)?;
        Method::ConnectionTuneOk { channel_max: 100, frame_max: 131_072, heartbeat: 0 }
            .put(&mut client.input, 0);
        let (virtual_host, capabilities, insist) = (&b"/"[..], &[][..], false);
        Method::ConnectionOpen { virtual_host, capabilities, insist }.put(&mut client.input, 0);
        client.settle(node)?;
        client.say(node, &Method::ChannelOpen { out_of_band: &[] })?;
        Ok(client)
    }

    /// Sends a method on the channel and waits for its reply.
    fn say(&mut self, node: &mut Node, method: &Method<'_>) -> anyhow::Result<()> {
        method.put(&mut self.input, CHANNEL);
        if self.settle(node)? == 0 {
            bail!("no reply to {}", method.name());
        }
        Ok(())
    }

    /// Works off what was sent, disk included; returns the bytes that came back.
    fn settle(&mut self, node: &mut Node) -> anyhow::Result<usize> {
        let mut bytes = 0;
        for _ in 0..4 {
            self.feed(node)?;
            for login in node.take_logins() {
                node.verified(NOW, &login, true);
            }
            node.commit(NOW)?;
            node.run_pending();
            node.commit(NOW)?;
            bytes += self.gather(node)?;
        }
        Ok(bytes)
    }

    /// Lets the door read and the node perform what it asks.
    fn feed(&mut self, node: &mut Node) -> anyhow::Result<()> {
        self.door.on_bytes(self.now, &mut self.input, &mut self.out)?;
        node.submit(NOW, self.session, &mut self.out.requests);
        Ok(())
    }

    /// Lets the door write what has been released; returns how many bytes that were.
    fn gather(&mut self, node: &mut Node) -> anyhow::Result<usize> {
        let Self { door, session, out, now, .. } = self;
        let mut bytes = 0;
        loop {
            let is_more = node.collect(NOW, *session, &mut |output| {
                match output {
                    Output::Reply { channel, ticket, reply } => {
                        door.on_reply(*now, (channel, ticket), reply, out)?;
                    }
                    Output::Event(event) => door.on_event(*now, event, out)?,
                }
                Ok::<bool, Close>(out.has_room())
            })?;
            door.on_batch_end(out);
            bytes += out.bytes.len();
            out.bytes.clear();
            if !is_more {
                break;
            }
        }
        node.submit(NOW, *session, &mut out.requests);
        Ok(bytes)
    }
}
