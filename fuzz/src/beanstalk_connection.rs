//! What a beanstalk client may send, as any bytes or as commands made of the table of verbs: the
//! connection machine must not panic, must say and ask the same wherever the input is cut and
//! whenever the engine answers, must answer everything before it ends, and must write whole
//! answers of known words.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use model::{
    Delivery, Envelope, Event, JobFacts, JobId, JobState, JobVerb, MessageRef, Millis, QueueFacts,
    Reply, Request, Work, WorkFacts,
};
use proto_beanstalk::table::VERBS;
use proto_beanstalk::{Connection, Host, HostFacts, Options};
use wire::{Close, Connection as _, Outbox};

use crate::source::Source;

/// Commands of one input.
const COMMANDS_MAX: usize = 64;
/// What a job holds that somebody looks at or claims.
const BODY: &[u8] = b"a body\r\nof two lines";

/// First words of answers that are one line.
const LINES: [&str; 24] = [
    "INSERTED",
    "DELETED",
    "RELEASED",
    "BURIED",
    "TOUCHED",
    "KICKED",
    "PAUSED",
    "USING",
    "WATCHING",
    "NOT_IGNORED",
    "NOT_FOUND",
    "TIMED_OUT",
    "DEADLINE_SOON",
    "BAD_FORMAT",
    "UNKNOWN_COMMAND",
    "OUT_OF_MEMORY",
    "INTERNAL_ERROR",
    "JOB_TOO_BIG",
    "EXPECTED_CRLF",
    "DRAINING",
    "RESERVED_BATCH",
    "DELETED_BATCH",
    "LOGGED_IN",
    "ACCESS_REFUSED",
];

struct Still;

impl Host for Still {
    fn facts(&self) -> HostFacts {
        HostFacts::default()
    }

    fn is_draining(&self) -> bool {
        false
    }
}

/// Where to cut, then whether the rest is bytes or choices, then the rest.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let (cut, is_raw) = (usize::from(source.u8()), source.below(4) == 0);
    let made;
    let rest = if is_raw {
        source.rest()
    } else {
        made = commands(&mut source);
        &made[..]
    };
    let cut = cut * rest.len() / 256;
    let whole = play(&[rest], false);
    assert!(whole == play(&[&rest[..cut], &rest[cut..]], false), "cut at {cut} of {rest:?}");
    let single: Vec<&[u8]> = rest.chunks(1).collect();
    assert!(whole == play(&single, true), "byte by byte, then the engine: {rest:?}");
    check_output(&whole.0);
}

