//! [`Run`]: a node that carries out a story, and the ledger of what it said and was asked.
//!
//! Lives here: one session that publishes, consumes, settles and commits, and notes what must and
//! must not be there after a crash. Not here: crashing (`sweep.rs`) and the stories.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use journal::Fault;
use journal::disk::FaultyDisk;
use model::{
    Consume, ConsumerId, DeclareQueue, Held, Lsn, Millis, Op, QueueOptions, QueueSpec, Request,
    Results, SessionId,
};
use replica::SessionInfo;

use crate::rig::{Rig, Seen, message};

/// Not a queue: the results by key, in order of keys.
pub(crate) const RESULTS: &str = "(results)";

/// When every story begins.
pub(crate) const START: Millis = Millis(1_000_000);

/// What became of one published body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    /// Its publisher was told that it is safe.
    pub(crate) is_confirmed: bool,
    /// Log position that has to be durable for it to be gone for good.
    pub(crate) gone_at: Option<Lsn>,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) published: BTreeMap<Vec<u8>, Fate>,
    /// Published and not answered yet, in order.
    waiting: VecDeque<Vec<u8>>,
    /// Delivered and not settled: tag and body.
    pub(crate) held: VecDeque<(u64, Vec<u8>)>,
    /// Taken as a worker and not given back: which, and body.
    pub(crate) taken: VecDeque<(Held, Vec<u8>)>,
    /// Replies `Done` so far.
    pub(crate) done: usize,
    /// Replies to other requests so far.
    pub(crate) answers: usize,
    /// Everything before this position was shown to be durable.
    pub(crate) promised: Lsn,
}

/// What is in the queues: name, bodies in order.
pub(crate) type Contents = BTreeMap<&'static str, Vec<Vec<u8>>>;

impl Ledger {
    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Published(count) => {
                for body in self.waiting.drain(..usize::try_from(count).expect("small")) {
                    self.published.entry(body).or_default().is_confirmed = true;
                }
            }
            Seen::Delivered { tag, body, .. } => self.held.push_back((tag, body)),
            Seen::Done => self.done += 1,
            Seen::Refused(why) => panic!("refused: {why}"),
            // A publish that was refused: it may be there or not, nobody was promised anything.
            Seen::Other(text) if text.contains("Rejected") => {
                self.waiting.pop_front();
            }
            Seen::Taken { held, body } => self.taken.push_back((held, body)),
            Seen::Other(text) if text.contains("Enqueued") => {
                let body = self.waiting.pop_front().expect("somebody waits");
                self.published.entry(body).or_default().is_confirmed = true;
            }
            Seen::Other(text) if text.contains("Stored") => self.done += 1,
            Seen::Queue(_) | Seen::Result { .. } | Seen::Other(_) => self.answers += 1,
            Seen::Blocked(_) => {}
        }
    }

    /// Holds what is there against what was said.
    pub(crate) fn check(&self, contents: &Contents, context: &str) {
        let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (queue, bodies) in contents {
            let mut last: BTreeMap<String, u64> = BTreeMap::new();
            for body in bodies {
                let before = last.insert(label(body), number(body));
                // Messages die for several reasons, each in its own order.
                let follows = *queue == "dead" || before.is_none_or(|before| before < number(body));
                assert!(follows, "{context}: order lost in {queue} at {}", name(body));
                assert!(self.published.contains_key(body), "{context}: nobody sent this");
                *counts.entry(body).or_default() += 1;
            }
        }
        for (body, fate) in &self.published {
            let count = counts.get(body.as_slice()).copied().unwrap_or(0);
            let name = name(body);
            assert!(count <= 1, "{context}: {name} is there {count} times");
            let must_be_there = fate.is_confirmed && fate.gone_at.is_none();
            assert!(count == 1 || !must_be_there, "{context}: {name} was confirmed and is gone");
            let must_be_gone = fate.gone_at.is_some_and(|at| at <= self.promised);
            assert!(count == 0 || !must_be_gone, "{context}: {name} was settled and is back");
        }
    }
}

