//! Publish: each item is a job for one queue; one that is refused harms no other. And the same in
//! the words of home-made publishing agents.

use bytes::Bytes;
use model::{Enqueue, JobRef, Millis, Reply, Request as Question};
use serde::Deserialize;

use super::{Asks, Batch, Call, Task, Under, unhoped};
use crate::answer::{Answer, Object};
use crate::item::Fields;
use crate::json::{self, Item, Items};
use crate::route::Request;
use crate::{Code, Failure, MESSAGES_MAX, fields, value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    queue: String,
    #[serde(borrow)]
    items: Items<'a>,
    idempotency_key: Option<String>,
    idempotency_s: Option<u64>,
}

struct Publish {
    /// What is to be asked, and for which item.
    jobs: Vec<(usize, Enqueue)>,
    batch: Batch,
    accepted: u64,
    /// Answered as to home-made agents.
    is_plain: bool,
    failure: Option<Failure>,
}

pub(crate) fn read(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let body: Body<'_> = json::read(&request.body)?;
    let queue = fields::queue(&body.queue)?;
    let (mut jobs, mut batch) = (Vec::new(), Batch::default());
    for (index, item) in body.items.iter().enumerate() {
        match job(&item, index, (&queue, &body), &request.body) {
            Ok(job) => jobs.push((batch.open(), job)),
            Err(failure) => {
                batch.known(failure.object().end());
            }
        }
    }
    let publish = Publish { jobs, batch, accepted: 0, is_plain: false, failure: None };
    Ok(Call::new(&query, Under::OneOff, publish))
}

/// The job of one item; what the call says of idempotency holds for items that say nothing.
fn job(
    item: &Item<'_>,
    index: usize,
    (queue, call): (&Bytes, &Body<'_>),
    whole: &Bytes,
) -> Result<Enqueue, Failure> {
    let mut item: Fields<'_> = item.read()?;
    if item.queue.is_some() || item.exchange.is_some() || item.routing_key.is_some() {
        return Err(Failure::bad("all items of a call go to the queue of the call"));
    }
    if item.idempotency_key.is_none() {
        let key = call.idempotency_key.as_deref();
        item.idempotency_key = key.map(|key| format!("{key}/{index}"));
    }
    item.idempotency_s = item.idempotency_s.or(call.idempotency_s);
    item.into_job(queue.clone(), whole)
}

/// What home-made agents send. `rabbit` names a place and may hold a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Messages<'a> {
    #[serde(default, rename = "rabbit")]
    _rabbit: serde::de::IgnoredAny,
    routing_key: Option<String>,
    #[serde(default, rename = "durable")]
    _durable: serde::de::IgnoredAny,
    #[serde(borrow)]
    message_list: Items<'a, MESSAGES_MAX>,
    queue: Option<String>,
}

pub(crate) fn read_messages(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let body: Messages<'_> = json::read(&request.body)?;
    let queue = body.queue.or(body.routing_key);
    let queue = fields::queue(&queue.ok_or_else(|| Failure::bad("'queue' is missing"))?)?;
    let (mut jobs, mut batch) = (Vec::new(), Batch::default());
    for item in body.message_list.iter() {
        jobs.push((batch.open(), message(&item, &queue, &request.body)?));
    }
    let publish = Publish { jobs, batch, accepted: 0, is_plain: true, failure: None };
    Ok(Call::new(&query, Under::OneOff, publish))
}

/// A text is sent as it is, anything else as JSON.
fn message(item: &Item<'_>, queue: &Bytes, whole: &Bytes) -> Result<Enqueue, Failure> {
    let is_text = item.text().starts_with('"');
    let sent = value::Sent {
        body: if is_text { None } else { Some(item.read()?) },
        text: if is_text { Some(item.read()?) } else { None },
        base64: None,
        content_type: None,
    };
    Fields::of(sent).into_job(queue.clone(), whole)
}

impl Task for Publish {
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        for (at, job) in self.jobs.drain(..) {
            asks.ask(at, Question::Enqueue(job));
        }
    }

    fn on_reply(&mut self, _asks: &mut Asks, ticket: usize, reply: Reply) {
        let text = match reply {
            Reply::Enqueued { job, queue } => {
                self.accepted += 1;
                let mut object = Object::new();
                object.text("id", &JobRef { queue, id: job }.to_string());
                object.end()
            }
            other => {
                let failure = if let Reply::Rejected = other {
                    Failure::new(Code::QueueFull, "the queue takes no more")
                } else {
                    unhoped(&other)
                };
                let text = failure.object().end();
                self.failure.get_or_insert(failure);
                text
            }
        };
        self.batch.close(ticket, text);
    }

    fn answer(&mut self) -> Option<Answer> {
        if !self.batch.is_complete() {
            return None;
        }
        let mut object = Object::new();
        if self.is_plain {
            if let Some(failure) = self.failure.take() {
                return Some(failure.into());
            }
            object.text("status", "ok");
            object.number("sent", self.accepted);
        } else {
            object.number("accepted", self.accepted);
            object.list("items", self.batch.take());
        }
        Some(Answer::json(object.end()))
    }
}
