//! [`Server`]: the work API from the worker's side, as a trait so that tests can be the server, and
//! [`Remote`], which speaks it over HTTP. Not here: when to ask what (`agent`).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, Uri, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Plan;
use crate::api::{Call, ClaimAsk, Claimed, Refused, ReleaseAsk, RenewAsk, Renewed, Said, SaidAll};
use crate::plan::Token;
use crate::transport::{Answer, NoAnswer, Transport, retry_after};

/// Longest wait for an answer that is not waited for on purpose.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer: 1,000 items of a prompt's size, and room.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why a call did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// The server is not there, or not ready; it is worth another try.
    #[error("{detail}")]
    Away {
        /// What was seen.
        detail: String,
        /// What it asks for.
        retry_after: Option<Duration>,
    },
    /// It does not let the worker do this.
    #[error("{0}")]
    Login(String),
    /// It will never take this call.
    #[error("{code}: {message}")]
    Refused {
        /// The API's word.
        code: String,
        /// Its text.
        message: String,
    },
}

impl Trouble {
    /// What the server asks to wait.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Away { retry_after, .. } => *retry_after,
            Self::Login(_) | Self::Refused { .. } => None,
        }
    }
}

/// The calls that a worker needs. Every one may be tried again.
pub(crate) trait Server: Send + Sync + 'static {
    /// Takes items.
    fn claim(&self, ask: ClaimAsk) -> impl Future<Output = Result<Claimed, Trouble>> + Send;

    /// Renews all leases.
    fn renew(
        &self,
        ask: RenewAsk,
        patience: Duration,
    ) -> impl Future<Output = Result<Renewed, Trouble>> + Send;

    /// Delivers a batch.
    fn deliver(
        &self,
        call: Call,
        body: Bytes,
    ) -> impl Future<Output = Result<Vec<Said>, Trouble>> + Send;

    /// Gives items back.
    fn release(&self, ask: ReleaseAsk) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Whether an item is still to be done.
    fn is_open(&self, id: &str) -> impl Future<Output = Result<bool, Trouble>> + Send;
}

/// A server over HTTP.
#[derive(Debug)]
pub(crate) struct Remote {
    transport: Transport,
    /// Scheme and authority, without a slash at the end.
    base: String,
    /// `vhost=..`, or nothing.
    vhost: String,
    token: Token,
}

impl Remote {
    /// A server at the plan's address.
    pub(crate) fn new(plan: &Plan, transport: Transport) -> Self {
        Self::at(&plan.server, &plan.vhost, plan.token.clone(), transport)
    }

    /// A server at an address.
    pub(crate) fn at(server: &Uri, vhost: &str, token: Token, transport: Transport) -> Self {
        let base = server.to_string().trim_end_matches('/').to_owned();
        let vhost = match vhost {
            "/" => String::new(),
            vhost => format!("vhost={}", escaped(vhost)),
        };
        Self { transport, base, vhost, token }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &impl Serialize,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let body = serde_json::to_vec(ask).map_err(|error| away(error.to_string()))?;
        self.ask(Method::POST, path, Bytes::from(body), patience)
            .await
            .and_then(|answer| read(&answer))
    }

    /// Sends one call; `path` may have a query of its own.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Answer, Trouble> {
        let mark = match (self.vhost.as_str(), path.contains('?')) {
            ("", _) => "",
            (_, true) => "&",
            (_, false) => "?",
        };
        let uri = format!("{}/work/v1/{path}{mark}{}", self.base, self.vhost);
        let uri: Result<Uri, _> = uri.parse();
        let uri = uri.map_err(|error| away(format!("{path}: {error}")))?;
        let mut request = Request::builder().method(method).uri(uri);
        request = request.header(header::CONTENT_TYPE, "application/json");
        request =
            request.header(header::USER_AGENT, concat!("potager/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = self.token()? {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| away(error.to_string()))?;
        let answer = self.transport.send(request, ANSWER_BYTES_MAX, Some(patience)).await;
        answer.map_err(|error: NoAnswer| away(format!("{} {error}", self.base)))
    }

    /// The token as it is now; a file is small and on this machine, so reading it does not wait.
    fn token(&self) -> Result<Option<String>, Trouble> {
        match &self.token {
            Token::None => Ok(None),
            Token::Text(text) => Ok(Some(text.trim().to_owned())),
            Token::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(error) => Err(Trouble::Login(format!(
                    "the token file {} cannot be read: {error}",
                    path.display()
                ))),
            },
        }
    }
}

