//! Batches with the real binary: a server, workers over a model server that counts, a run that is
//! killed and run again, rows that fail, their second try. Rows and files alone are tested in
//! `batch`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A model server that says its prompt in capitals, and refuses those with `poison` until it is
/// mended.
#[derive(Default)]
struct Model {
    answered: AtomicU64,
    is_mended: AtomicBool,
    pause_ms: AtomicU64,
}

impl Model {
    fn start() -> (Arc<Self>, String) {
        let model = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = Arc::clone(&model);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let model = Arc::clone(&serving);
                std::thread::spawn(move || model.serve(stream));
            }
        });
        (model, url)
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut writer = stream;
        loop {
            let (mut first, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                if first.is_empty() {
                    first.clone_from(&line);
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let (status, answer) = self.answer(&first, &body);
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", answer.len());
            writer.write_all(head.as_bytes()).ok()?;
            writer.write_all(answer.as_bytes()).ok()?;
        }
    }

    fn answer(&self, first: &str, body: &[u8]) -> (&'static str, Value) {
        if first.starts_with("GET") {
            return ("200 OK", json!({"data": []}));
        }
        assert!(first.starts_with("POST /v1/chat/completions"), "{first}");
        let asked: Value = serde_json::from_slice(body).unwrap();
        let prompt = asked["messages"][0]["content"].as_str().unwrap();
        std::thread::sleep(Duration::from_millis(self.pause_ms.load(Ordering::Relaxed)));
        if prompt.contains("poison") && !self.is_mended.load(Ordering::Relaxed) {
            return ("400 Bad Request", json!({"error": {"message": "maximum context length"}}));
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        let choice = json!({"message": {"content": prompt.to_uppercase()}});
        let usage = json!({"prompt_tokens": 2, "completion_tokens": 3});
        ("200 OK", json!({"model": asked["model"], "choices": [choice], "usage": usage}))
    }
}

struct Bench {
    dir: tempfile::TempDir,
    url: String,
    model: Arc<Model>,
    model_url: String,
    _server: Process,
    worker: Option<Process>,
}

impl Bench {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let server = Command::new(env!("CARGO_BIN_EXE_potager"))
            .args(["serve", "--amqp", "off", "--beanstalk", "off", "--http", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Process(server);
        until(|| ready.exists());
        let doors: Value = serde_json::from_str(&fs::read_to_string(&ready).unwrap()).unwrap();
        let url = format!("http://{}", doors["http"].as_str().unwrap());
        let (model, model_url) = Model::start();
        Self { dir, url, model, model_url, _server: server, worker: None }
    }

    fn work(&mut self) {
        let worker = Command::new(env!("CARGO_BIN_EXE_potager"))
            .args(["work", "--server", &self.url, "--queue", "prompts", "--concurrency", "4"])
            .args(["--http", &self.model_url])
            .arg("--spool")
            .arg(self.dir.path().join("spool"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.dir.path().join("worker.log")).unwrap())
            .spawn()
            .unwrap();
        self.worker = Some(Process(worker));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn batch(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_potager"));
        command.arg("batch").args(arguments).args(["--server", &self.url]);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, file: &str, out: &str) -> Command {
        let plan = ["run", file, "--to", "prompts", "--template", "say {word}", "--model", "m"];
        let more = ["--endpoint", "/v1/chat/completions", "--key", "id", "--name", "b", "--json"];
        let mut command = self.batch(&plan);
        command.args(more).args(["--out", out]);
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.batch(arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{arguments:?} {output:?}");
        last_json(&output)
    }
}

fn last_json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it took too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Rows 0 to `count`; the third is poison.
fn rows(path: &Path, count: u64) {
    let word = |at| if at == 2 { "poison".to_owned() } else { format!("w{at}") };
    let lines: Vec<String> =
        (0..count).map(|at| json!({"id": at, "word": word(at)}).to_string() + "\n").collect();
    fs::write(path, lines.concat()).unwrap();
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_killed_run_is_resumed_by_running_it_again() {
    let mut bench = Bench::start();
    bench.model.pause_ms.store(10, Ordering::Relaxed);
    rows(&bench.path("in.jsonl"), 300);
    bench.work();
    let mut first =
        Process(bench.run("in.jsonl", "out.jsonl").stdout(Stdio::null()).spawn().unwrap());
    until(|| bench.model.answered.load(Ordering::Relaxed) >= 30);
    first.0.kill().unwrap();
    assert!(!bench.path("out.jsonl").exists(), "a half output must not be there");
    drop(first);

    let again = bench.run("in.jsonl", "out.jsonl").output().unwrap();
    let end = last_json(&again);
    assert_eq!(again.status.code(), Some(1), "one row failed: {again:?}");
    assert_eq!(
        (&end["done"], &end["failed"], &end["items"]),
        (&json!(299), &json!(1), &json!(300))
    );
    assert!(end["before"].as_u64().unwrap() > 0, "{end}");
    let out = lines(&bench.path("out.jsonl"));
    let ids: Vec<String> = out.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..300).map(|at| at.to_string()).collect::<Vec<_>>(), "in input order");
    assert_eq!((&out[7]["text"], &out[7]["result"]["model"]), (&json!("SAY W7"), &json!("m")));
    assert_eq!(out[2]["error"]["class"], "too_long", "{}", out[2]);
    assert_eq!(out[2]["error"]["attempts"], 3);
    // Nothing was computed twice but what ended between looking and sending.
    let answered = bench.model.answered.load(Ordering::Relaxed);
    assert!((299..310).contains(&answered), "{answered} were computed");

    let fallen = bench.json(&["errors", "b"]);
    assert_eq!((&fallen["id"], &fallen["class"]), (&json!("2"), &json!("too_long")));
    bench.model.is_mended.store(true, Ordering::Relaxed);
    assert_eq!(bench.json(&["retry", "b"])["retried"], 1);
    until(|| bench.json(&["status", "b"])["done"] == 300);
    let status = bench.json(&["status", "b"]);
    assert_eq!(
        (&status["failed"], &status["left"], &status["tokens"]),
        (&json!(0), &json!(0), &json!(1500))
    );
    let last = bench.run("in.jsonl", "out.csv").output().unwrap();
    assert!(last.status.success(), "{last:?}");
    assert_eq!(last_json(&last)["sent"], 0, "everything had a result");
    assert!(fs::read_to_string(bench.path("out.csv")).unwrap().contains("2,SAY POISON,"));
    assert_eq!(bench.model.answered.load(Ordering::Relaxed), 300);
    assert_eq!(bench.json(&["results", "b", "--out", "all.parquet"])["written"], 300);
}

#[test]
fn more_rows_add_only_what_is_missing_and_a_cancelled_rest_is_gone() {
    let mut bench = Bench::start();
    fs::write(bench.path("in.csv"), "id,word\n1,a\n2,b\n").unwrap();
    bench.work();
    assert!(bench.run("in.csv", "out.jsonl").output().unwrap().status.success());
    fs::write(bench.path("in.csv"), "id,word\n1,a\n2,b\n3,c\n").unwrap();
    let more = last_json(&bench.run("in.csv", "out.jsonl").output().unwrap());
    assert_eq!((&more["before"], &more["sent"], &more["done"]), (&json!(2), &json!(1), &json!(3)));
    assert_eq!(bench.model.answered.load(Ordering::Relaxed), 3);

    bench.worker = None;
    let only = ["run", "in.csv", "--to", "idle", "--no-wait", "--name", "c"];
    assert_eq!(bench.json(&only)["sent"], 3);
    assert_eq!(bench.json(&only)["sent"], 3, "the same items, not others");
    let status = bench.json(&["status", "c"]);
    assert_eq!((&status["left"], &status["queue_counts"]["ready"]), (&json!(3), &json!(3)));
    assert_eq!(bench.json(&["cancel", "c", "--yes"])["cancelled"], 3);
    let status = bench.json(&["status", "c"]);
    assert_eq!((&status["gone"], &status["queue_counts"]["ready"]), (&json!(3), &json!(0)));
}

#[test]
fn bad_rows_are_named_before_anything_is_sent() {
    let bench = Bench::start();
    fs::write(bench.path("in.jsonl"), "{\"word\":\"a\"}\nnope\n{\"other\":1}\n").unwrap();
    let plan = ["run", "in.jsonl", "--to", "q", "--template", "{word}", "--name", "x", "--no-wait"];
    let refused = bench.batch(&plan).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains("in.jsonl:2:") && said.contains("in.jsonl:3: there is no column 'word'"),
        "{said}"
    );
    assert!(!bench.batch(&["status", "x"]).output().unwrap().status.success(), "nothing was sent");
    let skipped = bench.batch(&plan).args(["--skip-bad", "--json"]).output().unwrap();
    let end = last_json(&skipped);
    assert_eq!((&end["sent"], &end["bad"]), (&json!(1), &json!(2)));
}
