//! [`Transport`]: one request, one answer, over a pool of connections that are kept. Used for the
//! server (through a proxy where the environment names one) and for model servers beside the
//! worker.
//!
//! Not here: what is said (`server`, `upstream`), whom TLS trusts (`trust`), proxies (`route`).

mod route;
mod trust;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::{Fault, Plan};
use route::Route;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(50);

/// Where connections go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A proxy, if the environment names one for the address.
    ByEnvironment,
    /// Straight.
    Direct,
}

/// A pool of connections.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<Route>, Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The request never left: nobody listens, no route, no trust.
    #[error("cannot be reached: {0}")]
    Unreached(String),
    /// The connection ended before the answer did.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Late(Duration),
    /// It is larger than the limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Transport {
    /// A pool that trusts whom the plan says.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub(crate) fn new(plan: &Plan, way: Way) -> Result<Self, Fault> {
        Self::trusting(plan.ca_file.as_deref(), way)
    }

    /// A pool that trusts an authority, or those of the system.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub(crate) fn trusting(ca_file: Option<&Path>, way: Way) -> Result<Self, Fault> {
        let trust = trust::config(ca_file)?;
        let https = HttpsConnectorBuilder::new().with_tls_config(trust).https_or_http();
        let connector = https.enable_http1().wrap_connector(Route::new(way));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        Ok(Self { client: builder.build(connector) })
    }

    /// Sends a request and reads the whole answer, at most `limit` bytes of it.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
        patience: Option<Duration>,
    ) -> Result<Answer, NoAnswer> {
        let exchange = self.exchange(request, limit);
        match patience {
            Some(patience) => tokio::time::timeout(patience, exchange)
                .await
                .unwrap_or(Err(NoAnswer::Late(patience))),
            None => exchange.await,
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Answer, NoAnswer> {
        let answer = self.client.request(request).await.map_err(|error| {
            let text = causes(&error);
            if error.is_connect() { NoAnswer::Unreached(text) } else { NoAnswer::Broken(text) }
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                NoAnswer::TooLarge(limit)
            } else {
                NoAnswer::Broken(error.to_string())
            }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// What the other side asks to be left alone for: `Retry-After` in seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(hyper::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// An error and what caused it, in one line, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
