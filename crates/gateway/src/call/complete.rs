//! Complete: for each item one commit: the input is acknowledged, the result stored, the next ones
//! published, all of it or nothing.

use bytes::Bytes;
use model::limits::RESULT_NOTES_BYTES_MAX;
use model::{
    Millis, Op, Policy, RESULT_KEY_BYTES_MAX, Refusal, Reply, Request as Question, StoreResult,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Asks, Batch, Call, Task, Under, unhoped};
use crate::answer::{Answer, Object};
use crate::item::Fields;
use crate::json::{self, Item, Items};
use crate::route::Request;
use crate::value::{Sent, part};
use crate::{Code, Failure, fields};

/// Most messages that one item publishes.
const PUBLISH_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    worker: String,
    #[serde(borrow)]
    items: Items<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done<'a> {
    id: String,
    // Whoever has it now: a late result counts as long as the job is open.
    #[serde(default, rename = "attempt")]
    _attempt: u32,
    #[serde(borrow)]
    result: Option<Stored<'a>>,
    #[serde(default, borrow)]
    publish: Items<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    key: String,
    #[serde(default, borrow, deserialize_with = "json::present")]
    body: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
    content_type: Option<String>,
    #[serde(borrow)]
    notes: Option<&'a RawValue>,
    #[serde(default)]
    policy: PolicyWord,
    #[serde(default)]
    ttl_s: u32,
}

/// [`Policy`] as a word.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PolicyWord {
    #[default]
    First,
    Last,
}

impl From<PolicyWord> for Policy {
    fn from(word: PolicyWord) -> Self {
        match word {
            PolicyWord::First => Self::FirstWins,
            PolicyWord::Last => Self::LastWins,
        }
    }
}

struct Complete {
    /// What is to be asked, and for which item.
    commits: Vec<(usize, Vec<Op>)>,
    /// By item.
    ids: Vec<String>,
    batch: Batch,
}

pub(crate) fn read(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let body: Body<'_> = json::read(&request.body)?;
    let worker = fields::worker(&body.worker)?;
    let mut complete = Complete { commits: Vec::new(), ids: Vec::new(), batch: Batch::default() };
    for item in body.items.iter() {
        complete.add(&item, &request.body);
    }
    Ok(Call::new(&query, Under::Worker { name: worker, lease_s: 0 }, complete))
}

impl Complete {
    fn add(&mut self, item: &Item<'_>, whole: &Bytes) {
        let done: Done<'_> = match item.read() {
            Ok(done) => done,
            Err(failure) => {
                self.ids.push(String::new());
                self.batch.known(failure.object().end());
                return;
            }
        };
        self.ids.push(done.id.clone());
        match ops(done, whole) {
            Ok(ops) => self.commits.push((self.batch.open(), ops)),
            Err(failure) => {
                let text = self.failed(self.ids.len() - 1, &failure);
                self.batch.known(text);
            }
        }
    }

    fn failed(&self, at: usize, failure: &Failure) -> String {
        let mut object = failure.object();
        object.text("id", self.ids.get(at).map_or("", |id| id));
        object.end()
    }
}

/// The steps of one item's commit.
fn ops(done: Done<'_>, whole: &Bytes) -> Result<Vec<Op>, Failure> {
    let mut ops = vec![Op::Finish(fields::job(&done.id)?)];
    if let Some(result) = done.result {
        let Stored { key, body, text, base64, content_type, notes, policy, ttl_s } = result;
        let sent = Sent { body, text, base64, content_type };
        let how = (notes, policy.into(), ttl_s);
        ops.push(Op::Store(Box::new(result_of(&key, sent, how, whole)?)));
    }
    if done.publish.len() > PUBLISH_MAX {
        let text = format!("'publish' must have at most {PUBLISH_MAX} messages");
        return Err(Failure::new(Code::TooLarge, text));
    }
    for next in done.publish.iter() {
        let next: Fields<'_> = next.read()?;
        ops.push(next.into_step(whole)?);
    }
    Ok(ops)
}

/// What is stored under a key.
///
/// # Errors
/// A field that is not as it should be.
pub(crate) fn result_of(
    key: &str,
    sent: Sent<'_>,
    (notes, policy, ttl_s): (Option<&RawValue>, Policy, u32),
    whole: &Bytes,
) -> Result<StoreResult, Failure> {
    let (value, content_type) = sent.take(whole)?;
    let notes = match notes {
        None => Bytes::new(),
        Some(notes) if notes.get().starts_with('{') => part(whole, notes.get()),
        Some(_) => return Err(Failure::bad("'notes' must be an object")),
    };
    if notes.len() > RESULT_NOTES_BYTES_MAX {
        let text = format!("'notes' must have at most {RESULT_NOTES_BYTES_MAX} bytes");
        return Err(Failure::new(Code::TooLarge, text));
    }
    let key = fields::name("key", key, RESULT_KEY_BYTES_MAX)?;
    Ok(StoreResult { key, content_type, notes, value, policy, ttl_s })
}

impl Task for Complete {
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        for (at, ops) in self.commits.drain(..) {
            asks.ask(at, Question::Commit(ops));
        }
    }

    fn on_reply(&mut self, _asks: &mut Asks, ticket: usize, reply: Reply) {
        let outcome = match &reply {
            Reply::Unroutable(_) => return,
            Reply::Done | Reply::Stored { is_stored: true } => "done",
            Reply::Stored { is_stored: false } => "kept_first",
            Reply::Refused(refusal) if matches!(**refusal, Refusal::UnknownJob { .. }) => {
                "done_before"
            }
            other => {
                let failure = if let Reply::Rejected = other {
                    Failure::new(Code::QueueFull, "a queue to publish to takes no more")
                } else {
                    unhoped(other)
                };
                let text = self.failed(ticket, &failure);
                self.batch.close(ticket, text);
                return;
            }
        };
        let mut object = Object::new();
        object.text("id", self.ids.get(ticket).map_or("", |id| id));
        object.text("outcome", outcome);
        self.batch.close(ticket, object.end());
    }

    fn answer(&mut self) -> Option<Answer> {
        if !self.batch.is_complete() {
            return None;
        }
        let mut object = Object::new();
        object.list("items", self.batch.take());
        Some(Answer::json(object.end()))
    }
}
