//! Clients of the door over the naive engine, in fake time, and the player of stories.
//!
//! A story is a text: `A> bytes` is sent by client A, who connects when named first; `A< line` is
//! what A then gets; `A| half-close` and `A| close` are A's, `A| closed` is the server's; `sleep`
//! milliseconds go by; `drain`: no more jobs are taken. `server -z N` and `server login` are
//! options. A `*` stands for what depends on the machine. `UPDATE=1` records our own anew.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Write as _,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use model::{Delivery, Event, MessageRef};
use wire::{Close, Connection as _, Outbox};

use super::naive::{Naive, Out};
use crate::{Connection, Counted, Host, HostFacts, Options};

/// How the input of a step is cut into reads, and when the engine answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    Whole,
    At(usize),
    Bytewise,
    /// Byte by byte, and the engine is asked when all is read.
    BytewiseThenEngine,
}

/// The process that the stories see.
#[derive(Debug, Default)]
pub(super) struct FakeHost {
    pub(super) is_draining: Cell<bool>,
    connections: Cell<u64>,
    connections_total: Cell<u64>,
    counted: RefCell<[u64; 3]>,
    /// The engine hands its answers over: it may not be looked at.
    is_handing_over: Cell<bool>,
}

impl Host for FakeHost {
    fn facts(&self) -> HostFacts {
        assert!(!self.is_handing_over.get(), "the engine is busy");
        HostFacts {
            pid: 42,
            uptime_s: 7,
            user_time: Duration::from_micros(1_000_023),
            connections: self.connections.get(),
            connections_total: self.connections_total.get(),
            log_segment_bytes: 10_485_760,
            id: "0123456789abcdef".to_owned(),
            hostname: "garden".to_owned(),
            os: "#1 \"quoted\"".to_owned(),
            platform: "x86_64".to_owned(),
            ..HostFacts::default()
        }
    }

    fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    fn count(&self, what: Counted) {
        self.counted.borrow_mut()[what as usize] += 1;
    }

    fn counted(&self, what: Counted) -> u64 {
        self.counted.borrow()[what as usize]
    }
}

/// One client and its connection.
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) out: Outbox,
    pub(super) input: BytesMut,
    session: usize,
    /// What it got and nobody has looked at.
    pub(super) received: Vec<u8>,
    pub(super) end: Option<Close>,
    is_end_told: bool,
    host: Rc<FakeHost>,
}

/// All of it.
pub(super) struct Garden {
    options: Arc<Options>,
    pub(super) host: Rc<FakeHost>,
    pub(super) engine: Naive,
    pub(super) clients: BTreeMap<char, Client>,
    start: Instant,
}

