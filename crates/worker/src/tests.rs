//! The whole worker over real sockets: a server and model servers that are played on loopback.
//! Nothing here waits for time to pass: every step is the answer to something that was seen.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::plan::tests::plan;

/// One request that was seen: path and body.
type Seen = (String, Value);
/// What answers: status and body. `None` breaks the connection off.
type Answers = dyn Fn(&str, &Value) -> Option<(u16, Value)> + Send + Sync;

/// A server that is played.
struct Played {
    place: SocketAddr,
    seen: mpsc::Receiver<Seen>,
    serving: JoinHandle<()>,
}

impl Played {
    async fn new(
        answer: impl Fn(&str, &Value) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Arc::new(answer))
    }

    fn on(listener: TcpListener, answer: Arc<Answers>) -> Self {
        let place = listener.local_addr().unwrap();
        let (sender, seen) = mpsc::channel(10_000);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        respond(request, Arc::clone(&answer), sender.clone())
                    });
                    let _broken =
                        http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { place, seen, serving }
    }

    fn uri(&self) -> Uri {
        format!("http://{}", self.place).parse().unwrap()
    }

    /// Waits for a request whose path ends so.
    async fn until(&mut self, path: &str) -> Value {
        loop {
            let (seen, body) = self.seen.recv().await.unwrap();
            if seen.ends_with(path) {
                return body;
            }
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<Answers>,
    sender: mpsc::Sender<Seen>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let path = request.uri().path().to_owned();
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let answered = answer(&path, &body);
    sender.try_send((path, body)).unwrap();
    let (status, body) = answered.ok_or(Broken)?;
    if status == 0 {
        // An answer that never comes.
        std::future::pending::<Infallible>().await;
    }
    let body = Full::new(Bytes::from(body.to_string()));
    Ok(Response::builder().status(status).body(body).unwrap())
}

#[derive(Debug, thiserror::Error)]
#[error("broken off on purpose")]
struct Broken;

/// A Potager server that has these items.
async fn potager(items: Vec<Value>) -> Played {
    Played::new(potager_answers(items)).await
}

fn potager_answers(items: Vec<Value>) -> impl Fn(&str, &Value) -> Option<(u16, Value)> {
    let items = Mutex::new(VecDeque::from(items));
    move |path, body| {
        Some(match path.rsplit('/').next().unwrap() {
            "claim" => {
                let mut items = items.lock().unwrap();
                let most = usize::try_from(body["most"].as_u64().unwrap()).unwrap();
                let count = items.len().min(most);
                let given: Vec<Value> = items.drain(..count).collect();
                // An empty claim hangs, as a long poll does.
                (if given.is_empty() { 0 } else { 200 }, json!({"items": given, "idle": null}))
            }
            "renew" => (200, json!({"held": body["items"], "lost": []})),
            _ => {
                let said: Vec<Value> = body["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|item| json!({"id": item["id"], "outcome": "done"}))
                    .collect();
                (200, json!({"items": said}))
            }
        })
    }
}

fn item(id: &str, body: &Value) -> Value {
    json!({"id": id, "attempt": 1, "failures": 0, "queue": "prompts", "key": id, "body": body,
           "content_type": "application/json", "headers": {}, "published_ms": 1})
}

/// A worker that runs.
struct Running {
    stop: Stop,
    task: JoinHandle<Result<Snapshot, Fault>>,
}

fn start(
    server: &Played,
    work: Work,
    dir: &tempfile::TempDir,
    change: impl FnOnce(&mut Plan),
) -> Running {
    let mut plan = plan(work);
    plan.server = server.uri();
    plan.spool.dir = dir.path().to_owned();
    change(&mut plan);
    let worker = Worker::open(plan).unwrap();
    let stop = Stop::new();
    let task = {
        let stop = stop.clone();
        tokio::spawn(async move { Box::pin(worker.run(&stop, |_| {})).await })
    };
    Running { stop, task }
}

impl Running {
    async fn end(self) -> Snapshot {
        self.stop.press();
        self.task.await.unwrap().unwrap()
    }
}

fn http(upstreams: &[&Played]) -> Work {
    let upstreams = upstreams.iter().map(|played| played.uri()).collect();
    Work::Http(HttpPlan { upstreams, health_path: None, path: "/v1/chat/completions".into() })
}

fn exec(words: &[&str]) -> Work {
    Work::Exec(words.iter().map(|word| (*word).to_owned()).collect())
}

fn chat(path: &str) -> (u16, Value) {
    if path == "/health" {
        return (200, json!({}));
    }
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 4});
    (200, json!({"model": "m", "choices": [{"text": "hi"}], "usage": usage}))
}

