//! The work API of the real binary: a job's life, also across a restart, two workers, waits that
//! another connection ends, tokens. What each call does in detail is tested in `gateway`; every
//! other case in `conformance/work`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that ends with the test.
struct Server {
    child: Child,
    http: String,
    token: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let ready = dir.join("ready");
        let _missing = std::fs::remove_file(&ready);
        let mut child = Command::new(env!("CARGO_BIN_EXE_potager"))
            .args(["serve", "--amqp", "off", "--beanstalk", "off", "--http", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let doors = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break serde_json::from_str::<Value>(&text).unwrap();
            }
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        };
        let http = doors.get("http").unwrap().as_str().unwrap().to_owned();
        Self { child, http, token: String::new() }
    }

    /// Without a chance to say goodbye.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let login = match self.token.as_str() {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let text = format!(
            "{method} /work/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{login}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, body);
        assert_eq!(status, 200, "{path} {answer}");
        answer
    }

    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path} {answer}");
        answer
    }

    fn claim(&self, worker: &str, most: u32, wait_s: u32) -> Vec<Value> {
        let body = json!({"worker": worker, "queues": ["q"], "most": most, "wait_s": wait_s});
        self.post("claim", &body)["items"].as_array().unwrap().clone()
    }

    fn publish(&self, texts: &[&str]) -> Vec<String> {
        let items: Vec<Value> = texts.iter().map(|text| json!({"text": text})).collect();
        let answer = self.post("publish", &json!({"queue": "q", "items": items}));
        let items = answer["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn held(item: &Value) -> Value {
    json!({"id": item["id"], "attempt": item["attempt"]})
}

#[test]
fn a_job_lives_through_a_kill_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let ids = server.publish(&["one", "two"]);
    let items = server.claim("w", 2, 0);
    assert_eq!(items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>(), ids);
    let mut first = held(&items[0]);
    first["result"] = json!({"key": "k1", "body": {"n": 1}});
    first["publish"] = json!([{"queue": "q", "text": "three"}]);
    let answer = server.post("complete", &json!({"worker": "w", "items": [first]}));
    assert_eq!(answer["items"][0]["outcome"], "done");
    let revision = server.get("changes")["revision"].clone();
    server.kill();

    let server = Server::start(dir.path());
    let all: Vec<Value> = items.iter().map(held).collect();
    let answer = server.post("renew", &json!({"worker": "w", "items": all}));
    assert_eq!(answer["held"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["lost"], json!([ids[0]]));
    assert_eq!(server.get("results/k1")["body"], json!({"n": 1}));
    let again = server.post("complete", &json!({"worker": "w", "items": [first]}));
    assert_eq!(again["items"][0]["outcome"], "done_before");
    let mut second = held(&items[1]);
    second["result"] = json!({"key": "k2", "text": "late"});
    let answer = server.post("complete", &json!({"worker": "w", "items": [second]}));
    assert_eq!(answer["items"][0]["outcome"], "done");
    let changes = server.get(&format!("changes?after={revision}"));
    assert_eq!(changes["changes"].as_array().unwrap().len(), 1, "{changes}");
    assert_eq!(changes["changes"][0]["key"], "k2");
    let rest = server.claim("w", 9, 0);
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["text"], "three");
}

#[test]
fn a_wait_ends_when_somebody_publishes_or_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.claim("w", 5, 15));
        let other = scope.spawn(|| server.claim("other", 1, 1));
        assert!(other.join().unwrap().is_empty(), "its time is over");
        server.publish(&["x"]);
        assert_eq!(waiting.join().unwrap()[0]["text"], "x");
    });
    let held = server.post("renew", &json!({"worker": "w"}));
    assert_eq!(held["held"].as_array().unwrap().len(), 1);
    let held = server.post("renew", &json!({"worker": "other"}));
    assert!(held["held"].as_array().unwrap().is_empty());
}

#[test]
fn who_goes_away_while_waiting_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.publish(&["x"]);
    let taken = server.claim("first", 1, 0);
    let body = json!({"worker": "gone", "queues": ["q"], "wait_s": 60}).to_string();
    let text = format!(
        "POST /work/v1/claim HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(&server.http).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    drop(stream);
    // Whichever is seen first, the job must be with who really waits.
    let release = json!({"worker": "first", "items": [held(&taken[0])]});
    assert_eq!(server.post("release", &release)["items"][0]["outcome"], "returned");
    assert_eq!(server.claim("second", 1, 15).len(), 1);
}

#[test]
fn a_token_shuts_the_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let url = format!("http://{}", server.http);
    let arguments = ["tokens", "add", "--name", "gpu", "--may", "publish,claim", "--url", &url];
    let made = Command::new(env!("CARGO_BIN_EXE_potager")).args(arguments).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let (status, answer) = server.call("GET", "queues", &Value::Null);
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("login")));
    server.token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(server.token.starts_with("pt_gpu_"));
    server.publish(&["x"]);
    assert_eq!(server.claim("w", 1, 0).len(), 1);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(!log.contains(server.token.rsplit_once("gpu_").unwrap().1));
}
