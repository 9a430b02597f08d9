//! The words of the work API as JSON: what the worker asks and what it is answered.
//! Source: `docs/protocols/work.md`. Not here: sending them (`server`), running items.
//!
//! Values travel as raw JSON text: what a model server wrote reaches the result unchanged.

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::plan::Policy;

/// Asks for items.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClaimAsk {
    pub(crate) worker: String,
    pub(crate) queues: Vec<String>,
    pub(crate) most: usize,
    pub(crate) wait_s: u64,
    pub(crate) lease_s: u64,
}

/// Items that are the worker's now.
#[derive(Debug, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) items: Vec<Item>,
    /// Why there are none.
    #[serde(default)]
    pub(crate) idle: Option<String>,
}

/// One item of work.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) attempt: u64,
    #[serde(default)]
    pub(crate) queue: String,
    /// Name of its result; `None` is the id.
    #[serde(default)]
    pub(crate) key: Option<String>,
    #[serde(default)]
    pub(crate) body: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) text: Option<String>,
    #[serde(default)]
    pub(crate) base64: Option<String>,
    #[serde(default)]
    pub(crate) headers: Map<String, Value>,
}

impl Item {
    /// Its value as bytes; `None` when its base64 cannot be read.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        if let Some(body) = &self.body {
            return Some(Bytes::copy_from_slice(body.get().as_bytes()));
        }
        if let Some(text) = &self.text {
            return Some(Bytes::copy_from_slice(text.as_bytes()));
        }
        match &self.base64 {
            Some(base64) => Base64::decode_vec(base64).ok().map(Bytes::from),
            None => Some(Bytes::new()),
        }
    }

    /// Name of its result.
    pub(crate) fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.id)
    }

    /// A header that is a string.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }

    /// Which lease of which item this is.
    pub(crate) fn lease(&self) -> Lease {
        Lease { id: self.id.clone(), attempt: self.attempt }
    }
}

/// One lease of one item.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) attempt: u64,
}

/// Renews every lease of the worker.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RenewAsk {
    pub(crate) worker: String,
    pub(crate) lease_s: u64,
    pub(crate) items: Vec<Lease>,
}

/// What the worker has and has not any more.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Renewed {
    #[serde(default)]
    pub(crate) held: Vec<Lease>,
    #[serde(default)]
    pub(crate) lost: Vec<Lost>,
}

/// A lost item, by its lease or its id alone.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Lost {
    /// Lease and all.
    Lease(Lease),
    /// The id alone.
    Id(String),
}

impl Lost {
    /// Which item.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Lease(lease) => &lease.id,
            Self::Id(id) => id,
        }
    }
}

/// Gives items back: some, or all that the worker has.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReleaseAsk {
    pub(crate) worker: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) items: Vec<Lease>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) all: bool,
}

/// The two ways an item ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// With a result.
    Complete,
    /// With a failure.
    Fail,
}

impl Call {
    /// Its word in paths and in the spool.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Fail => "fail",
        }
    }

    /// The call of a word.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::Complete, Self::Fail].into_iter().find(|call| call.word() == word)
    }
}

/// The body of `complete` and `fail`, its items as they were written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) worker: String,
    pub(crate) items: Vec<Box<RawValue>>,
}

/// What the server says about one item of a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    #[serde(default)]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) outcome: Option<String>,
    #[serde(default)]
    pub(crate) error: Option<Refusal>,
}

/// The answer to a batch.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SaidAll {
    #[serde(default)]
    pub(crate) items: Vec<Said>,
}

/// Why the server refuses.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// The answer to a call that is refused as a whole.
#[derive(Debug, Deserialize)]
pub(crate) struct Refused {
    pub(crate) error: Refusal,
}

/// A value to be stored.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// JSON, as it was written.
    Json(Box<RawValue>),
    /// Text that is not JSON.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Payload {
    /// Bytes as the most telling kind of value.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Err(error) => Self::Bytes(error.into_bytes()),
            Ok(text) => {
                serde_json::from_str::<Box<RawValue>>(&text).map_or(Self::Text(text), Self::Json)
            }
        }
    }
}