impl Garden {
    pub(super) fn new(options: Options) -> Self {
        let mut engine = Naive::default();
        engine.tick(1_000_000);
        Self {
            options: Arc::new(options),
            host: Rc::default(),
            engine,
            clients: BTreeMap::new(),
            start: Instant::now(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.engine.now)
    }

    /// The client of that name, who connects now if nobody has that name.
    pub(super) fn client(&mut self, name: char) -> &mut Client {
        let now = self.now();
        if !self.clients.contains_key(&name) {
            let host: Rc<dyn Host> = Rc::<FakeHost>::clone(&self.host);
            let mut client = Client {
                connection: Connection::new(Arc::clone(&self.options), host, true),
                out: Outbox::new(),
                input: BytesMut::new(),
                session: self.engine.open(),
                received: Vec::new(),
                end: None,
                is_end_told: false,
                host: Rc::clone(&self.host),
            };
            self.host.connections.set(self.host.connections.get() + 1);
            self.host.connections_total.set(self.host.connections_total.get() + 1);
            client.connection.on_open(now, &mut client.out);
            self.clients.insert(name, client);
        }
        self.clients.get_mut(&name).unwrap()
    }

    pub(super) fn send(&mut self, name: char, bytes: &[u8], cut: Cut) {
        let pieces: Vec<&[u8]> = match cut {
            Cut::Whole => vec![bytes],
            Cut::At(at) => {
                let (head, tail) = bytes.split_at(at.min(bytes.len()));
                vec![head, tail]
            }
            Cut::Bytewise | Cut::BytewiseThenEngine => bytes.chunks(1).collect(),
        };
        self.client(name);
        for piece in pieces {
            let now = self.now();
            let client = self.client(name);
            client.input.extend_from_slice(piece);
            client.read(now);
            if !matches!(cut, Cut::BytewiseThenEngine) {
                self.settle();
            }
        }
        self.settle();
    }

    /// Moves requests and answers until nothing moves.
    pub(super) fn settle(&mut self) {
        let now = self.now();
        loop {
            let mut has_moved = false;
            for client in self.clients.values_mut() {
                has_moved |= client.turn(now, &mut self.engine);
                if client.end.is_some() && !client.is_end_told {
                    client.is_end_told = true;
                    self.host.connections.set(self.host.connections.get() - 1);
                    self.engine.close(client.session);
                    has_moved = true;
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    pub(super) fn half_close(&mut self, name: char) {
        let now = self.now();
        let client = self.client(name);
        if client.end.is_none() {
            let result = client.connection.on_end_of_input(now, &mut client.out);
            client.note(result);
        }
        self.settle();
    }

    pub(super) fn sleep(&mut self, ms: u64) {
        for _ in 0..ms {
            self.engine.tick(self.engine.now + 1);
            let now = self.now();
            for client in self.clients.values_mut().filter(|client| client.end.is_none()) {
                if client.connection.deadline().is_some_and(|deadline| deadline <= now) {
                    let result = client.connection.on_deadline(now, &mut client.out);
                    client.note(result);
                }
            }
            self.settle();
        }
    }
}

impl Client {
    fn note(&mut self, result: Result<(), Close>) {
        self.received.extend_from_slice(&self.out.bytes.split());
        if let Err(close) = result {
            self.end.get_or_insert(close);
        }
    }

    fn read(&mut self, now: Instant) {
        if self.end.is_none() {
            let result = self.connection.on_bytes(now, &mut self.input, &mut self.out);
            self.note(result);
        }
    }

    /// One turn between connection and engine; whether anything moved.
    fn turn(&mut self, now: Instant, engine: &mut Naive) -> bool {
        let mut has_moved = !self.out.requests.is_empty();
        for envelope in self.out.requests.drain(..) {
            engine.submit(self.session, envelope);
        }
        while let Some(out) = engine.take(self.session) {
            has_moved = true;
            if self.end.is_some() {
                continue;
            }
            self.host.is_handing_over.set(true);
            let result = self.hear(now, out);
            self.host.is_handing_over.set(false);
            self.note(result);
        }
        if has_moved && !self.input.is_empty() {
            self.read(now);
        }
        has_moved
    }

    fn hear(&mut self, now: Instant, out: Out) -> Result<(), Close> {
        let body = match &out {
            Out::Reply(..) => &b""[..],
            Out::Got(_, _, body) | Out::Job(_, _, _, body) => &body[..],
        };
        let message = MessageRef { body, ..MessageRef::default() };
        let event = match &out {
            Out::Reply(..) => {
                let Out::Reply(channel, ticket, reply) = out else { return Ok(()) };
                return self.connection.on_reply(now, (channel, ticket), reply, &mut self.out);
            }
            Out::Got(ticket, job, _) => {
                let delivery = Delivery {
                    channel: 1,
                    tag: 1,
                    is_redelivered: false,
                    returns: None,
                    job: Some(*job),
                    message,
                };
                Event::Got { ticket: *ticket, delivery, ready: 0 }
            }
            Out::Job(ticket, facts, published, _) => {
                Event::Job { ticket: *ticket, facts, published: *published, message }
            }
        };
        self.connection.on_event(now, event, &mut self.out)
    }
}

/// What a story led to: itself, with what came in place of what was recorded.
pub(super) fn play(story: &str, cut: Cut) -> String {
    let mut options = Options { version: "1.2.3".to_owned(), ..Options::default() };
    for line in story.lines() {
        if let Some(bytes) = line.strip_prefix("server -z ") {
            options.job_bytes_max = bytes.parse().unwrap();
        }
        options.needs_login |= line == "server login";
        if line == "server nowhere" {
            options.vhost = bytes::Bytes::from_static(b"nowhere");
        }
    }
    let mut run = Run { garden: Garden::new(options), ids: BTreeMap::new(), is_told: Vec::new() };
    let (mut played, mut recorded) = (String::new(), Vec::new());
    for line in story.lines() {
        if is_recorded(line) {
            recorded.push(line);
            continue;
        }
        run.write(&std::mem::take(&mut recorded), &mut played);
        run.step(line, cut);
        played.push_str(line);
        played.push('\n');
    }
    run.write(&recorded, &mut played);
    played
}

/// Whether a line says what came of the steps before it.
fn is_recorded(line: &str) -> bool {
    line.get(1..3) == Some("< ") || line.get(1..) == Some("| closed")
}

struct Run {
    garden: Garden,
    /// Ids as the story has them, and as they are.
    ids: BTreeMap<u64, u64>,
    /// Whose end needs no line any more.
    is_told: Vec<char>,
}

impl Run {
    fn step(&mut self, line: &str, cut: Cut) {
        let name = line.chars().next().unwrap_or('#');
        match line.get(1..).unwrap_or_default() {
            "| half-close" => self.garden.half_close(name),
            "| close" => {
                self.garden.half_close(name);
                self.garden.client(name).received.clear();
                assert!(self.garden.client(name).end.is_some(), "{line}");
                self.is_told.push(name);
            }
            rest if rest.starts_with("> ") => {
                let bytes = self.with_our_ids(&unescape(&rest[2..]));
                self.garden.send(name, &bytes, cut);
            }
            _ if line == "drain" => self.garden.host.is_draining.set(true),
            _ => {
                if let Some(ms) = line.strip_prefix("sleep ") {
                    self.garden.sleep(ms.parse().unwrap());
                }
            }
        }
    }

    /// A command about a job, with the id that it has here.
    fn with_our_ids(&self, bytes: &[u8]) -> Vec<u8> {
        const VERBS: [&str; 8] =
            ["delete", "release", "bury", "touch", "peek", "kick-job", "stats-job", "reserve-job"];
        let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
        let translated = text.split_inclusive("\r\n").map(|line| {
            let Some((verb, rest)) = line.split_once(' ') else { return line.to_owned() };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let ours = digits.parse().ok().and_then(|id| self.ids.get(&id));
            match ours {
                Some(ours) if VERBS.contains(&verb) => {
                    format!("{verb} {ours}{}", &rest[digits.len()..])
                }
                _ => line.to_owned(),
            }
        });
        translated.collect::<String>().into_bytes()
    }

    /// Writes what came: as it was recorded where it agrees with that.
    fn write(&mut self, recorded: &[&str], played: &mut String) {
        let mut came = Vec::new();
        for (name, client) in &mut self.garden.clients {
            let received = std::mem::take(&mut client.received);
            came.extend(
                received
                    .split_inclusive(|byte| *byte == b'\n')
                    .map(|line| format!("{name}< {}", escape(line))),
            );
            if client.end.is_some() && !self.is_told.contains(name) {
                self.is_told.push(*name);
                came.push(format!("{name}| closed"));
            }
        }
        for (index, came) in came.iter().enumerate() {
            let agreed = recorded.get(index).filter(|recorded| self.agree(recorded, came));
            writeln!(played, "{}", agreed.copied().unwrap_or(came)).unwrap();
        }
    }

    fn agree(&mut self, recorded: &str, came: &str) -> bool {
        if let Some((head, tail)) = recorded.split_once('*') {
            return came.starts_with(head) && came.ends_with(tail);
        }
        let [theirs, ours] = [recorded, came].map(|line| {
            let words: Vec<&str> = line.split([' ', '\\']).collect();
            let is_about_job = ["INSERTED", "RESERVED", "FOUND", "id:"].contains(&words[1]);
            words.get(2).filter(|_| is_about_job).and_then(|word| word.parse::<u64>().ok())
        });
        let (Some(theirs), Some(ours)) = (theirs, ours) else { return recorded == came };
        if recorded.contains("INSERTED") {
            self.ids.insert(theirs, ours);
        }
        let is_same_job = *self.ids.get(&theirs).unwrap_or(&theirs) == ours;
        is_same_job && recorded.replacen(&theirs.to_string(), &ours.to_string(), 1) == came
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (kind, behind) = rest.split_first().unwrap();
        rest = behind;
        bytes.push(match kind {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).unwrap()
            }
            other => *other,
        });
    }
    bytes
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => write!(text, "\\x{byte:02x}").unwrap(),
        }
    }
    text
}
