//! Plays a transcript from `testdata/`: what the client sends, what a scripted engine answers, and
//! the recorded frames and requests that must come of it. `UPDATE=1` records anew.
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | story and sources |
//! | `* open [frame_max]` | a new connection, past its handshake, channel 1 open; not recorded |
//! | `> frame` | the client sends it, see `text`; neighbours arrive in one piece |
//! | `! answer` | the engine says so; neighbours are one batch |
//! | `~ ms` | time passes, the deadline is looked at |
//! | `< frame` | recorded: the server sends it |
//! | `? channel request` | recorded: asked of the engine |
//! | `= end` | recorded: the connection ends so |

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use model::{
    ConsumerId, Delivery, Event, MessageRef, Noun, Publish, Refusal, Reply, Request, Ticket,
};
use wire::{Close, Connection as _, Outbox};

use super::text::{self, Words};
use crate::{Connection, Options};

/// A login of a client that understands everything.
const START_OK: &str = concat!(
    r#"0 connection.start-ok mechanism=PLAIN response="\x00guest\x00guest" "#,
    "client_properties={capabilities=F:{authentication_failure_close=t:true ",
    "consumer_cancel_notify=t:true connection.blocked=t:true}}"
);

/// How the input of a step is cut into reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    Whole,
    At(usize),
    Bytewise,
}

/// One step and what it led to.
#[derive(Debug)]
pub(super) struct Step {
    /// Its lines as they stand in the file.
    pub(super) source: Vec<String>,
    kind: char,
}

impl Step {
    /// Bytes of input in it.
    pub(super) fn input(&self) -> Vec<u8> {
        if self.kind != '>' {
            return Vec::new();
        }
        self.source.iter().flat_map(|line| text::frame(&line[2..])).collect()
    }
}

/// The steps of a transcript, without what is recorded.
pub(super) fn steps(file: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in file.lines() {
        let kind = line.chars().next().unwrap_or(' ');
        match kind {
            '<' | '?' | '=' => {
                // Ends a run of neighbours, so that the next input is a read of its own.
                if steps.last().is_some_and(|step| step.kind != '|') {
                    steps.push(Step { source: Vec::new(), kind: '|' });
                }
                continue;
            }
            '>' | '!' => {
                if let Some(last) = steps.last_mut().filter(|last| last.kind == kind) {
                    last.source.push(line.to_owned());
                    continue;
                }
            }
            _ => {}
        }
        steps.push(Step { source: vec![line.to_owned()], kind });
    }
    steps
}

/// A connection with its scripted engine.
pub(super) struct Player {
    options: Options,
    pub(super) connection: Connection,
    pub(super) out: Outbox,
    now: Instant,
    input: BytesMut,
    /// Requests that must be answered, in order.
    waiting: VecDeque<(u16, Ticket, Option<Publish>)>,
    /// Lines recorded so far in this step.
    lines: Vec<String>,
    /// The connection ended.
    pub(super) end: Option<Close>,
}

impl Player {
    pub(super) fn new(options: &Options) -> Self {
        let now = Instant::now();
        Self {
            options: options.clone(),
            connection: Connection::new(Arc::new(options.clone()), true, 7, now),
            out: Outbox::new(),
            now,
            input: BytesMut::new(),
            waiting: VecDeque::new(),
            lines: Vec::new(),
            end: None,
        }
    }

    /// A connection past its login, with the server's proposal made.
    pub(super) fn tuning(options: &Options) -> Self {
        let mut player = Self::new(options);
        player.feed(b"AMQP\0\0\x09\x01", Cut::Whole).unwrap();
        player.feed(&text::frame(START_OK), Cut::Whole).unwrap();
        player.engine_says(&mut Words { rest: "authenticated" }).unwrap();
        player.lines.clear();
        player.out.bytes.clear();
        player
    }

    /// A connection past its handshake, with channel 1 open.
    pub(super) fn open(options: &Options, frame_max: u32) -> Self {
        let mut player = Self::tuning(options);
        let tune_ok =
            format!("0 connection.tune-ok channel_max=2047 frame_max={frame_max} heartbeat=60");
        player.feed(&text::frame(&tune_ok), Cut::Whole).unwrap();
        for input in ["0 connection.open virtual_host=\"/\"", "1 channel.open"] {
            player.feed(&text::frame(input), Cut::Whole).unwrap();
            player.engine_says(&mut Words { rest: "done" }).unwrap();
        }
        player.lines.clear();
        player.out.bytes.clear();
        player
    }

