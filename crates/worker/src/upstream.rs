//! [`Upstream`]: runs items on model servers beside the worker: posts the body, reads the answer,
//! tries elsewhere when a server breaks. Not here: which server (`lanes`), what an answer means
//! (`verdict`), whether a server is up (`probe`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::api::{Item, Payload};
use crate::ending::{Ending, Failure, Perform};
use crate::lanes::{Lanes, Slot};
use crate::plan::{HttpPlan, Limits};
use crate::transport::{Answer, NoAnswer, Transport};
use crate::verdict::{Told, Verdict, judge};

/// Largest answer of a model server; the server takes calls of 20 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Servers that may break over one item before it is taken to be its fault.
const BREAKS_MAX: usize = 3;
/// Tries of one item, those that nobody is to blame for included.
const TRIES_MAX: usize = 20;
/// How long an item waits for a server that is up.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Model servers, and what every result's notes say.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) plan: HttpPlan,
    pub(crate) limits: Limits,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) transport: Transport,
    /// Name of the machine, its graphics processor: part of all notes.
    pub(crate) notes: Map<String, Value>,
}

/// A request, ready to be sent anywhere.
struct Ask {
    /// Where, if the item says so.
    path: Option<PathAndQuery>,
    body: Bytes,
}

/// What became of one try.
enum Try {
    Over(Ending),
    /// Another one; whether the server broke over it, and why.
    Again {
        is_break: bool,
        why: String,
    },
}

impl Perform for Upstream {
    async fn perform(&self, item: Arc<Item>, slot: Slot) -> Ending {
        let ask = match ask_of(&item) {
            Ok(ask) => ask,
            Err(failure) => {
                slot.failed();
                return Ending::Failed(failure);
            }
        };
        let (mut slot, mut breaks) = (slot, 0);
        let mut last = String::new();
        for _ in 0..TRIES_MAX {
            let lane = slot.lane();
            match self.attempt(&item, &ask, &slot).await {
                Try::Over(ending) => return ending,
                Try::Again { is_break, why } => {
                    tracing::debug!(item = item.id, %why, "another try");
                    breaks += usize::from(is_break);
                    last = why;
                }
            }
            if breaks >= BREAKS_MAX {
                break;
            }
            drop(slot);
            match tokio::time::timeout(WAIT_MAX, self.lanes.next(Some(lane))).await {
                Ok(next) => slot = next,
                Err(_) => return Ending::Interrupted(format!("no model server is up: {last}")),
            }
        }
        Ending::Failed(Failure::new("engine_died", last))
    }
}

impl Upstream {
    async fn attempt(&self, item: &Item, ask: &Ask, slot: &Slot) -> Try {
        let Some(server) = self.plan.upstreams.get(slot.lane()) else {
            return Try::Over(Ending::Interrupted("no such model server".to_owned()));
        };
        let request = match self.request(server, ask) {
            Ok(request) => request,
            Err(text) => return Try::Over(Ending::Failed(Failure::new("invalid", text))),
        };
        let began = Instant::now();
        let answered = {
            let sending = self.transport.send(request, ANSWER_BYTES_MAX, self.limits.hard);
            self.with_warning(&item.id, sending).await
        };
        let took = began.elapsed();
        let answer = match answered {
            Ok(answer) => answer,
            Err(fault) => return after_fault(slot, server, &fault),
        };
        match judge(&answer) {
            Verdict::Good => Try::Over(self.good(server, &answer, took, slot)),
            Verdict::Failed(failure) => {
                slot.failed();
                Try::Over(Ending::Failed(failure))
            }
            Verdict::Busy(rest) => {
                slot.hold(rest);
                Try::Again { is_break: false, why: format!("{server} is busy") }
            }
            Verdict::NotReady(why) => {
                slot.lost(&why);
                Try::Again { is_break: false, why: format!("{server} is not ready: {why}") }
            }
            Verdict::Broke(why) => {
                slot.troubled();
                Try::Again { is_break: true, why: format!("{server}: {why}") }
            }
        }
    }

    /// Waits, and says so when the soft limit is over.
    async fn with_warning<T>(&self, id: &str, work: impl Future<Output = T>) -> T {
        let Some(soft) = self.limits.soft else { return work.await };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(soft) => {
                tracing::warn!(item = id, soft_s = soft.as_secs(), "an item takes long");
            }
        }
        work.await
    }

    fn request(&self, server: &Uri, ask: &Ask) -> Result<Request<Full<Bytes>>, String> {
        let uri = place(server, ask.path.as_ref(), &self.plan.path)?;
        Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(ask.body.clone()))
            .map_err(|error| error.to_string())
    }

    fn good(&self, server: &Uri, answer: &Answer, took: Duration, slot: &Slot) -> Ending {
        let told: Told = serde_json::from_slice(&answer.body).unwrap_or_default();
        let usage = told.usage.unwrap_or_default();
        let tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
        slot.finished(took, tokens);
        let mut notes = self.notes.clone();
        let mut note = |name: &str, value: Value| drop(notes.insert(name.to_owned(), value));
        note("seconds", rounded(took));
        note("upstream", json!(server.to_string()));
        if let Some(model) = told.model {
            note("model", json!(model));
        }
        if tokens > 0 {
            note("prompt_tokens", json!(usage.prompt_tokens));
            note("completion_tokens", json!(usage.completion_tokens));
        }
        Ending::Done { payload: Payload::of(answer.body.to_vec()), notes, tokens }
    }
}