/// Commands as the table of verbs would have them, more or less.
fn commands(source: &mut Source<'_>) -> Vec<u8> {
    const NUMBERS: [&str; 10] = [
        "0",
        "1",
        "7",
        "12",
        "300",
        "65536",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "x",
    ];
    const WORDS: [&str; 8] = ["default", "a", "-b", "idp:k", "grp:g", "con:c:2", "aft:", ""];
    let mut out = Vec::new();
    for _ in 0..COMMANDS_MAX {
        if source.is_empty() {
            break;
        }
        out.extend_from_slice(VERBS[source.below(VERBS.len())].prefix.as_bytes());
        for index in 0..source.below(6) {
            if index > 0 || source.below(8) == 0 {
                out.push(b' ');
            }
            let is_number = source.below(4) > 0;
            let word = if is_number { source.pick(&NUMBERS) } else { source.pick(&WORDS) };
            out.extend_from_slice(word.as_bytes());
        }
        out.extend_from_slice(source.pick(&[&b"\r\n"[..], b"\r\n", b"\r\n", b"\n", b"\r"]));
        if source.is() {
            out.extend_from_slice(source.bytes(20));
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// What was said, and what was asked but for the turns of the door's own words.
fn play(pieces: &[&[u8]], is_engine_late: bool) -> (Vec<u8>, Vec<String>) {
    let now = Instant::now();
    let connection = Connection::new(Arc::new(Options::default()), Rc::new(Still), true);
    let mut player = Player {
        connection,
        input: BytesMut::new(),
        out: Outbox::new(),
        asked: Vec::new(),
        jobs: 0,
        claims: 0,
        waiting: Vec::new(),
    };
    player.connection.on_open(now, &mut player.out);
    let mut end = player.answer(now);
    for piece in pieces {
        player.input.extend_from_slice(piece);
        end = end.and_then(|()| player.read(now));
        if !is_engine_late {
            end = end.and_then(|()| player.answer(now));
        }
    }
    end = end.and_then(|()| player.answer(now));
    end = end.and_then(|()| player.connection.on_end_of_input(now, &mut player.out));
    end = end.and_then(|()| player.answer(now));
    assert!(end.is_err(), "it goes on although no more is to come");
    (player.out.bytes.to_vec(), player.asked)
}

struct Player {
    connection: Connection,
    input: BytesMut,
    out: Outbox,
    asked: Vec<String>,
    /// Jobs put, and jobs claimed.
    jobs: u64,
    claims: u64,
    /// Claims that wait.
    waiting: Vec<Envelope>,
}

impl Player {
    fn read(&mut self, now: Instant) -> Result<(), Close> {
        self.connection.on_bytes(now, &mut self.input, &mut self.out)
    }

    /// Answers until nothing is asked any more.
    fn answer(&mut self, now: Instant) -> Result<(), Close> {
        loop {
            let asked = std::mem::take(&mut self.out.requests);
            if asked.is_empty() {
                let Some(deadline) = self.connection.deadline() else { return Ok(()) };
                // No claim may be withdrawn twice.
                self.connection.on_deadline(deadline + Duration::from_secs(1), &mut self.out)?;
                continue;
            }
            let of_clients = asked.iter().filter(|it| !matches!(it.request, Request::Echo));
            self.asked.extend(of_clients.map(|it| format!("{:?}", it.request)));
            for envelope in asked {
                self.answer_one(now, envelope)?;
            }
            self.read(now)?;
        }
    }

    fn answer_one(&mut self, now: Instant, envelope: Envelope) -> Result<(), Close> {
        let reply = match &envelope.request {
            // Now and then a claim waits, and so does every one behind it.
            Request::Claim { .. } if self.claims % 3 == 0 || !self.waiting.is_empty() => {
                self.claims += 1;
                self.waiting.push(envelope);
                return Ok(());
            }
            Request::Claim { .. } | Request::Job(_, JobVerb::Claim) => {
                self.claims += 1;
                return self.give(now, &envelope);
            }
            Request::Withdraw if self.waiting.is_empty() => return Ok(()),
            Request::Withdraw => {
                let oldest = self.waiting.remove(0);
                let to = (oldest.channel, oldest.ticket);
                return self.connection.on_reply(now, to, Reply::Empty, &mut self.out);
            }
            Request::Job(id, JobVerb::Look | JobVerb::Describe) if id.0 % 2 == 1 => {
                return self.show(now, &envelope, *id);
            }
            Request::Job(_, JobVerb::Look | JobVerb::Describe) => Reply::Empty,
            Request::Authenticate(login) if login.user.len() == 1 => {
                Reply::Authenticated { tags: Bytes::new() }
            }
            Request::Job(_, JobVerb::Release { .. }) => Reply::Released { is_buried: false },
            Request::Job(_, JobVerb::Bury { .. }) => Reply::Released { is_buried: true },
            Request::Enqueue(_) => {
                self.jobs += 1;
                Reply::Enqueued { job: JobId(self.jobs), queue: model::QueueId(0) }
            }
            Request::Work(work) => match &**work {
                Work::LookFirst(..) => return self.show(now, &envelope, JobId(1)),
                work => on_work(work),
            },
            _ => Reply::Done,
        };
        self.connection.on_reply(now, (envelope.channel, envelope.ticket), reply, &mut self.out)
    }

    fn give(&mut self, now: Instant, envelope: &Envelope) -> Result<(), Close> {
        let delivery = Delivery {
            channel: envelope.channel,
            tag: 1,
            is_redelivered: false,
            returns: None,
            job: Some(JobId(1)),
            message: MessageRef { body: BODY, ..MessageRef::default() },
        };
        let event = Event::Got { ticket: envelope.ticket, delivery, ready: 0 };
        self.connection.on_event(now, event, &mut self.out)
    }

    fn show(&mut self, now: Instant, envelope: &Envelope, id: JobId) -> Result<(), Close> {
        let facts = JobFacts {
            id,
            queue: Bytes::from_static(b"default"),
            state: JobState::Ready,
            rank: 0,
            delay_s: 0,
            lease_s: 0,
            left_s: 0,
            claims: 0,
            timeouts: 0,
            releases: 0,
            buries: 0,
            kicks: 0,
            failures: 0,
            worker: Bytes::new(),
            attempts: Vec::new(),
            now: Millis(0),
        };
        let message = MessageRef { body: BODY, ..MessageRef::default() };
        let (ticket, published) = (envelope.ticket, Millis(0));
        let event = Event::Job { ticket, facts: &facts, published, message };
        self.connection.on_event(now, event, &mut self.out)
    }
}

fn on_work(work: &Work) -> Reply {
    match work {
        Work::Watch(_) => Reply::Watching { count: 2, is_last: false },
        Work::Ignore(name) => Reply::Watching { count: 1, is_last: name.len() == 1 },
        Work::Kick(_, count) => Reply::Kicked { count: *count },
        Work::Describe => Reply::WorkFacts(Box::new(WorkFacts::default())),
        Work::DescribeQueue(_) => Reply::QueueFacts(Box::new(QueueFacts::default())),
        Work::ListQueues => Reply::Names(vec![Bytes::from_static(b"default")]),
        Work::Use(_) | Work::LookFirst(..) | Work::Pause(..) => Reply::Done,
    }
}

/// Whole answers and nothing else.
fn check_output(mut rest: &[u8]) {
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a whole line");
        let line = std::str::from_utf8(&rest[..end]).expect("words");
        rest = &rest[end + 2..];
        let mut words = line.split(' ');
        let first = words.next().unwrap_or_default();
        if matches!(first, "RESERVED" | "FOUND" | "OK") {
            let size: usize = words.last().and_then(|word| word.parse().ok()).expect("a size");
            assert_eq!(rest.get(size..size + 2), Some(&b"\r\n"[..]), "{line}");
            rest = &rest[size + 2..];
        } else {
            assert!(LINES.contains(&first), "{line:?}");
        }
    }
}