    /// The transcript with what this run recorded.
    pub(super) fn play(mut self, steps: &[Step], cut: Cut) -> String {
        let mut file = String::new();
        for step in steps {
            for line in &step.source {
                file.push_str(line);
                file.push('\n');
            }
            for line in self.step(step, cut) {
                file.push_str(&line);
                file.push('\n');
            }
        }
        file
    }

    fn step(&mut self, step: &Step, cut: Cut) -> Vec<String> {
        if step.kind == '*' {
            let frame_max = step.source[0].trim_start_matches("* open").trim();
            *self = Self::open(&self.options, frame_max.parse().unwrap_or(131_072));
            return Vec::new();
        }
        if self.end.is_some() {
            return Vec::new();
        }
        let mut end = Ok(());
        match step.kind {
            '>' => end = self.feed(&step.input(), cut),
            '!' => {
                for line in &step.source {
                    if end.is_ok() {
                        end = self.engine_says(&mut Words { rest: &line[2..] });
                    }
                }
                self.connection.on_batch_end(&mut self.out);
                if end.is_ok() && !self.input.is_empty() {
                    end = self.feed(&[], Cut::Whole);
                }
            }
            '~' => {
                self.now += Duration::from_millis(step.source[0][2..].parse().unwrap());
                if self.connection.deadline().is_some_and(|deadline| deadline <= self.now) {
                    end = self.connection.on_deadline(self.now, &mut self.out);
                }
            }
            _ => {}
        }
        self.collect();
        let mut lines = std::mem::take(&mut self.lines);
        let sent = self.out.bytes.split();
        lines.extend(text::lines(&sent).iter().map(|line| format!("< {line}")));
        if let Err(close) = end {
            lines.push(format!("= {close}"));
            self.end = Some(close);
        }
        lines
    }

    /// Hands input over in pieces.
    pub(super) fn feed(&mut self, bytes: &[u8], cut: Cut) -> Result<(), Close> {
        let pieces: Vec<&[u8]> = match cut {
            Cut::Whole => vec![bytes],
            Cut::At(at) => {
                let (first, second) = bytes.split_at(at.min(bytes.len()));
                vec![first, second]
            }
            Cut::Bytewise => bytes.chunks(1).collect(),
        };
        for piece in pieces {
            self.input.extend_from_slice(piece);
            self.connection.on_bytes(self.now, &mut self.input, &mut self.out)?;
        }
        Ok(())
    }

    /// Notes what was asked of the engine.
    fn collect(&mut self) {
        for envelope in self.out.requests.drain(..) {
            self.lines.push(format!("? {} {:?}", envelope.channel, envelope.request));
            let publish = match envelope.request {
                Request::Publish(publish) => Some(publish),
                _ => None,
            };
            self.waiting.push_back((envelope.channel, envelope.ticket, publish));
        }
    }

    /// One answer or event.
    fn engine_says(&mut self, words: &mut Words<'_>) -> Result<(), Close> {
        self.collect();
        let verb = words.word();
        match verb.as_str() {
            "skip" => {
                // The oldest request gets no answer (publishes, acknowledgements).
                self.waiting.pop_front().expect("nothing was asked");
                Ok(())
            }
            "deliver" => {
                let channel = words.number();
                let consumer = ConsumerId(words.number());
                let message = Message::read(words);
                let delivery = message.delivery(channel);
                let event = Event::Deliver { consumer, delivery };
                self.connection.on_event(self.now, event, &mut self.out)
            }
            "got" => {
                let (channel, ticket, _) = self.waiting.pop_front().expect("nothing was asked");
                let ready = words.number();
                let message = Message::read(words);
                let event = Event::Got { ticket, delivery: message.delivery(channel), ready };
                self.connection.on_event(self.now, event, &mut self.out)
            }
            "cancelled" => {
                let (channel, consumer) = (words.number(), ConsumerId(words.number()));
                let event = Event::Cancelled { channel, consumer };
                self.connection.on_event(self.now, event, &mut self.out)
            }
            "blocked" => {
                self.connection.on_event(self.now, Event::Blocked(Some("disk")), &mut self.out)
            }
            "unblocked" => self.connection.on_event(self.now, Event::Blocked(None), &mut self.out),
            "shutdown" => {
                self.connection.on_event(self.now, Event::Shutdown("shutdown"), &mut self.out)
            }
            _ => self.reply(&verb, words),
        }
    }