#[tokio::test]
async fn items_go_to_a_model_server_and_results_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = potager(vec![item("a", &json!({"messages": []}))]).await;
    let mut engine = Played::new(|path, _| Some(chat(path))).await;
    let worker =
        start(&server, http(&[&engine]), &dir, |plan| plan.token = Token::Text("t".into()));
    let claim = server.until("/claim").await;
    assert_eq!(claim["worker"], "w");
    assert_eq!(engine.until("/v1/chat/completions").await, json!({"messages": []}));
    let done = server.until("/complete").await;
    let result = &done["items"][0]["result"];
    assert_eq!((&result["key"], &result["policy"]), (&json!("a"), &json!("first")));
    assert_eq!(result["body"]["choices"][0]["text"], "hi");
    let notes = &result["notes"];
    assert_eq!((&notes["model"], &notes["completion_tokens"]), (&json!("m"), &json!(4)));
    assert!(
        notes["machine"].is_string()
            && notes["upstream"].is_string()
            && notes["seconds"].is_number()
    );
    let snapshot = worker.end().await;
    assert_eq!((snapshot.done, snapshot.tokens), (1, 7));
}

#[tokio::test]
async fn a_model_server_that_dies_hands_its_item_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = potager(vec![item("a", &json!({"n": 1})), item("b", &json!({"n": 2}))]).await;
    // It is well until somebody gives it work.
    let dies = Played::new(|path, _| (path == "/health").then(|| chat(path))).await;
    let lives = Played::new(|path, _| Some(chat(path))).await;
    let worker = start(&server, http(&[&dies, &lives]), &dir, |plan| {
        plan.concurrency = Concurrency::Fixed(1);
    });
    let mut done = Vec::new();
    while done.len() < 2 {
        let body = server.until("/complete").await;
        done.extend(body["items"].as_array().unwrap().clone());
    }
    for item in &done {
        assert_eq!(item["result"]["notes"]["upstream"], json!(lives.uri().to_string()));
    }
    assert_eq!(worker.end().await.failed, 0);
}

#[tokio::test]
async fn a_refused_prompt_fails_with_its_class() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = potager(vec![item("a", &json!({"messages": []}))]).await;
    let engine = Played::new(|path, _| match path {
        "/health" => Some(chat(path)),
        _ => Some((400, json!({"error": {"message": "maximum context length is 10"}}))),
    });
    let engine = engine.await;
    let worker = start(&server, http(&[&engine]), &dir, |_| {});
    let failed = server.until("/fail").await;
    assert_eq!(failed["items"][0]["class"], "too_long");
    assert_eq!(worker.end().await.failed, 1);
}

#[tokio::test]
async fn nothing_is_claimed_before_a_model_server_is_warm() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = potager(vec![item("a", &json!({"n": 1}))]).await;
    let probes = Mutex::new(0);
    let mut engine = Played::new(move |path, _| match path {
        "/health" => {
            let mut probes = probes.lock().unwrap();
            *probes += 1;
            Some((if *probes < 2 { 503 } else { 200 }, json!({})))
        }
        _ => Some(chat(path)),
    })
    .await;
    let worker = start(&server, http(&[&engine]), &dir, |_| {});
    server.until("/release").await;
    engine.until("/health").await;
    assert!(server.seen.try_recv().is_err(), "a claim before the engine is warm");
    engine.until("/health").await;
    server.until("/complete").await;
    worker.end().await;
}

#[tokio::test]
async fn a_token_that_is_not_taken_ends_the_worker_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Played::new(|_, _| Some((401, json!({"error": {"code": "login", "message": "who?"}}))))
            .await;
    let worker = start(&server, exec(&["cat"]), &dir, |_| {});
    let fault = worker.task.await.unwrap().unwrap_err();
    assert!(matches!(&fault, Fault::Login(text) if text.contains("who?")), "{fault}");
}

#[tokio::test]
async fn a_worker_outlives_its_server_and_delivers_to_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let mut server = potager(vec![item("a", &json!({"n": 1}))]).await;
    // The item ends when the test opens the gate.
    let script = format!("cat {}; cat", gate.display());
    let worker = start(&server, exec(&["sh", "-c", &script]), &dir, |_| {});
    server.until("/claim").await;
    server.until("/claim").await;
    let place = server.place;
    server.serving.abort();
    assert!(server.serving.await.unwrap_err().is_cancelled());
    // Opening waits for the reader; the end of the file lets the item end.
    tokio::task::spawn_blocking(move || drop(std::fs::OpenOptions::new().write(true).open(gate)))
        .await
        .unwrap();
    let listener = TcpListener::bind(place).await.unwrap();
    let mut again = Played::on(listener, Arc::new(potager_answers(Vec::new())));
    let done = again.until("/complete").await;
    assert_eq!(done["items"][0]["result"]["body"], json!({"n": 1}));
    assert_eq!(worker.end().await.undelivered, 0);
}
