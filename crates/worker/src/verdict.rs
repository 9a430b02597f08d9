//! What a model server's answer means: a result, a failure and its class, or another try.
//! Pure; called by `upstream`. Model servers agree on statuses and on little else, so a class is
//! recognised by words in the message too; the classes are the worker's.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use crate::ending::{Failure, short};
use crate::transport::{Answer, retry_after};

/// Rest for a server that has too much and does not say for how long.
const REST: Duration = Duration::from_secs(1);
/// Longest rest that is given.
const REST_MAX: Duration = Duration::from_mins(2);

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the result.
    Good,
    /// The item failed.
    Failed(Failure),
    /// The server has too much: elsewhere, or later.
    Busy(Duration),
    /// The server is not ready, as while it loads a model.
    NotReady(String),
    /// The server broke over it: elsewhere, a few times.
    Broke(String),
}

/// What an answer means.
pub(crate) fn judge(answer: &Answer) -> Verdict {
    let status = answer.status;
    if status.is_success() {
        return match serde_json::from_slice::<Shape>(&answer.body) {
            Ok(Shape { error: Some(_), choices: None }) => {
                Verdict::Failed(failure(status, &text_of(answer)))
            }
            // What is not JSON may be a result of another kind of server.
            Ok(_) | Err(_) => Verdict::Good,
        };
    }
    let text = text_of(answer);
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Busy(retry_after(&answer.headers).unwrap_or(REST).min(REST_MAX))
        }
        StatusCode::SERVICE_UNAVAILABLE => match retry_after(&answer.headers) {
            Some(rest) => Verdict::Busy(rest.min(REST_MAX)),
            None => Verdict::NotReady(text),
        },
        _ if status.is_server_error() => Verdict::Broke(format!("{status}: {text}")),
        _ => Verdict::Failed(failure(status, &text)),
    }
}

/// Only whether it is an error in the clothes of a success.
#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    choices: Option<serde::de::IgnoredAny>,
}

fn failure(status: StatusCode, text: &str) -> Failure {
    Failure::new(class_of(status, text), format!("{status}: {text}"))
}

/// The class of a refusal, by its status and its words.
fn class_of(status: StatusCode, text: &str) -> &'static str {
    const TOO_LONG: [&str; 9] = [
        "context_length",
        "context length",
        "context size",
        "context window",
        "maximum context",
        "too long",
        "too many tokens",
        "exceeds the available context",
        "longer than the maximum",
    ];
    const REFUSED: [&str; 4] = ["content_filter", "content_policy", "content policy", "safety"];
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status.as_u16() {
        _ if says(&TOO_LONG) => "too_long",
        401 | 403 => "refused",
        _ if says(&REFUSED) => "refused",
        404 => "no_model",
        408 => "timeout",
        413 => "too_long",
        _ => "invalid",
    }
}

/// The message inside an error body, or the start of the body.
fn text_of(answer: &Answer) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Body {
        Nested { error: Message },
        Flat { error: String },
        Plain(Message),
        Detail { detail: serde_json::Value },
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
        #[serde(default)]
        code: Option<serde_json::Value>,
    }
    let of_message = |message: Message| match message.code.as_ref().and_then(|code| code.as_str()) {
        Some(code) => format!("{} ({code})", message.message),
        None => message.message,
    };
    let text = match serde_json::from_slice::<Body>(&answer.body) {
        Ok(Body::Nested { error }) => of_message(error),
        Ok(Body::Plain(message)) => of_message(message),
        Ok(Body::Flat { error }) => error,
        Ok(Body::Detail { detail }) => detail.to_string(),
        Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    short(text)
}

/// Tokens and model of a good answer.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Told {
    /// The model that answered.
    #[serde(default)]
    pub(crate) model: Option<String>,
    /// Tokens.
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
}

/// Tokens of one answer, in the two spellings that servers have.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Usage {
    #[serde(default, alias = "input_tokens")]
    pub(crate) prompt_tokens: u64,
    #[serde(default, alias = "output_tokens")]
    pub(crate) completion_tokens: u64,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Bytes::from(body.to_owned()) }
    }

    fn class(status: u16, body: &str) -> String {
        match judge(&answer(status, body)) {
            Verdict::Failed(failure) => failure.class,
            other @ (Verdict::Good
            | Verdict::Busy(_)
            | Verdict::NotReady(_)
            | Verdict::Broke(_)) => format!("{other:?}"),
        }
    }

    #[test]
    fn refusals_get_their_class() {
        let long = r#"{"message":"This model's maximum context length is 4096.","code":400}"#;
        assert_eq!(class(400, long), "too_long");
        let nested = r#"{"error":{"message":"bad","code":"context_length_exceeded"}}"#;
        assert_eq!(class(400, nested), "too_long");
        let llama = r#"{"error":{"code":400,"message":"exceeds the available context size"}}"#;
        assert_eq!(class(400, llama), "too_long");
        assert_eq!(class(400, r#"{"error":"messages is required"}"#), "invalid");
        assert_eq!(class(422, r#"{"detail":[{"loc":["body"]}]}"#), "invalid");
        assert_eq!(class(403, "no"), "refused");
        assert_eq!(class(404, r#"{"error":{"message":"no such model"}}"#), "no_model");
        assert_eq!(class(200, r#"{"error":{"message":"x"}}"#), "invalid");
    }

    #[test]
    fn good_answers_are_good_whatever_they_are() {
        assert_eq!(judge(&answer(200, r#"{"choices":[]}"#)), Verdict::Good);
        assert_eq!(judge(&answer(200, "plain text")), Verdict::Good);
        assert_eq!(judge(&answer(200, r#"{"error":null,"choices":[]}"#)), Verdict::Good);
    }

    #[test]
    fn a_busy_server_gets_its_rest() {
        let mut busy = answer(429, "");
        assert_eq!(judge(&busy), Verdict::Busy(REST));
        busy.headers.insert(hyper::header::RETRY_AFTER, "30".parse().unwrap());
        assert_eq!(judge(&busy), Verdict::Busy(Duration::from_secs(30)));
        assert!(matches!(judge(&answer(503, "Loading model")), Verdict::NotReady(_)));
        assert!(matches!(judge(&answer(500, "CUDA error")), Verdict::Broke(_)));
    }

    #[test]
    fn tokens_are_read_in_both_spellings() {
        let told = |text| serde_json::from_str::<Told>(text).unwrap();
        let chat = told(r#"{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}"#);
        let responses = told(r#"{"model":"m","usage":{"input_tokens":3,"output_tokens":4}}"#);
        assert_eq!(chat, responses);
        assert_eq!(told("{}"), Told::default());
    }
}
