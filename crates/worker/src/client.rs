//! [`Client`]: the work API for whoever gives work instead of doing it, over the same connections,
//! logins and proxies as the worker's. Not here: what the calls mean (their callers).

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};

use crate::server::{Remote, Trouble, escaped};
use crate::transport::{Transport, Way, retry_after};
use crate::{Fault, Token};

/// A server's work API.
#[derive(Debug)]
pub struct Client {
    remote: Remote,
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
    /// All of the body.
    pub body: Bytes,
}

/// There is no answer: the server is away, or the token cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Unanswered {
    /// What was seen.
    pub detail: String,
    /// Whether another try may go better.
    pub is_passing: bool,
}

impl Client {
    /// A client of the server at an address; nothing is asked yet.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(
        server: &Uri,
        vhost: &str,
        token: Token,
        ca_file: Option<&Path>,
    ) -> Result<Self, Fault> {
        let transport = Transport::trusting(ca_file, Way::ByEnvironment)?;
        Ok(Self { remote: Remote::at(server, vhost, token, transport) })
    }

    /// Makes one call; `path` is what stands below `/work/v1/`, with its query.
    ///
    /// # Errors
    /// There is no answer within `patience`.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Reply, Unanswered> {
        let answer = self.remote.ask(method, path, body, patience).await.map_err(|trouble| {
            let is_passing = matches!(trouble, Trouble::Away { .. });
            Unanswered { detail: trouble.to_string(), is_passing }
        })?;
        let retry_after = retry_after(&answer.headers);
        Ok(Reply { status: answer.status, retry_after, body: answer.body })
    }
}

/// Text as one segment of a path, or one value of a query.
pub fn escape(text: &str) -> String {
    escaped(text)
}
