//! A node over a simulated disk, with its log's work done only when a test says so. No threads,
//! no clock, no sockets.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use journal::disk::FaultyDisk;
use journal::{Durability, Workers};
use model::{
    Consume, ConsumerId, DeclareQueue, Envelope, Event, Held, Limits, Millis, Output, Publish,
    PublishOptions, QueueSpec, Reply, Request, SessionId, Ticket,
};
use replica::{Node, Options, SessionInfo};

/// One megabyte segments make rolls, passes and checkpoints frequent.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// What all nodes of these tests have in common.
pub(crate) fn journal_options() -> journal::Options {
    journal::Options {
        dir: "/data".into(),
        durability: Durability::Fsync,
        free_bytes_min: 0,
        seed: Some(7),
        ..journal::Options::default()
    }
}

/// What a session saw, in words short enough to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Done,
    Queue(u64),
    Published(u32),
    Refused(String),
    Delivered { tag: u64, body: Vec<u8>, is_redelivered: bool },
    Blocked(bool),
    Taken { held: Held, body: Vec<u8> },
    Result { key: Bytes, value: Vec<u8> },
    Other(String),
}

pub(crate) struct Rig {
    pub(crate) disk: FaultyDisk,
    pub(crate) node: Node,
    pub(crate) now: Millis,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::open(FaultyDisk::default(), 8 << 20)
    }

    pub(crate) fn open(disk: FaultyDisk, cache_bytes: usize) -> Self {
        Self::try_open(disk, cache_bytes).expect("the node opens")
    }

    pub(crate) fn try_open(disk: FaultyDisk, cache_bytes: usize) -> Result<Self, replica::Startup> {
        let journal = journal::Options {
            segment_bytes: SEGMENT_BYTES,
            segments_max: 6,
            cache_bytes,
            checkpoint_bytes: 2 * SEGMENT_BYTES,
            ..journal_options()
        };
        Self::open_at(disk, journal, Millis(1_000_000))
    }

    /// Opens a node at a given time.
    pub(crate) fn open_at(
        disk: FaultyDisk,
        journal: journal::Options,
        now: Millis,
    ) -> Result<Self, replica::Startup> {
        let options = Options { journal, limits: Limits::default() };
        let mut count = 0;
        let entropy = Box::new(move || {
            count += 1;
            count
        });
        let (node, _) = Node::open(Arc::new(disk.clone()), options, Workers::Inline, now, entropy)?;
        Ok(Self { disk, node, now })
    }

    /// A session with one open channel in the default virtual host.
    pub(crate) fn session(&mut self) -> SessionId {
        let id = self.node.open_session(SessionInfo::default(), Rc::new(|| {}));
        self.ask(id, Request::OpenVhost(Bytes::from_static(b"/")));
        self.ask(id, Request::OpenChannel { is_strict: true });
        self.settle();
        self.see(id);
        id
    }

    pub(crate) fn ask(&mut self, id: SessionId, request: Request) {
        let mut batch = vec![Envelope { channel: 1, ticket: Ticket(9), request }];
        self.node.submit(self.now, id, &mut batch);
    }

    pub(crate) fn declare(&mut self, id: SessionId, name: &str, is_durable: bool) {
        let spec = QueueSpec { is_durable, ..QueueSpec::default() };
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(id, Request::DeclareQueue(Box::new(DeclareQueue { name, spec })));
    }

    pub(crate) fn publish(&mut self, id: SessionId, queue: &str, body: &[u8]) {
        self.ask(id, Request::Publish(message(queue, body)));
    }

    pub(crate) fn consume(&mut self, id: SessionId, queue: &str, credit: u32) {
        self.ask(id, Request::SetCredit { count: credit, is_channel_wide: false });
        let consume = Consume {
            queue: Bytes::copy_from_slice(queue.as_bytes()),
            id: ConsumerId(1),
            label: Bytes::from_static(b"c"),
            no_ack: false,
            is_exclusive: false,
            priority: 0,
        };
        self.ask(id, Request::Consume(Box::new(consume)));
    }

    /// One turn with the log's work done.
    pub(crate) fn turn(&mut self) {
        self.node.commit(self.now).expect("no fault");
        self.node.run_pending();
        self.node.commit(self.now).expect("no fault");
    }

    /// Turns until everything asked for is durable and answered.
    pub(crate) fn settle(&mut self) {
        for _ in 0..8 {
            self.now = self.now.plus(10);
            self.turn();
        }
    }

    /// Everything that is released for a session, without waiting for the disk.
    pub(crate) fn see(&mut self, id: SessionId) -> Vec<Seen> {
        let mut seen = Vec::new();
        let more = self.node.collect(self.now, id, &mut |output| {
            seen.push(look(output));
            Ok::<_, Infallible>(true)
        });
        assert_eq!(more, Ok(false));
        seen
    }

    /// Everything that is released for a session, bodies on disk included.
    pub(crate) fn see_all(&mut self, id: SessionId) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let seen = self.see(id);
            self.turn();
            let later = self.see(id);
            if seen.is_empty() && later.is_empty() {
                return all;
            }
            all.extend(seen);
            all.extend(later);
        }
    }

    /// The power fails: what was not synced is gone.
    pub(crate) fn crash(self, seed: u64) -> FaultyDisk {
        drop(self.node);
        self.disk.after_power_loss(seed)
    }
}

/// A message to the default exchange that asks for a confirm.
pub(crate) fn message(queue: &str, body: &[u8]) -> Publish {
    Publish {
        routing_key: Bytes::copy_from_slice(queue.as_bytes()),
        body: Bytes::copy_from_slice(body),
        options: PublishOptions { wants_confirm: true, ..PublishOptions::default() },
        ..Publish::default()
    }
}

fn look(output: Output<'_>) -> Seen {
    match output {
        Output::Reply { reply: Reply::Done, .. } => Seen::Done,
        Output::Reply { reply: Reply::Queue { ready, .. }, .. } => Seen::Queue(ready),
        Output::Reply { reply: Reply::Published { count }, .. } => Seen::Published(count),
        Output::Reply { reply: Reply::Refused(refusal), .. } => {
            Seen::Refused(format!("{refusal:?}"))
        }
        Output::Event(Event::Deliver { delivery, .. } | Event::Got { delivery, .. }) => {
            Seen::Delivered {
                tag: delivery.tag,
                body: delivery.message.body.to_vec(),
                is_redelivered: delivery.is_redelivered,
            }
        }
        Output::Event(Event::Taken { facts, delivery, .. }) => Seen::Taken {
            held: Held { job: facts.job, attempt: facts.attempt },
            body: delivery.message.body.to_vec(),
        },
        Output::Event(Event::Result { facts, result, .. }) => {
            Seen::Result { key: facts.key.clone(), value: result.value.to_vec() }
        }
        Output::Event(Event::Blocked(reason)) => Seen::Blocked(reason.is_some()),
        other => Seen::Other(format!("{other:?}")),
    }
}
