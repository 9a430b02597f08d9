//! Any call of the work API: what is read asks only what the engine may be asked, hears any answer
//! in any order, and ends in valid JSON, never in a panic.

use bytes::Bytes;
use gateway::{Answer, Ask, Call, Incoming};
use model::{
    Delivery, Event, Held, Idle, JobId, JobRef, Lsn, MessageRef, Millis, Op, Output, QueueId,
    Refusal, Reply, Request, TakenFacts,
};

use crate::source::Source;

const METHODS: [&str; 4] = ["POST", "GET", "PUT", "DELETE"];
const PATHS: [&str; 12] = [
    "publish", "claim", "renew", "complete", "fail", "release", "jobs/", "queues/", "results/",
    "results?", "changes?", "",
];
/// Questions of one call that are looked at.
const ROUNDS_MAX: usize = 64;

/// Method, path up to a zero byte, body up to a zero byte, then choices.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let method = METHODS[source.below(METHODS.len())];
    let start = source.pick(&PATHS);
    let mut parts = source.rest().splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (target, body, choices) = (String::from_utf8_lossy(part()), part(), part());
    let target = format!("/work/v1/{start}{target}");
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let body = Bytes::copy_from_slice(body);
    match Call::parse(&Incoming { method, path, query, body }) {
        Ok(call) => drive(call, &mut Source::new(choices)),
        Err(answer) => {
            assert!((400..500).contains(&answer.status), "{answer:?}");
            check(&answer);
        }
    }
}

fn drive(mut call: Call, source: &mut Source<'_>) {
    let mut asks = call.start(Millis(1));
    for _ in 0..ROUNDS_MAX {
        if let Some(answer) = call.answer() {
            check(&answer);
        }
        if asks.is_empty() {
            break;
        }
        let ask = asks.swap_remove(source.below(asks.len()));
        check_ask(&ask);
        asks.extend(answer(&mut call, &ask, source));
        if source.below(16) == 0 {
            asks.extend(call.on_deadline());
        }
        if source.below(32) == 0 {
            asks.extend(call.abandon());
        }
    }
    call.abandon();
}

/// Whatever the engine may say, fitting or not.
fn answer(call: &mut Call, ask: &Ask, source: &mut Source<'_>) -> Vec<Ask> {
    let job = JobRef { queue: QueueId(3), id: JobId(8) };
    let ticket = ask.ticket;
    let mut next = Vec::new();
    if source.below(2) == 0 {
        let facts = TakenFacts { job, queue: "q".into(), attempt: 1, failures: 0 };
        let message = MessageRef { body: b"[1]", ..MessageRef::default() };
        let (tag, job) = (1, Some(job.id));
        let (is_redelivered, returns) = (false, None);
        let delivery = Delivery { channel: 1, tag, is_redelivered, returns, job, message };
        let published = Millis(1);
        let event = Event::Taken { ticket, facts: &facts, published, delivery };
        next.extend(call.on_output(Output::Event(event)));
    }
    let reply = match source.below(10) {
        0 => Reply::Done,
        1 => Reply::Empty,
        2 => Reply::Taken { count: 1, idle: Idle::Empty },
        3 => Reply::Renewed(vec![Held { job, attempt: 1 }]),
        4 => Reply::Stored { is_stored: true },
        5 => Reply::Results { revision: Lsn(9), is_more: true, has_gap: false },
        6 => Reply::Enqueued { job: job.id, queue: job.queue },
        7 => Reply::Names(vec!["a".into(), "b".into()]),
        8 => Reply::Released { is_buried: false },
        _ => Reply::Refused(Box::new(Refusal::NotOpen)),
    };
    next.extend(call.on_output(Output::Reply { channel: 1, ticket, reply }));
    next
}

/// What is asked keeps to the limits that the engine counts on.
fn check_ask(ask: &Ask) {
    match &ask.request {
        Request::Enqueue(job) => check_job(job),
        Request::Take(take) => assert!(take.most >= 1 && !take.queues.is_empty()),
        Request::Commit(steps) => {
            for step in steps {
                if let Op::Enqueue(job) = step {
                    check_job(job);
                }
            }
        }
        _ => {}
    }
}

fn check_job(job: &model::Enqueue) {
    assert!((1..=255).contains(&job.queue.len()));
    model::Properties::parse(&job.properties).expect("properties are well-formed");
}

fn check(answer: &Answer) {
    let is_json = answer.content_type == "application/json";
    if is_json {
        let text = std::str::from_utf8(&answer.body).expect("JSON is UTF-8");
        serde_json::from_str::<serde_json::Value>(text).expect("the answer is JSON");
    }
}
