//! One result: shown, stored, forgotten. Many at once are `page`'s, results of jobs `complete`'s.

use bytes::Bytes;
use model::{Event, Millis, Reply, Request as Question, Results};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{named, shown};
use crate::answer::{Answer, Object};
use crate::call::complete::{PolicyWord, result_of};
use crate::call::{Asks, Call, Task, Under, unhoped};
use crate::route::Request;
use crate::value::Sent;
use crate::{Code, Failure, json};

struct Single {
    results: Option<Results>,
    /// Only the value, with its own media type.
    is_raw: bool,
    answer: Option<Answer>,
}

fn single(results: Results, is_raw: bool) -> Single {
    Single { results: Some(results), is_raw, answer: None }
}

pub(crate) fn read_get(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&["raw"])?;
    let is_raw = query.within("raw", (0, 1), 0)? == 1;
    Ok(Call::new(&query, Under::OneOff, single(Results::Get(named(request)?), is_raw)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody<'a> {
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

pub(crate) fn read_put(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let key = named(request)?;
    let key = std::str::from_utf8(&key).map_err(|_| Failure::bad("a key must be UTF-8"))?;
    let put: PutBody<'_> = json::read(&request.body)?;
    let PutBody { body, text, base64, content_type, notes, policy, ttl_s } = put;
    let sent = Sent { body, text, base64, content_type };
    let result = result_of(key, sent, (notes, policy.into(), ttl_s), &request.body)?;
    Ok(Call::new(&query, Under::OneOff, single(Results::Put(result), false)))
}

pub(crate) fn read_delete(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    Ok(Call::new(&query, Under::OneOff, single(Results::Delete(named(request)?), false)))
}

impl Task for Single {
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        if let Some(results) = self.results.take() {
            asks.ask(0, Question::Results(Box::new(results)));
        }
    }

    fn on_event(&mut self, _asks: &mut Asks, _ticket: usize, event: &Event<'_>) {
        let Event::Result { facts, result, .. } = event else { return };
        self.answer = Some(if self.is_raw {
            let kind = Bytes::copy_from_slice(result.content_type);
            Answer::new(kind, Bytes::copy_from_slice(result.value))
        } else {
            Answer::json(shown(facts, result))
        });
    }

    fn on_reply(&mut self, _asks: &mut Asks, _ticket: usize, reply: Reply) {
        self.answer = Some(match reply {
            Reply::Stored { is_stored } => {
                let mut object = Object::new();
                object.text("outcome", if is_stored { "stored" } else { "kept_first" });
                Answer::json(object.end())
            }
            Reply::Done => {
                let mut object = Object::new();
                object.text("outcome", "deleted");
                Answer::json(object.end())
            }
            Reply::Empty => Failure::new(Code::NotFound, "there is no such result").into(),
            other => unhoped(&other).into(),
        });
    }

    fn answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }
}
