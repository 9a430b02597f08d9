//! Claim: jobs for a worker, as many as are ready, or the first that comes within a time. What
//! was taken for a client that is gone goes back at once, and is nobody's failure.

use bytes::Bytes;
use model::limits::{TAKE_JOBS_MAX, TAKE_QUEUES_MAX};
use model::properties::{Properties, Property};
use model::{Event, GiveBack, Held, Idle, Millis, Reply, Request as Question, Take, TakenFacts};
use serde::Deserialize;

use super::{Asks, Call, Task, Under, unhoped};
use crate::answer::{Answer, Object};
use crate::route::Request;
use crate::{ANSWER_BYTES_ENOUGH, ANSWER_BYTES_MAX, Failure, WAIT_S_MAX, fields, json, map, value};

/// The ticket of every `Take`; one at a time is out.
const TAKE: usize = 0;
/// The ticket of what gives back.
const GIVE: usize = 1;
/// Jobs of the first `Take`, as long as nothing is known of their size.
const FIRST: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    worker: String,
    queues: Vec<String>,
    #[serde(default = "one")]
    most: u64,
    #[serde(default)]
    wait_s: u64,
    lease_s: Option<u64>,
}

const fn one() -> u64 {
    1
}

struct Claim {
    queues: Vec<Bytes>,
    most: usize,
    lease_s: u32,
    wait_s: u32,
    deadline: Option<Millis>,
    /// How many the `Take` that is out asked for.
    asked: Option<usize>,
    /// That one waits, and was not withdrawn.
    is_waiting: bool,
    /// What is given to the client.
    items: Vec<(Held, String)>,
    bytes: usize,
    /// Of what goes back: not answered yet.
    giving: usize,
    /// The client is gone.
    is_abandoned: bool,
    /// Nothing more is asked: how it ended.
    end: Option<Result<Option<Idle>, Failure>>,
}

pub(crate) fn read(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let body: Body = json::read(&request.body)?;
    if body.queues.is_empty() || body.queues.len() > TAKE_QUEUES_MAX {
        return Err(Failure::bad(format!("'queues' must have 1 to {TAKE_QUEUES_MAX} names")));
    }
    let queues = body.queues.iter().map(|name| fields::queue(name)).collect::<Result<_, _>>()?;
    let most = fields::within("most", body.most, (1, TAKE_JOBS_MAX))?;
    let lease_s = fields::lease(body.lease_s)?;
    let claim = Claim {
        queues,
        most: usize::try_from(most).unwrap_or(usize::MAX),
        lease_s,
        wait_s: fields::within("wait_s", body.wait_s, (0, WAIT_S_MAX))?,
        deadline: None,
        asked: None,
        is_waiting: false,
        items: Vec::new(),
        bytes: 0,
        giving: 0,
        is_abandoned: false,
        end: None,
    };
    let under = Under::Worker { name: fields::worker(&body.worker)?, lease_s };
    Ok(Call::new(&query, under, claim))
}

impl Claim {
    /// As many as are wanted and, by those seen so far, fit into an answer.
    fn take(&mut self, asks: &mut Asks, waits: bool) {
        let wanted = self.most.saturating_sub(self.items.len());
        let fitting = match self.bytes.checked_div(self.items.len()) {
            None => FIRST,
            Some(each) => ANSWER_BYTES_ENOUGH.saturating_sub(self.bytes) / each.max(1),
        };
        let most = wanted.min(fitting.max(1));
        self.asked = Some(most);
        self.is_waiting = waits;
        let take = Take {
            queues: self.queues.clone(),
            most: u32::try_from(most).unwrap_or(TAKE_JOBS_MAX),
            lease_s: self.lease_s,
            waits,
        };
        asks.ask_own(TAKE, Question::Take(Box::new(take)));
    }

    fn give_back(&mut self, asks: &mut Asks, held: Held) {
        self.giving += 1;
        let back = GiveBack { held, delay_s: 0, failure: None };
        asks.ask_own(GIVE, Question::GiveBack(Box::new(back)));
    }

    fn withdraw(&mut self, asks: &mut Asks) {
        if std::mem::take(&mut self.is_waiting) {
            asks.ask_own(GIVE, Question::Withdraw);
        }
    }

