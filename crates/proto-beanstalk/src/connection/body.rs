//! What follows the line of a `put`, and input that is thrown away. Not here: the line itself
//! (`codec`), what an answer says (`answer`).

use bytes::{Buf, Bytes, BytesMut};
use model::{Enqueue, Request, Ties};
use wire::Outbox;

use super::{Connection, Step, ticket::Ask};
use crate::{
    Counted,
    codec::{self, LINE_END, Line, Put, Tail},
    map,
};

/// What the next byte of input belongs to.
#[derive(Debug)]
pub(super) enum Reading {
    /// A line, of which so many bytes need not be looked at again.
    Line {
        /// See above.
        seen: usize,
    },
    /// The body of this job, which is not there as a whole.
    Body(Job),
    /// Nothing any more: so many bytes are thrown away before `text` is said.
    Skip {
        /// At least 1.
        left: u64,
        /// What is said then.
        text: &'static [u8],
    },
    /// A line beyond its limit: thrown away up to its end.
    LongLine {
        /// As with `Line`.
        seen: usize,
    },
}

/// A job whose line was good.
#[derive(Debug)]
pub(super) struct Job {
    put: Put,
    ties: Option<Box<Ties>>,
}

impl Job {
    /// Bytes of the body and its CR LF.
    const fn rest(&self) -> usize {
        (self.put.body_bytes as usize).saturating_add(LINE_END.len())
    }
}

impl Connection {
    /// The line of a `put`, `line` bytes with its CR LF, stands at the front of `input`.
    ///
    /// The order of the checks is the original's: a body is skipped only when its size is judged,
    /// before what follows the size is. Source: observed, `beanstalkd` 1.13.
    pub(super) fn on_put(
        &mut self,
        mut put: Put,
        line: usize,
        (input, out): (&mut BytesMut, &mut Outbox),
    ) -> Step {
        if put.body_bytes > self.options.job_bytes_max {
            self.host.count(Counted::RefusedPut);
            input.advance(line);
            self.skip(&put, map::JOB_TOO_BIG);
            return Step::Taken;
        }
        let ties = match std::mem::take(&mut put.tail) {
            Tail::Nothing => None,
            Tail::Ties(ties) => Some(ties),
            Tail::BadTies => {
                input.advance(line);
                self.skip(&put, map::BAD_FORMAT);
                return Step::Taken;
            }
            Tail::Garbage => {
                self.host.count(Counted::RefusedPut);
                input.advance(line);
                self.say(map::BAD_FORMAT, out);
                return Step::Taken;
            }
        };
        let job = Job { put, ties };
        let whole = line.saturating_add(job.rest());
        if input.len() < whole {
            input.advance(line);
            self.reading = Reading::Body(job);
            return Step::Taken;
        }
        let mut taken = input.split_to(whole).freeze();
        taken.advance(line);
        self.on_body(job, taken, out);
        Step::Taken
    }

    fn refuse_put(&mut self, text: &[u8], out: &mut Outbox) {
        self.host.count(Counted::RefusedPut);
        self.say(text, out);
    }

    fn skip(&mut self, put: &Put, text: &'static [u8]) {
        let left = u64::from(put.body_bytes).saturating_add(LINE_END.len() as u64);
        self.reading = Reading::Skip { left, text };
    }

    /// Takes what belongs to a command whose line is taken already.
    pub(super) fn take_part(&mut self, input: &mut BytesMut, out: &mut Outbox) -> Step {
        let line = Reading::Line { seen: 0 };
        match std::mem::replace(&mut self.reading, line) {
            Reading::Line { .. } => Step::Taken,
            Reading::Body(job) if input.len() < job.rest() => {
                self.reading = Reading::Body(job);
                Step::Short
            }
            Reading::Body(job) => {
                let taken = input.split_to(job.rest()).freeze();
                self.on_body(job, taken, out);
                Step::Taken
            }
            Reading::Skip { left, text } => {
                let length = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                input.advance(length);
                let left = left.saturating_sub(length as u64);
                if left > 0 {
                    self.reading = Reading::Skip { left, text };
                    return Step::Short;
                }
                self.say(text, out);
                Step::Taken
            }
            Reading::LongLine { seen } => match codec::line_end(input, seen) {
                Line::Whole(end) => {
                    input.advance(end.saturating_add(LINE_END.len()));
                    self.say(map::BAD_FORMAT, out);
                    Step::Taken
                }
                // Only a CR at the very end may still matter.
                Line::Partial(seen) => {
                    input.advance(seen.min(input.len()));
                    self.reading = Reading::LongLine { seen: 0 };
                    Step::Short
                }
                Line::TooLong => Step::Short,
            },
        }
    }

    /// A body with the two bytes behind it, whatever they are.
    ///
    /// Deviation(BEAN-003): a job is there, has an id and makes its client a producer when its body
    /// has come and is taken. The original gives it an id with its line, and lets others peek at
    /// the memory meant for it.
    fn on_body(&mut self, job: Job, mut taken: Bytes, out: &mut Outbox) {
        let body_bytes = job.put.body_bytes as usize;
        if taken.get(body_bytes..) != Some(&LINE_END[..]) {
            self.refuse_put(map::EXPECTED_CRLF, out);
        } else if self.host.is_draining() {
            self.refuse_put(map::DRAINING, out);
        } else {
            taken.truncate(body_bytes);
            let enqueue = Enqueue {
                queue: self.used.clone(),
                body: taken,
                properties: Bytes::new(),
                rank: job.put.priority,
                delay_s: job.put.delay_s,
                lease_s: job.put.ttr_s.max(1),
                ties: job.ties,
            };
            self.ask(Ask::Put, Request::Enqueue(enqueue), out);
        }
    }
}