/// A body that says who it is: a label and a number of six digits, then filler.
pub(crate) fn body(label: &str, number: usize, bytes: usize) -> Vec<u8> {
    let mut body = format!("{label}-{number:06} ").into_bytes();
    body.resize(bytes.max(body.len()), b'.');
    body
}

/// The label and number of a body.
pub(crate) fn name(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == b' ').unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}

/// The label of a body: within a queue, bodies of one label stand in the order of their numbers.
fn label(body: &[u8]) -> String {
    let name = name(body);
    name.rsplit_once('-').expect("label and number").0.to_owned()
}

/// The number of a body.
pub(crate) fn number(body: &[u8]) -> u64 {
    let name = name(body);
    let (_, digits) = name.rsplit_once('-').expect("label and number");
    digits.parse().expect("a number")
}

/// See the module's head.
pub(crate) struct Run {
    pub(crate) rig: Rig,
    pub(crate) id: SessionId,
    pub(crate) ledger: Ledger,
    /// The log must keep every record: no checkpoint, whatever the story wants.
    pub(crate) keeps_all: bool,
    consumers: u64,
}

impl Run {
    /// Opens a node, with one session in it.
    pub(crate) fn open(
        disk: FaultyDisk,
        options: journal::Options,
        now: Millis,
    ) -> Result<Self, replica::Startup> {
        let mut rig = Rig::open_at(disk, options, now)?;
        let id = rig.node.open_session(SessionInfo::default(), std::rc::Rc::new(|| {}));
        rig.ask(id, Request::OpenVhost(Bytes::from_static(b"/")));
        rig.ask(id, Request::OpenChannel { is_strict: true });
        Ok(Self { rig, id, ledger: Ledger::default(), keeps_all: false, consumers: 0 })
    }

    pub(crate) fn ask(&mut self, request: Request) {
        self.rig.ask(self.id, request);
    }

    pub(crate) fn declare(&mut self, name: &str, options: QueueOptions) {
        let spec = QueueSpec { is_durable: true, options, ..QueueSpec::default() };
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(Request::DeclareQueue(Box::new(DeclareQueue { name, spec })));
    }

    pub(crate) fn publish(&mut self, queue: &str, body: Vec<u8>) {
        self.ask(Request::Publish(message(queue, &body)));
        self.sent(body);
    }

    /// Notes a publish that waits for its confirm.
    pub(crate) fn sent(&mut self, body: Vec<u8>) {
        self.ledger.published.insert(body.clone(), Fate::default());
        self.ledger.waiting.push_back(body);
    }

    pub(crate) fn consume(&mut self, queue: &str, credit: u32) {
        self.ask(Request::SetCredit { count: credit, is_channel_wide: false });
        self.consumers += 1;
        let consume = Consume {
            queue: Bytes::copy_from_slice(queue.as_bytes()),
            id: ConsumerId(self.consumers.try_into().expect("few")),
            label: Bytes::from_static(b"c"),
            no_ack: false,
            is_exclusive: false,
            priority: 0,
        };
        self.ask(Request::Consume(Box::new(consume)));
    }

    /// Acknowledges the oldest delivery, if there is one.
    pub(crate) fn ack(&mut self) -> bool {
        let Some((tag, body)) = self.ledger.held.pop_front() else { return false };
        self.ask(Request::Ack { tag, is_multiple: false });
        self.gone(&body);
        true
    }

    /// Notes that a body is gone once everything appended so far is durable.
    pub(crate) fn gone(&mut self, body: &[u8]) {
        let at = self.rig.node.journal().next_lsn();
        if let Some(fate) = self.ledger.published.get_mut(body) {
            fate.gone_at = Some(at);
        }
    }

