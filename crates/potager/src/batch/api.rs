//! [`Api`]: the calls that batches need, tried again while the server is away.
//! Source: `docs/protocols/work.md`. Not here: connections (`worker::Client`), when to ask what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use worker::{Client, escape};

use crate::output;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// How long a server may be away in the middle of a batch.
const AWAY_MAX: Duration = Duration::from_mins(15);
/// Shortest and longest pause before another try.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A server's work API.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: Arc<Client>,
    server: String,
    /// It has answered once, so it is the right place and may come back.
    has_answered: Arc<AtomicBool>,
}

/// An answer that is no success.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Refused {
    error: Refusal,
}

/// What became of one item that was sent.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    #[serde(default)]
    pub(super) id: Option<Box<str>>,
    #[serde(default)]
    pub(super) error: Option<Refusal>,
}

/// An item to be sent.
#[derive(Debug, Serialize)]
pub(super) struct Sent<'a> {
    pub(super) key: String,
    pub(super) body: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<&'a Value>,
    pub(super) priority: u8,
    pub(super) idempotency_key: String,
}

/// Some changes of results.
#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    #[serde(rename = "changes")]
    pub(super) results: Vec<Box<RawValue>>,
    pub(super) revision: u64,
    #[serde(default)]
    pub(super) more: bool,
    #[serde(default)]
    pub(super) gap: bool,
}

/// Some results, in order of keys.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) results: Vec<Box<RawValue>>,
    #[serde(default)]
    pub(super) more: bool,
}

/// How many items of a queue are where.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counts {
    #[serde(default)]
    pub(crate) ready: u64,
    #[serde(default)]
    pub(crate) claimed: u64,
    #[serde(default)]
    pub(crate) delayed: u64,
    #[serde(default)]
    pub(crate) buried: u64,
}

/// One item in its queue.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub(super) state: String,
    #[serde(default)]
    pub(super) attempts: Vec<Attempt>,
}

/// One try of an item.
#[derive(Debug, Deserialize)]
pub(super) struct Attempt {
    #[serde(default)]
    pub(super) end: String,
    #[serde(default)]
    pub(super) class: String,
    #[serde(default)]
    pub(super) message: String,
}

/// What is done with one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Retry,
    Delete,
}

impl Api {
    pub(crate) fn new(client: Client, server: String) -> Self {
        Self { client: Arc::new(client), server, has_answered: Arc::default() }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<worker::Reply> {
        let (mut pause, mut since) = (PAUSE.0, None);
        loop {
            let called = self.client.call(method.clone(), path, body.clone(), ANSWER_MAX).await;
            let (why, wish) = match called {
                Ok(reply) if is_passing(reply.status) => {
                    (format!("it answers {}", reply.status), reply.retry_after)
                }
                Ok(reply) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    if since.is_some() {
                        output::note("the server is back");
                    }
                    return Ok(reply);
                }
                Err(fault) if !fault.is_passing => bail!("{fault}"),
                Err(fault) => (fault.to_string(), None),
            };
            if !self.has_answered.load(Ordering::Relaxed) {
                bail!(
                    "{why}; is the server running? start one with `potager serve`, or name \
                     another with --server"
                );
            }
            let began: Instant = *since.get_or_insert_with(|| {
                output::note(&format!("the server is away, waiting for it: {why}"));
                Instant::now()
            });
            if began.elapsed() > AWAY_MAX {
                bail!(
                    "the server at {} stays away: {why}; run the same command again",
                    self.server
                );
            }
            tokio::time::sleep(wish.unwrap_or(pause).min(PAUSE.1)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let reply = self.ask(Method::GET, path, Bytes::new()).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(&reply).map(Some)
    }

    fn read<T: DeserializeOwned>(&self, reply: &worker::Reply) -> anyhow::Result<T> {
        if !reply.status.is_success() {
            bail!("{}", self.explain(reply));
        }
        serde_json::from_slice(&reply.body)
            .with_context(|| format!("{} does not answer like a Potager server", self.server))
    }

    fn explain(&self, reply: &worker::Reply) -> String {
        let said = serde_json::from_slice::<Refused>(&reply.body).map(|refused| refused.error);
        let said = said.map_or_else(|_| String::new(), |refusal| format!(": {}", refusal.message));
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
                "{} does not let you in{said}; a batch needs a token that may publish and use \
                 results (--token-file, $POTAGER_TOKEN)",
                self.server
            ),
            status => format!("{} refuses{said} ({status})", self.server),
        }
    }

    /// Sends items; says what became of each.
    pub(super) async fn publish(
        &self,
        queue: &str,
        items: &[Sent<'_>],
    ) -> anyhow::Result<Vec<Said>> {
        #[derive(Serialize)]
        struct Ask<'a> {
            queue: &'a str,
            items: &'a [Sent<'a>],
        }
        #[derive(Deserialize)]
        struct Answer {
            items: Vec<Said>,
        }
        let body = serde_json::to_vec(&Ask { queue, items })?;
        let reply = self.ask(Method::POST, "publish", Bytes::from(body)).await?;
        let answer: Answer = self.read(&reply)?;
        if answer.items.len() != items.len() {
            bail!("{} answers for {} of {} items", self.server, answer.items.len(), items.len());
        }
        Ok(answer.items)
    }

    /// Results that changed after a revision; waits so many seconds for the first.
    pub(super) async fn changes(
        &self,
        prefix: &str,
        after: u64,
        wait_s: u32,
    ) -> anyhow::Result<Changes> {
        let prefix = escape(prefix);
        let path = format!("changes?prefix={prefix}&after={after}&wait_s={wait_s}");
        let reply = self.ask(Method::GET, &path, Bytes::new()).await?;
        self.read(&reply)
    }

    /// Results by the beginning of their keys.
    pub(super) async fn list(&self, prefix: &str, after: &str) -> anyhow::Result<Listed> {
        let mut path = format!("results?prefix={}", escape(prefix));
        if !after.is_empty() {
            path.push_str("&after=");
            path.push_str(&escape(after));
        }
        let reply = self.ask(Method::GET, &path, Bytes::new()).await?;
        self.read(&reply)
    }

    /// The value of one result.
    pub(super) async fn result<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<Option<T>> {
        self.get(&format!("results/{}?raw=1", escape(key))).await
    }

    /// Stores a result, over one that is there.
    pub(super) async fn put(&self, key: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let body = serde_json::to_vec(&json!({ "body": value, "policy": "last" }))?;
        let path = format!("results/{}", escape(key));
        let reply = self.ask(Method::PUT, &path, Bytes::from(body)).await?;
        self.read::<Value>(&reply).map(drop)
    }

    /// How many items are where.
    pub(super) async fn queue(&self, name: &str) -> anyhow::Result<Counts> {
        let counts = self.get(&format!("queues/{}", escape(name))).await?;
        Ok(counts.unwrap_or_default())
    }

    /// An item; `None` when it has ended.
    pub(super) async fn job(&self, id: &str) -> anyhow::Result<Option<Job>> {
        self.get(&format!("jobs/{}", escape(id))).await
    }

    /// Does something with an item; whether that could be done.
    pub(super) async fn act(&self, id: &str, act: Act) -> anyhow::Result<bool> {
        let path = format!("jobs/{}", escape(id));
        let (method, path) = match act {
            Act::Retry => (Method::POST, format!("{path}/retry")),
            Act::Delete => (Method::DELETE, path),
        };
        let reply = self.ask(method, &path, Bytes::new()).await?;
        if matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            bail!("{}", self.explain(&reply));
        }
        Ok(reply.status.is_success())
    }
}

/// Another try may go better.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
