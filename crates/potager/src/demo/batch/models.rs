//! [`Models`]: four model servers of different speed in this process. They count what they compute,
//! so that no repetition can hide. Not here: judging the counts (`account`).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::worker::steps;

/// What every prompt says; its number is the only thing that differs.
pub(super) const PROMPT: &str = "How many steps to one from {number}";
/// How long each server takes.
const PACES_MS: [u64; 4] = [5, 10, 20, 40];
/// Largest request.
const BODY_BYTES_MAX: usize = 1 << 16;

/// The servers, as long as the process lives.
#[derive(Debug)]
pub(super) struct Models {
    pub(super) urls: Vec<String>,
    board: Arc<Board>,
}

/// How often each prompt was computed.
#[derive(Debug)]
struct Board {
    counts: Vec<AtomicU32>,
    distinct: AtomicU64,
}

impl Models {
    /// Starts them on free ports, in a thread of their own.
    pub(super) fn start(prompts: u64) -> anyhow::Result<Self> {
        let counts = (0..prompts).map(|_| AtomicU32::new(0)).collect();
        let board = Arc::new(Board { counts, distinct: AtomicU64::new(0) });
        let mut sockets = Vec::new();
        for _ in PACES_MS {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").context("a model server")?;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
        let addresses = sockets.iter().map(std::net::TcpListener::local_addr);
        let urls: Result<Vec<String>, _> =
            addresses.map(|place| place.map(|place| format!("http://{place}"))).collect();
        let models = Self { urls: urls?, board: Arc::clone(&board) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                for (socket, pace_ms) in sockets.into_iter().zip(PACES_MS) {
                    let pace = Duration::from_millis(pace_ms);
                    tokio::spawn(serve(socket, pace, Arc::clone(&board)));
                }
                std::future::pending::<()>().await;
            });
        });
        Ok(models)
    }

    /// Prompts that were computed at least once.
    pub(super) fn distinct(&self) -> u64 {
        self.board.distinct.load(Ordering::Relaxed)
    }

    /// Computations in all.
    pub(super) fn computed(&self) -> u64 {
        self.board.counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }
}

async fn serve(socket: std::net::TcpListener, pace: Duration, board: Arc<Board>) {
    let Ok(listener) = TcpListener::from_std(socket) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let board = Arc::clone(&board);
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, pace, &board));
            // A worker that is killed breaks its connections.
            let _broken =
                http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    pace: Duration,
    board: &Board,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        return Ok(Response::new(Full::from("{}")));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let number = body.ok().and_then(|body| number_of(&body.to_bytes()));
    let Some(number) = number else {
        let mut refused = Response::new(Full::from(r#"{"error":{"message":"no number"}}"#));
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    tokio::time::sleep(pace).await;
    board.note(number);
    let choice = json!({ "message": { "content": steps(number).to_string() } });
    let usage = json!({ "prompt_tokens": 8, "completion_tokens": 1 });
    let answer = json!({ "model": "demo", "choices": [choice], "usage": usage });
    Ok(Response::new(Full::from(answer.to_string())))
}

/// The number at the end of the prompt.
fn number_of(body: &[u8]) -> Option<u64> {
    let asked: Value = serde_json::from_slice(body).ok()?;
    let prompt = asked.get("messages")?.get(0)?.get("content")?.as_str()?;
    prompt.rsplit(' ').next()?.parse().ok()
}

impl Board {
    fn note(&self, number: u64) {
        let count = usize::try_from(number).ok().and_then(|at| self.counts.get(at));
        if count.is_some_and(|count| count.fetch_add(1, Ordering::Relaxed) == 0) {
            self.distinct.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_in_a_chat() {
        let body = json!({ "messages": [{ "content": "How many steps to one from 27" }] });
        assert_eq!(number_of(body.to_string().as_bytes()), Some(27));
        assert_eq!(number_of(b"{}"), None);
    }
}