/// One item of `complete`.
#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    attempt: u64,
    result: ResultOf<'a>,
}

#[derive(Serialize)]
struct ResultOf<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    notes: &'a Map<String, Value>,
    policy: &'static str,
}

/// One item of `fail`.
#[derive(Serialize)]
struct Failing<'a> {
    id: &'a str,
    attempt: u64,
    class: &'a str,
    message: &'a str,
    #[serde(rename = "final")]
    is_final: bool,
}

/// Writes one item of `complete`.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn completion(
    (lease, key): (&Lease, &str),
    payload: &Payload,
    notes: &Map<String, Value>,
    policy: Policy,
) -> Result<Box<RawValue>, serde_json::Error> {
    let (mut body, mut text, mut base64) = (None, None, None);
    match payload {
        Payload::Json(raw) => body = Some(&**raw),
        Payload::Text(words) => text = Some(words.as_str()),
        Payload::Bytes(bytes) => base64 = Some(Base64::encode_string(bytes)),
    }
    let policy = match policy {
        Policy::First => "first",
        Policy::Last => "last",
    };
    let result = ResultOf { key, body, text, base64, notes, policy };
    serde_json::value::to_raw_value(&Completion { id: &lease.id, attempt: lease.attempt, result })
}

/// Writes one item of `fail`.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn failing(
    lease: &Lease,
    class: &str,
    message: &str,
    is_final: bool,
) -> Result<Box<RawValue>, serde_json::Error> {
    let failing = Failing { id: &lease.id, attempt: lease.attempt, class, message, is_final };
    serde_json::value::to_raw_value(&failing)
}

/// Which lease an item of a batch is about.
pub(crate) fn lease_of(item: &RawValue) -> Option<Lease> {
    serde_json::from_str(item.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_as_the_page_shows_it() {
        let text = r#"{"items": [{"id": "3-8123", "attempt": 1, "failures": 0, "queue": "prompts",
            "key": "row-17", "body": {"n": 1.10}, "content_type": "application/json",
            "headers": {"tenant": "a"}, "published_ms": 1}], "idle": null}"#;
        let claimed: Claimed = serde_json::from_str(text).unwrap();
        let item = &claimed.items[0];
        assert_eq!(item.bytes().unwrap(), r#"{"n": 1.10}"#);
        assert_eq!((item.key(), item.header("tenant")), ("row-17", Some("a")));
        let plain: Item =
            serde_json::from_str(r#"{"id":"1","attempt":2,"base64":"AAE="}"#).unwrap();
        assert_eq!((plain.key(), plain.bytes().unwrap().as_ref()), ("1", &[0, 1][..]));
    }

    #[test]
    fn a_completion_keeps_the_text_of_its_value() {
        let item = Item { id: "1".into(), attempt: 2, ..Item::default() };
        let payload = Payload::of(br#"{"n": 1.10}"#.to_vec());
        let raw =
            completion((&item.lease(), item.key()), &payload, &Map::new(), Policy::First).unwrap();
        let result = r#"{"key":"1","body":{"n": 1.10},"notes":{},"policy":"first"}"#;
        assert_eq!(raw.get(), format!(r#"{{"id":"1","attempt":2,"result":{result}}}"#));
        assert_eq!(lease_of(&raw), Some(Lease { id: "1".into(), attempt: 2 }));
    }

    #[test]
    fn bytes_become_the_most_telling_value() {
        assert!(matches!(Payload::of(b" [1]\n".to_vec()), Payload::Json(_)));
        assert!(matches!(Payload::of(b"hello".to_vec()), Payload::Text(_)));
        assert!(matches!(Payload::of(vec![0xff]), Payload::Bytes(_)));
    }

    #[test]
    fn lost_items_are_read_in_both_shapes() {
        let text =
            r#"{"held": [{"id": "1", "attempt": 1}], "lost": [{"id": "2", "attempt": 1}, "3"]}"#;
        let renewed: Renewed = serde_json::from_str(text).unwrap();
        let ids: Vec<&str> = renewed.lost.iter().map(Lost::id).collect();
        assert_eq!(ids, ["2", "3"]);
    }
}