    fn reply(&mut self, verb: &str, words: &mut Words<'_>) -> Result<(), Close> {
        // `unroutable` is followed by the publish's own answer, if it wants one.
        let (channel, ticket, publish) = if verb == "unroutable" {
            let front = self.waiting.front_mut().expect("nothing was asked");
            (front.0, front.1, front.2.take())
        } else {
            self.waiting.pop_front().expect("nothing was asked")
        };
        let reply = match verb {
            "done" => Reply::Done,
            "authenticated" => Reply::Authenticated { tags: Bytes::new() },
            "queue" => Reply::Queue {
                name: words.string().into(),
                ready: words.number(),
                consumers: words.number(),
            },
            "deleted" => Reply::Deleted { messages: words.number() },
            "published" => {
                let count = words.number();
                for _ in 1..count {
                    self.waiting.pop_front().expect("nothing was asked");
                }
                Reply::Published { count }
            }
            "rejected" => Reply::Rejected,
            "empty" => Reply::Empty,
            "unroutable" => Reply::Unroutable(Box::new(publish.expect("no publish"))),
            "refused" => Reply::Refused(Box::new(refusal(words))),
            other => panic!("the engine does not say {other}"),
        };
        self.connection.on_reply(self.now, (channel, ticket), reply, &mut self.out)
    }
}

/// A message that the scripted engine hands out.
struct Message {
    tag: u64,
    is_redelivered: bool,
    returns: Option<u32>,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    properties: Vec<u8>,
    body: Vec<u8>,
}

impl Message {
    fn read(words: &mut Words<'_>) -> Self {
        let mut message = Self {
            tag: 0,
            is_redelivered: false,
            returns: None,
            exchange: Vec::new(),
            routing_key: Vec::new(),
            properties: Vec::new(),
            body: Vec::new(),
        };
        while let Some((name, value)) = words.argument() {
            match name.as_str() {
                "tag" => message.tag = value.parse().unwrap(),
                "redelivered" => message.is_redelivered = true,
                "returns" => message.returns = Some(value.parse().unwrap()),
                "exchange" => message.exchange = text::unescape(&value),
                "key" => message.routing_key = text::unescape(&value),
                "properties" => message.properties = text::unhex(&value),
                "body" => message.body = text::unescape(&value),
                "zeros" => message.body = vec![0; value.parse().unwrap()],
                other => panic!("a message has no {other}"),
            }
        }
        message
    }

    fn delivery(&self, channel: u16) -> Delivery<'_> {
        Delivery {
            channel,
            tag: self.tag,
            is_redelivered: self.is_redelivered,
            returns: self.returns,
            job: None,
            message: MessageRef {
                exchange: &self.exchange,
                routing_key: &self.routing_key,
                properties: &self.properties,
                body: &self.body,
            },
        }
    }
}

fn refusal(words: &mut Words<'_>) -> Refusal {
    let noun = |word: &str| match word {
        "queue" => Noun::Queue,
        "exchange" => Noun::Exchange,
        "vhost" => Noun::Vhost,
        other => panic!("no noun {other}"),
    };
    let text = |words: &mut Words<'_>| String::from_utf8(words.string()).unwrap();
    match words.word().as_str() {
        "not-found" => Refusal::NotFound { noun: noun(&words.word()), name: words.string().into() },
        "inequivalent" => Refusal::Inequivalent {
            noun: noun(&words.word()),
            name: words.string().into(),
            argument: words.word().leak(),
            received: text(words),
            current: text(words),
        },
        "locked" => Refusal::Locked { queue: words.string().into() },
        "in-use" => Refusal::InUse { noun: noun(&words.word()), name: words.string().into() },
        "not-empty" => Refusal::NotEmpty { queue: words.string().into() },
        "access" => Refusal::AccessRefused { reason: text(words) },
        "exclusive" => Refusal::ExclusiveConsumer { queue: words.string().into() },
        "unknown-delivery" => Refusal::UnknownDelivery { tag: words.number() },
        "single" => Refusal::SingleActiveConsumer { queue: words.string().into() },
        "limit" => Refusal::LimitReached { limit: text(words) },
        "unavailable" => Refusal::Unavailable { reason: "disk is full" },
        "not-open" => Refusal::NotOpen,
        other => panic!("no refusal {other}"),
    }
}