    /// Acknowledges a delivery and publishes to queues, all or nothing.
    pub(crate) fn commit(&mut self, tag: u64, input: &[u8], outputs: &[(&str, Vec<u8>)]) {
        let mut ops = vec![Op::Ack { tag, is_multiple: false }];
        for (queue, body) in outputs {
            let mut publish = message(queue, body);
            publish.options.wants_confirm = false;
            ops.push(Op::Publish(publish));
            self.ledger.published.insert(body.clone(), Fate::default());
        }
        self.ask(Request::Commit(ops));
        self.gone(input);
    }

    /// Asks for a change of definitions and waits for the answer: it must not come before the
    /// change is durable.
    pub(crate) fn define(&mut self, request: Request) -> Result<(), Fault> {
        let before = self.ledger.done + self.ledger.answers;
        self.ask(request);
        let end = self.rig.node.journal().next_lsn();
        for _ in 0..3 {
            let turned = self.turn();
            if self.ledger.done + self.ledger.answers > before {
                assert!(self.ledger.promised >= end, "answered before it was durable");
                return turned;
            }
            turned?;
        }
        panic!("no answer");
    }

    /// One turn with the log's work done. What was released is noted even when the node stops.
    pub(crate) fn turn(&mut self) -> Result<(), Fault> {
        self.rig.now = self.rig.now.plus(10);
        let now = self.rig.now;
        let node = &mut self.rig.node;
        let mut outcome = node.commit(now);
        if outcome.is_ok() {
            node.run_pending();
            outcome = node.commit(now);
        }
        for seen in self.rig.see(self.id) {
            self.ledger.see(seen);
        }
        self.ledger.promised = self.ledger.promised.max(self.rig.node.journal().durable());
        outcome.map(|_| ())
    }

    pub(crate) fn turns(&mut self, count: usize) -> Result<(), Fault> {
        (0..count).try_for_each(|_| self.turn())
    }

    /// Bodies delivered to a session until none came for some turns (one may be on its way from
    /// the disk).
    fn take_all(&mut self, id: SessionId) -> Vec<Vec<u8>> {
        let (mut bodies, mut idle) = (Vec::new(), 0);
        while idle < 4 {
            let before = bodies.len();
            for seen in self.rig.see(id) {
                if let Seen::Delivered { body, .. } = seen {
                    bodies.push(body);
                }
            }
            idle = if bodies.len() > before { 0 } else { idle + 1 };
            self.rig.turn();
        }
        bodies
    }

    /// Starts the last checkpoint of an orderly stop.
    pub(crate) fn prepare_close(&mut self) -> Result<(), Fault> {
        if self.keeps_all { Ok(()) } else { self.rig.node.prepare_close() }
    }

    /// All results, which are deleted after that.
    fn take_results(&mut self) -> Vec<Vec<u8>> {
        let id = self.rig.session();
        let list = Results::List { prefix: Bytes::new(), after: None, most: 1000 };
        self.rig.ask(id, Request::Results(Box::new(list)));
        self.rig.settle();
        let mut found = Vec::new();
        for seen in self.rig.see_all(id) {
            if let Seen::Result { key, value } = seen {
                self.rig.ask(id, Request::Results(Box::new(Results::Delete(key))));
                found.push(value);
            }
        }
        found
    }

    /// What is in the named queues, taken out by consumers that settle nothing; queues that do
    /// not exist are left out.
    pub(crate) fn contents(&mut self, queues: &[&'static str]) -> Contents {
        let mut contents = Contents::new();
        for queue in queues {
            if *queue == RESULTS {
                contents.insert(queue, self.take_results());
                continue;
            }
            let name = Bytes::from_static(queue.as_bytes());
            let id = self.rig.session();
            self.rig.ask(id, Request::LookupQueue(name));
            self.rig.settle();
            if matches!(self.rig.see(id)[..], [Seen::Queue(_)]) {
                self.rig.consume(id, queue, 0);
                contents.insert(queue, self.take_all(id));
                // Settled, so that whoever goes on finds them empty.
                self.rig.ask(id, Request::Ack { tag: 0, is_multiple: true });
            }
        }
        self.rig.settle();
        contents
    }
}
