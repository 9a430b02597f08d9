//! Queues: how much is where, another try for what was laid aside, and a pause. Single jobs are
//! `job`'s.

use bytes::Bytes;
use model::limits::NAME_BYTES_MAX;
use model::{Millis, QueueFacts, Reply, Request as Question, Work};
use serde::Deserialize;

use super::{Asks, Batch, Call, Task, Under, unhoped};
use crate::answer::{Answer, Object};
use crate::json;
use crate::route::Request;
use crate::{Code, Failure, ITEMS_MAX, fields};

/// The ticket of the question for the names.
const NAMES: usize = usize::MAX;
/// Longest pause in seconds: a year.
const PAUSE_S_MAX: u32 = 31_557_600;

#[derive(Default)]
struct List {
    batch: Batch,
    has_names: bool,
    is_more: bool,
    failure: Option<Failure>,
}

pub(crate) fn read_list(request: &Request<'_>) -> Result<Call, Failure> {
    Ok(Call::new(&request.query(&[])?, Under::OneOff, List::default()))
}

impl List {
    fn on_names(&mut self, asks: &mut Asks, reply: Reply) {
        self.has_names = true;
        let Reply::Names(names) = reply else {
            self.failure = Some(unhoped(&reply));
            return;
        };
        self.is_more = names.len() > ITEMS_MAX;
        for name in names.into_iter().take(ITEMS_MAX) {
            let at = self.batch.open();
            asks.ask(at, Question::Work(Box::new(Work::DescribeQueue(name))));
        }
    }
}

impl Task for List {
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        asks.ask(NAMES, Question::Work(Box::new(Work::ListQueues)));
    }

    fn on_reply(&mut self, asks: &mut Asks, ticket: usize, reply: Reply) {
        if !self.has_names {
            return self.on_names(asks, reply);
        }
        // One that is gone by now, or that the user may not read, is not shown.
        let text = if let Reply::QueueFacts(facts) = &reply { shown(facts) } else { String::new() };
        self.batch.close(ticket, text);
    }

    fn answer(&mut self) -> Option<Answer> {
        if let Some(failure) = self.failure.take() {
            return Some(failure.into());
        }
        if !self.has_names || !self.batch.is_complete() {
            return None;
        }
        let mut object = Object::new();
        object.list("queues", self.batch.take().into_iter().filter(|text| !text.is_empty()));
        object.flag("more", self.is_more);
        Some(Answer::json(object.end()))
    }
}

fn shown(facts: &QueueFacts) -> String {
    let mut object = Object::new();
    object.bytes("name", &facts.name);
    object.number("ready", facts.jobs.ready);
    object.number("claimed", facts.jobs.claimed);
    object.number("delayed", facts.jobs.delayed);
    object.number("buried", facts.jobs.buried);
    object.number("total", facts.jobs.total);
    object.number("pause_left_s", facts.pause_left_s);
    object.end()
}

/// One question about one queue.
struct One {
    work: Option<Work>,
    answer: Option<Answer>,
}

pub(crate) fn read_one(request: &Request<'_>) -> Result<Call, Failure> {
    one(request, Work::DescribeQueue(named(request)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    #[serde(default = "thousand")]
    most: u64,
}

const fn thousand() -> u64 {
    1000
}

pub(crate) fn read_retry(request: &Request<'_>) -> Result<Call, Failure> {
    let RetryBody { most } = json::read(&request.body)?;
    one(request, Work::Kick(named(request)?, most))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseBody {
    seconds: u64,
}

pub(crate) fn read_pause(request: &Request<'_>) -> Result<Call, Failure> {
    let PauseBody { seconds } = json::read(&request.body)?;
    let seconds = fields::within("seconds", seconds, (0, PAUSE_S_MAX))?;
    one(request, Work::Pause(named(request)?, seconds))
}

fn named(request: &Request<'_>) -> Result<Bytes, Failure> {
    let name = request.named();
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Failure::new(Code::NotFound, "there is no such queue"));
    }
    Ok(name)
}

fn one(request: &Request<'_>, work: Work) -> Result<Call, Failure> {
    let one = One { work: Some(work), answer: None };
    Ok(Call::new(&request.query(&[])?, Under::OneOff, one))
}

impl Task for One {
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        if let Some(work) = self.work.take() {
            asks.ask(0, Question::Work(Box::new(work)));
        }
    }

    fn on_reply(&mut self, _asks: &mut Asks, _ticket: usize, reply: Reply) {
        self.answer = Some(match reply {
            Reply::QueueFacts(facts) => Answer::json(shown(&facts)),
            Reply::Kicked { count } => {
                let mut object = Object::new();
                object.number("ready", count);
                Answer::json(object.end())
            }
            Reply::Done => Answer::json("{}"),
            Reply::Empty => Failure::new(Code::NotFound, "there is no such queue").into(),
            other => unhoped(&other).into(),
        });
    }

    fn answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }
}
