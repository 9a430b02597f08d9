//! [`Hatch`]: a door for workers, of lines, that only simulated clients know: it asks the engine
//! what the work API asks. Not here: HTTP and JSON (`gateway`), the client's end (`caller`).
//!
//! A line is `NUMBER WORD ARGUMENTS`; the answer to it begins with the same number:
//!
//! | asked | answered |
//! |---|---|
//! | `put MESSAGE BYTES` | `yes` or `no` |
//! | `take QUEUE MOST LEASE_S WAITS` | `taken JOB ATTEMPT MESSAGE` each, then `took COUNT` |
//! | `enough` | nothing: the oldest take that waits is answered |
//! | `renew LEASE_S JOB:ATTEMPT ..` | `held JOB:ATTEMPT ..` |
//! | `done JOB INPUT RESULT NEXT BYTES` | `stored`, `kept`, `gone` or `no` |
//! | `back JOB ATTEMPT DELAY_S FAILS` | `back` or `gone` |
//! | `kick QUEUE` | `kicked COUNT` |
//! | `list AFTER` | `result INPUT MESSAGE` each, then `listed MORE` |
//! | `bye` | the end |

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use model::{
    Enqueue, Event, Failure, GiveBack, Held, JobRef, Op, Policy, RANK, Refusal, Reply, Request,
    Results, StoreResult, Take, Ticket, Work,
};
use wire::{Close, Connection, Outbox};

use crate::letter;

/// The queue of the inputs.
pub(crate) const INPUTS: &str = "hand-in";
/// The queue of what follows.
pub(crate) const NEXTS: &str = "hand-next";
/// Longest line.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Results in one answer.
const PAGE: u32 = 50;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Hatch {
    /// What each ticket asked.
    asked: BTreeMap<u64, &'static str>,
}

impl Hatch {
    fn ask(&mut self, number: u64, word: &'static str, request: Request, out: &mut Outbox) {
        self.asked.insert(number, word);
        out.submit(1, Ticket(number), request);
    }

    fn line(&mut self, line: &str, out: &mut Outbox) -> Option<()> {
        let mut words = line.split(' ');
        let number: u64 = words.next()?.parse().ok()?;
        let verb = words.next()?;
        let rest: Vec<&str> = words.collect();
        let at = |index: usize| rest.get(index).copied();
        let request = match verb {
            "put" => {
                let body = letter::write(at(0)?.parse().ok()?, None, at(1)?.parse().ok()?);
                Request::Enqueue(job(INPUTS, body))
            }
            "take" => Request::Take(Box::new(Take {
                queues: vec![Bytes::copy_from_slice(at(0)?.as_bytes())],
                most: at(1)?.parse().ok()?,
                lease_s: at(2)?.parse().ok()?,
                waits: at(3)? == "1",
            })),
            "enough" => {
                out.submit(1, Ticket(number), Request::Withdraw);
                return Some(());
            }
            "renew" => {
                let (lease_s, claims) = rest.split_first()?;
                let claims = claims.iter().filter_map(|text| held(text)).collect();
                Request::Renew { lease_s: lease_s.parse().ok()?, claims }
            }
            "done" => done(&rest)?,
            "back" => {
                let held = Held { job: at(0)?.parse().ok()?, attempt: at(1)?.parse().ok()? };
                let failure = (at(3)? == "1").then(Failure::default);
                let give = GiveBack { held, delay_s: at(2)?.parse().ok()?, failure };
                Request::GiveBack(Box::new(give))
            }
            "kick" => {
                let queue = Bytes::copy_from_slice(at(0)?.as_bytes());
                Request::Work(Box::new(Work::Kick(queue, 10_000)))
            }
            "list" => {
                let after = at(0).filter(|key| !key.is_empty());
                let after = after.map(|key| Bytes::copy_from_slice(key.as_bytes()));
                let list = Results::List { prefix: Bytes::new(), after, most: PAGE };
                Request::Results(Box::new(list))
            }
            _ => return None,
        };
        let known = ["put", "take", "renew", "done", "back", "kick", "list"];
        let word = known.into_iter().find(|word| *word == verb)?;
        self.ask(number, word, request, out);
        Some(())
    }
}

fn job(queue: &'static str, body: Vec<u8>) -> Enqueue {
    let queue = Bytes::from_static(queue.as_bytes());
    Enqueue { queue, body: body.into(), rank: RANK, ..Enqueue::default() }
}

