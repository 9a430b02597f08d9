//! Fail and release: jobs that a worker gives back, because of the job or because of itself.

use model::{
    FAILURE_CLASS_BYTES_MAX, FAILURE_MESSAGE_BYTES_MAX, Failure as Why, GiveBack, Held, Millis,
    Reply, Request as Question,
};
use serde::Deserialize;

use super::{Asks, Batch, Call, Task, Under, unhoped};
use crate::answer::{Answer, Object};
use crate::json::{self, Item, Items};
use crate::route::Request;
use crate::{Failure, LEASE_S, fields};

/// Longest time before another try, in seconds: a year.
const DELAY_S_MAX: u32 = 31_557_600;
/// The ticket of the question what the worker has.
const ALL: usize = usize::MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailBody<'a> {
    worker: String,
    #[serde(borrow)]
    items: Items<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    id: String,
    attempt: u32,
    #[serde(default)]
    class: String,
    #[serde(default)]
    message: String,
    #[serde(default, rename = "final")]
    is_final: bool,
    #[serde(default)]
    delay_s: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseBody<'a> {
    worker: String,
    #[serde(borrow)]
    items: Option<Items<'a>>,
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Released {
    id: String,
    attempt: u32,
    #[serde(default)]
    delay_s: u64,
}

#[derive(Default)]
struct GiveBacks {
    /// What is to be asked, and for which item.
    backs: Vec<(usize, GiveBack)>,
    /// By item.
    ids: Vec<String>,
    batch: Batch,
    /// Everything that the worker has, once that is known.
    wants_all: bool,
    failure: Option<Failure>,
}

pub(crate) fn read_fail(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let body: FailBody<'_> = json::read(&request.body)?;
    let mut all = GiveBacks::default();
    for item in body.items.iter() {
        all.add(failed(&item));
    }
    Ok(Call::new(&query, under(&body.worker)?, all))
}

pub(crate) fn read_release(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let body: ReleaseBody<'_> = json::read(&request.body)?;
    let mut all = GiveBacks { wants_all: body.all, ..GiveBacks::default() };
    match (body.items, body.all) {
        (Some(items), false) => {
            for item in items.iter() {
                all.add(released(&item));
            }
        }
        (None, true) => {}
        _ => return Err(Failure::bad("either 'items' or 'all' must say what is released")),
    }
    Ok(Call::new(&query, under(&body.worker)?, all))
}

fn under(worker: &str) -> Result<Under, Failure> {
    Ok(Under::Worker { name: fields::worker(worker)?, lease_s: 0 })
}

/// The item's id, and what is asked for it.
type Read = (String, Result<GiveBack, Failure>);

fn failed(item: &Item<'_>) -> Read {
    let read: Failed = match item.read() {
        Ok(read) => read,
        Err(failure) => return (String::new(), Err(failure)),
    };
    let why = Why {
        class: fields::cut(&read.class, FAILURE_CLASS_BYTES_MAX),
        message: fields::cut(&read.message, FAILURE_MESSAGE_BYTES_MAX),
        is_final: read.is_final,
    };
    let back = give_back(&read.id, (read.attempt, read.delay_s), Some(why));
    (read.id, back)
}

fn released(item: &Item<'_>) -> Read {
    let read: Released = match item.read() {
        Ok(read) => read,
        Err(failure) => return (String::new(), Err(failure)),
    };
    let back = give_back(&read.id, (read.attempt, read.delay_s), None);
    (read.id, back)
}

fn give_back(
    id: &str,
    (attempt, delay_s): (u32, u64),
    failure: Option<Why>,
) -> Result<GiveBack, Failure> {
    let delay_s = fields::within("delay_s", delay_s, (0, DELAY_S_MAX))?;
    Ok(GiveBack { held: Held { job: fields::job(id)?, attempt }, delay_s, failure })
}

impl GiveBacks {
    fn add(&mut self, (id, back): Read) {
        let known = back.as_ref().err().map(|failure| {
            let mut object = failure.object();
            object.text("id", &id);
            object.end()
        });
        self.ids.push(id);
        match (back, known) {
            (Ok(back), _) => self.backs.push((self.batch.open(), back)),
            (Err(_), known) => {
                self.batch.known(known.unwrap_or_default());
            }
        }
    }

    fn ask_all(&mut self, asks: &mut Asks) {
        for (at, back) in self.backs.drain(..) {
            asks.ask(at, Question::GiveBack(Box::new(back)));
        }
    }

    /// Everything that the worker has goes back.
    fn on_held(&mut self, asks: &mut Asks, reply: &Reply) {
        self.wants_all = false;
        let Reply::Renewed(held) = reply else {
            self.failure = Some(unhoped(reply));
            return;
        };
        for held in held {
            let back = GiveBack { held: *held, delay_s: 0, failure: None };
            self.add((held.job.to_string(), Ok(back)));
        }
        self.ask_all(asks);
    }
}

impl Task for GiveBacks {
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        if self.wants_all {
            // The only question that names what a worker has; they go back at once.
            asks.ask(ALL, Question::Renew { lease_s: LEASE_S, claims: Vec::new() });
        }
        self.ask_all(asks);
    }

    fn on_reply(&mut self, asks: &mut Asks, ticket: usize, reply: Reply) {
        if self.wants_all {
            return self.on_held(asks, &reply);
        }
        let id = self.ids.get(ticket).map_or("", |id| id);
        let outcome = match &reply {
            Reply::Released { is_buried: false } => Ok("returned"),
            Reply::Released { is_buried: true } => Ok("buried"),
            Reply::Empty => Ok("not_held"),
            other => Err(unhoped(other)),
        };
        let mut object = match &outcome {
            Ok(_) => Object::new(),
            Err(failure) => failure.object(),
        };
        object.text("id", id);
        if let Ok(outcome) = outcome {
            object.text("outcome", outcome);
        }
        self.batch.close(ticket, object.end());
    }

    fn answer(&mut self) -> Option<Answer> {
        if let Some(failure) = self.failure.take() {
            return Some(failure.into());
        }
        if self.wants_all || !self.batch.is_complete() {
            return None;
        }
        let mut object = Object::new();
        object.list("items", self.batch.take());
        Some(Answer::json(object.end()))
    }
}