impl Server for Remote {
    async fn claim(&self, ask: ClaimAsk) -> Result<Claimed, Trouble> {
        let patience = PATIENCE + Duration::from_secs(ask.wait_s);
        self.post("claim", &ask, patience).await
    }

    async fn renew(&self, ask: RenewAsk, patience: Duration) -> Result<Renewed, Trouble> {
        self.post("renew", &ask, patience).await
    }

    async fn deliver(&self, call: Call, body: Bytes) -> Result<Vec<Said>, Trouble> {
        let answer = self.ask(Method::POST, call.word(), body, PATIENCE).await?;
        read::<SaidAll>(&answer).map(|said| said.items)
    }

    async fn release(&self, ask: ReleaseAsk) -> Result<(), Trouble> {
        self.post::<SaidAll>("release", &ask, PATIENCE).await.map(drop)
    }

    async fn is_open(&self, id: &str) -> Result<bool, Trouble> {
        let path = format!("jobs/{}", escaped(id));
        let answer = self.ask(Method::GET, &path, Bytes::new(), PATIENCE).await?;
        if answer.status == StatusCode::NOT_FOUND && refusal(&answer).is_some() {
            return Ok(false);
        }
        if answer.status.is_success() { Ok(true) } else { Err(trouble(&answer)) }
    }
}

fn away(detail: String) -> Trouble {
    Trouble::Away { detail, retry_after: None }
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Trouble> {
    if !answer.status.is_success() {
        return Err(trouble(answer));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| away(format!("the answer is not that of a Potager server: {error}")))
}

fn refusal(answer: &Answer) -> Option<Refused> {
    serde_json::from_slice(&answer.body).ok()
}

/// What an answer that is no success means. Only the API's own words count as a refusal: a page of
/// some proxy in between must not cost a result.
fn trouble(answer: &Answer) -> Trouble {
    let refused = refusal(answer).map(|refused| refused.error);
    let status = answer.status;
    let said =
        refused.as_ref().map_or_else(String::new, |refusal| format!(": {}", refusal.message));
    match (status, refused) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            Trouble::Login(format!("{status}{said}"))
        }
        (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, Some(refusal)) => {
            Trouble::Refused { code: refusal.code, message: refusal.message }
        }
        _ => Trouble::Away {
            detail: format!("the server answers {status}{said}"),
            retry_after: retry_after(&answer.headers),
        },
    }
}

/// Text as one segment of a path, or one value of a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => path.push(byte.into()),
            byte => {
                path.push('%');
                for digit in [byte >> 4, byte & 15] {
                    path.extend(char::from_digit(u32::from(digit), 16));
                }
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn only_the_apis_own_words_refuse_for_good() {
        let words = r#"{"error":{"code":"bad_request","message":"no"}}"#;
        assert!(matches!(trouble(&answer(400, words)), Trouble::Refused { .. }));
        assert!(matches!(trouble(&answer(400, "<html>")), Trouble::Away { .. }));
        assert!(matches!(trouble(&answer(404, words)), Trouble::Away { .. }));
        assert!(matches!(trouble(&answer(401, "")), Trouble::Login(_)));
        let busy = trouble(&answer(503, words));
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_page_of_something_else_is_no_answer() {
        assert!(matches!(read::<Claimed>(&answer(200, "<html>")), Err(Trouble::Away { .. })));
    }

    #[test]
    fn ids_are_escaped() {
        assert_eq!(escaped("3-8/x y"), "3-8%2fx%20y");
    }
}