    /// A `Take` is answered: with so many.
    fn on_taken(&mut self, asks: &mut Asks, count: usize, idle: Idle) {
        let (asked, has_waited) = (self.asked.take().unwrap_or(0), self.deadline.take().is_some());
        self.is_waiting = false;
        let is_enough = self.items.len() >= self.most || self.bytes >= ANSWER_BYTES_ENOUGH;
        // Who waited was given one; by now there may be more.
        let may_be_more = count >= asked || has_waited;
        if self.is_abandoned || count == 0 || is_enough || !may_be_more {
            self.end = Some(Ok(Some(idle)));
        } else {
            self.take(asks, false);
        }
    }
}

impl Task for Claim {
    fn start(&mut self, asks: &mut Asks, now: Millis) {
        let waits = self.wait_s > 0;
        self.deadline = waits.then(|| Millis(now.0.saturating_add(u64::from(self.wait_s) * 1000)));
        self.take(asks, waits);
    }

    fn on_event(&mut self, asks: &mut Asks, _ticket: usize, event: &Event<'_>) {
        let Event::Taken { facts, published, delivery, .. } = event else { return };
        let held = Held { job: facts.job, attempt: facts.attempt };
        if self.is_abandoned {
            return self.give_back(asks, held);
        }
        let message = &delivery.message;
        let fits = self.bytes.saturating_add(message.body.len()) <= ANSWER_BYTES_MAX;
        if !fits && !self.items.is_empty() {
            return self.give_back(asks, held);
        }
        let text = shown(facts, *published, message);
        self.bytes = self.bytes.saturating_add(text.len());
        self.items.push((held, text));
    }

    fn on_reply(&mut self, asks: &mut Asks, ticket: usize, reply: Reply) {
        if ticket != TAKE {
            self.giving = self.giving.saturating_sub(1);
            return;
        }
        match reply {
            Reply::Taken { count, idle } => {
                self.on_taken(asks, usize::try_from(count).unwrap_or(usize::MAX), idle);
            }
            Reply::Empty => self.on_taken(asks, 0, Idle::Empty),
            other => {
                (self.asked, self.deadline, self.is_waiting) = (None, None, false);
                self.end = Some(Err(unhoped(&other)));
            }
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline.filter(|_| self.is_waiting)
    }

    fn on_deadline(&mut self, asks: &mut Asks) {
        self.withdraw(asks);
    }

    fn answer(&mut self) -> Option<Answer> {
        if self.is_abandoned || self.giving > 0 {
            return None;
        }
        let idle = match self.end.take()? {
            // What was taken must reach the worker, whatever came afterwards.
            Err(failure) if self.items.is_empty() => return Some(failure.into()),
            Err(_) => None,
            Ok(idle) => idle.filter(|_| self.items.is_empty()),
        };
        let mut object = Object::new();
        object.list("items", self.items.drain(..).map(|(_, text)| text));
        match idle {
            Some(idle) => object.text("idle", map::idle(idle)),
            None => object.null("idle"),
        }
        Some(Answer::json(object.end()))
    }

    fn abandon(&mut self, asks: &mut Asks) {
        self.is_abandoned = true;
        self.withdraw(asks);
        for (held, _) in std::mem::take(&mut self.items) {
            self.give_back(asks, held);
        }
    }

    fn is_over(&self) -> bool {
        self.asked.is_none() && self.giving == 0
    }
}

fn shown(facts: &TakenFacts, published: Millis, message: &model::MessageRef<'_>) -> String {
    let id = facts.job.to_string();
    let mut object = Object::new();
    object.text("id", &id);
    object.number("attempt", facts.attempt);
    object.number("failures", facts.failures);
    object.bytes("queue", &facts.queue);
    put_message(&mut object, &id, message);
    object.number("published_ms", published.0);
    object.end()
}

/// What a message says: its key (that of its job without one), its value, its headers.
pub(crate) fn put_message(object: &mut Object, id: &str, message: &model::MessageRef<'_>) {
    let list = Properties::parse(message.properties).unwrap_or_default();
    let key = list.get(Property::MessageId).filter(|key| !key.is_empty());
    object.bytes("key", key.unwrap_or(id.as_bytes()));
    let kind = list.get(Property::ContentType).unwrap_or_default();
    value::put(object, kind, message.body);
    object.raw("headers", &value::headers(list.headers().unwrap_or_default()));
}