fn after_fault(slot: &Slot, server: &Uri, fault: &NoAnswer) -> Try {
    let why = format!("{server} {fault}");
    match fault {
        NoAnswer::Unreached(_) => {
            if slot.lost(&why) {
                tracing::warn!(upstream = %server, %fault, "a model server is gone");
            }
            Try::Again { is_break: false, why }
        }
        NoAnswer::Broken(_) => {
            slot.troubled();
            if slot.lost(&why) {
                tracing::warn!(upstream = %server, %fault, "a model server broke off");
            }
            Try::Again { is_break: true, why }
        }
        NoAnswer::Late(hard) => {
            slot.troubled();
            Try::Over(Ending::Failed(Failure::timeout(*hard)))
        }
        NoAnswer::TooLarge(_) => {
            slot.failed();
            Try::Over(Ending::Failed(Failure::new("answer_too_large", why)))
        }
    }
}

/// Seconds with three places: notes are for people.
pub(crate) fn rounded(took: Duration) -> Value {
    let ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
    json!(f64::from(ms) / 1000.0)
}

/// An item as a request. Its body is a JSON object: the request itself, or one around it as in
/// the batch files of `OpenAI`, `{"url": "/v1/...", "body": {...}}` (or `path`). A header
/// `path` wins.
fn ask_of(item: &Item) -> Result<Ask, Failure> {
    #[derive(Deserialize)]
    struct Around<'a> {
        #[serde(alias = "url")]
        path: String,
        #[serde(borrow)]
        body: &'a RawValue,
    }
    let invalid = |text: String| Failure { is_final: true, ..Failure::new("invalid_json", text) };
    let bytes = item.bytes().ok_or_else(|| invalid("its base64 cannot be read".to_owned()))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| invalid(error.to_string()))?;
    let is_object = text.trim_start().starts_with('{');
    serde_json::from_str::<&RawValue>(text).map_err(|error| invalid(error.to_string()))?;
    if !is_object {
        return Err(invalid("the body is no JSON object".to_owned()));
    }
    let around = serde_json::from_str::<Around<'_>>(text).ok();
    let path = item.header("path").or_else(|| around.as_ref().map(|around| around.path.as_str()));
    let path = path.map(|path| path_of(path).map_err(invalid)).transpose()?;
    let body = match &around {
        Some(around) => Bytes::copy_from_slice(around.body.get().as_bytes()),
        None => bytes.clone(),
    };
    Ok(Ask { path, body })
}

/// A path that stays on the server it is sent to.
fn path_of(path: &str) -> Result<PathAndQuery, String> {
    if !path.starts_with('/') || path.starts_with("//") || path.split('/').any(|part| part == "..")
    {
        return Err(format!("{path:?} is no path"));
    }
    path.parse().map_err(|error| format!("{path:?}: {error}"))
}

/// The address to post to: the item's path, else that of the server, else `usual`.
fn place(server: &Uri, path: Option<&PathAndQuery>, usual: &str) -> Result<Uri, String> {
    let mut parts = server.clone().into_parts();
    let own = parts.path_and_query.take().filter(|own| own.as_str() != "/");
    parts.path_and_query = match (path.cloned(), own) {
        (Some(path), _) => Some(path),
        (None, Some(own)) => Some(own),
        (None, None) => Some(path_of(usual)?),
    };
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(body: &str) -> Item {
        Item { id: "1".into(), text: Some(body.into()), ..Item::default() }
    }

    #[test]
    fn an_item_is_the_request_or_wraps_it() {
        let plain = ask_of(&item(r#"{"model":"m","messages":[]}"#)).ok().unwrap();
        assert!(plain.path.is_none());
        let line =
            r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"input":"x"}}"#;
        let wrapped = ask_of(&item(line)).ok().unwrap();
        assert_eq!(wrapped.path.unwrap(), "/v1/embeddings");
        assert_eq!(wrapped.body, r#"{"input":"x"}"#);
        let mut headed = item(line);
        headed.headers.insert("path".into(), json!("/other"));
        assert_eq!(ask_of(&headed).ok().unwrap().path.unwrap(), "/other");
    }

    #[test]
    fn what_is_no_request_fails_for_good() {
        for body in ["", "[1]", "{", "text", r#"{"path":"http://evil/","body":{}}"#] {
            let failure = ask_of(&item(body)).err().unwrap();
            assert!(failure.is_final && failure.class == "invalid_json", "{body}");
        }
        for path in ["x", "//evil/x", "/../x", "http://h/"] {
            assert!(path_of(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_most_precise_path_wins() {
        let with = |server: &str, path: Option<&str>| {
            let path = path.map(|path| path_of(path).unwrap());
            place(&server.parse().unwrap(), path.as_ref(), "/usual").unwrap().to_string()
        };
        assert_eq!(with("http://h:1", None), "http://h:1/usual");
        assert_eq!(with("http://h:1/own", None), "http://h:1/own");
        assert_eq!(with("http://h:1/own", Some("/item?x=1")), "http://h:1/item?x=1");
    }
}