fn held(text: &str) -> Option<Held> {
    let (job, attempt) = text.split_once(':')?;
    Some(Held { job: job.parse().ok()?, attempt: attempt.parse().ok()? })
}

/// The completion of an input: one commit.
fn done(rest: &[&str]) -> Option<Request> {
    let [job_ref, input, result, next, bytes] = rest else { return None };
    let job_ref: JobRef = job_ref.parse().ok()?;
    let bytes: usize = bytes.parse().ok()?;
    let store = StoreResult {
        key: key(input).into(),
        value: letter::write(result.parse().ok()?, None, bytes).into(),
        policy: Policy::FirstWins,
        ..StoreResult::default()
    };
    let next = job(NEXTS, letter::write(next.parse().ok()?, None, bytes));
    Some(Request::Commit(vec![
        Op::Finish(job_ref),
        Op::Store(Box::new(store)),
        Op::Enqueue(Box::new(next)),
    ]))
}

/// The key of an input's result.
pub(crate) fn key(input: &str) -> String {
    format!("r{input}")
}

fn say(out: &mut Outbox, number: u64, text: &str) {
    out.bytes.extend_from_slice(format!("{number} {text}\n").as_bytes());
}

impl Connection for Hatch {
    fn on_open(&mut self, _now: Instant, out: &mut Outbox) {
        out.submit(0, Ticket(0), Request::OpenVhost(Bytes::from_static(b"/")));
        out.submit(1, Ticket(0), Request::OpenChannel { is_strict: false });
    }

    fn on_bytes(
        &mut self,
        _now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        while out.has_room() {
            let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
                let is_long = input.len() > LINE_BYTES_MAX;
                return if is_long { Err(Close::Violation("a long line".into())) } else { Ok(()) };
            };
            let line = input.split_to(end);
            input.advance(1);
            let line = String::from_utf8_lossy(&line).into_owned();
            if line == "bye" {
                return Err(Close::Done);
            }
            self.line(&line, out).ok_or_else(|| Close::Violation(line.clone()))?;
        }
        Ok(())
    }

    fn on_reply(
        &mut self,
        _now: Instant,
        (_, ticket): (u16, Ticket),
        reply: Reply,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        let Some(asked) = self.asked.remove(&ticket.0) else { return Ok(()) };
        let text = match (asked, reply) {
            ("put", Reply::Enqueued { .. }) => "yes".to_owned(),
            ("take", Reply::Taken { count, .. }) => format!("took {count}"),
            ("renew", Reply::Renewed(all)) => {
                let all = all.iter().map(|held| format!(" {}:{}", held.job, held.attempt));
                format!("held{}", all.collect::<String>())
            }
            ("done", Reply::Stored { is_stored: true }) => "stored".to_owned(),
            ("done", Reply::Stored { is_stored: false }) => "kept".to_owned(),
            ("done", Reply::Refused(refusal)) if matches!(*refusal, Refusal::UnknownJob { .. }) => {
                "gone".to_owned()
            }
            ("back", Reply::Released { .. }) => "back".to_owned(),
            ("back", Reply::Empty) => "gone".to_owned(),
            ("kick", Reply::Kicked { count }) => format!("kicked {count}"),
            ("list", Reply::Results { is_more, .. }) => format!("listed {}", u8::from(is_more)),
            _ => "no".to_owned(),
        };
        say(out, ticket.0, &text);
        Ok(())
    }

    fn on_event(&mut self, _now: Instant, event: Event<'_>, out: &mut Outbox) -> Result<(), Close> {
        let number = |body: &[u8]| {
            letter::read(body).map_or_else(ToOwned::to_owned, |(message, _)| message.to_string())
        };
        if let Event::Taken { ticket, facts, delivery, .. } = event {
            let message = number(delivery.message.body);
            say(out, ticket.0, &format!("taken {} {} {message}", facts.job, facts.attempt));
        } else if let Event::Result { ticket, facts, result } = event {
            let key = String::from_utf8_lossy(&facts.key).into_owned();
            let message = number(result.value);
            say(out, ticket.0, &format!("result {key} {message}"));
        } else if let Event::Shutdown(reason) = event {
            return Err(Close::Shutdown(reason));
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn on_deadline(&mut self, _now: Instant, _out: &mut Outbox) -> Result<(), Close> {
        Ok(())
    }
}
