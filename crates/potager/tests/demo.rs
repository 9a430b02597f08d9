//! The demonstration, the crash ledger and the load generator end to end: real processes, real
//! kills, small numbers. Not here: how fast anything is.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step fails the test"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const POTAGER: &str = env!("CARGO_BIN_EXE_potager");

/// Runs a command to its end; returns its JSON.
fn json(arguments: &[&str]) -> Value {
    let done = Command::new(POTAGER).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{arguments:?}: {out} {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn no_task_is_lost_when_a_worker_and_the_server_are_killed() {
    let ledger = json(&["demo", "--no-celery", "--tasks", "4000", "--json"]);
    for (name, expected) in [("published", 4000), ("confirmed", 4000), ("executed", 4000)] {
        assert_eq!(ledger[name], expected, "{ledger}");
    }
    assert_eq!((&ledger["lost"], &ledger["wrong"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(ledger["executed_again"]["unexplained"], 0, "{ledger}");
    assert!(ledger["times"]["server_killed_at_ms"].as_u64() > Some(0), "{ledger}");
}

#[test]
fn the_ledger_balances_after_every_kill() {
    // On a busy machine the kills may come before anybody has logged in.
    let has_committed = (0..5).any(|_| {
        let account = json(&["demo", "--kills", "4", "--json"]);
        assert_eq!(account["kills"], 4, "{account}");
        for name in ["lost", "half", "doubled", "invented"] {
            assert_eq!(account[name], 0, "{account}");
        }
        account["committed"].as_u64() > Some(0)
    });
    assert!(has_committed, "nothing was committed in five runs");
}

#[test]
fn the_load_generator_measures_each_shape_of_run() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path());
    let short = ["--seconds", "0.3", "--warm-up-seconds", "0.1", "--json"];
    let bench = |own: &[&str]| {
        let url = format!("amqp://{}", server.amqp);
        let command = [&["bench", "amqp", "--url", &url], own, &short].concat();
        json(&command)
    };
    for own in [
        &["--scenario", "confirm-200", "--queues", "2", "--publishers", "2"][..],
        &["--scenario", "sync-1"],
        &["--rate", "2000", "--size", "20000"],
        &["--quorum", "--consumers", "2", "--prefetch", "10"],
    ] {
        let report = bench(own);
        assert!(report["speed"]["confirmed_per_s"].as_f64() > Some(0.0), "{own:?}: {report}");
        assert!(report["confirm_us"]["p99"].as_f64() > Some(0.0), "{own:?}: {report}");
    }
    let report = bench(&["--scenario", "transient"]);
    assert!(report["speed"]["consumed_per_s"].as_f64() > Some(0.0), "{report}");
    assert_eq!(report["confirm_us"], Value::Null, "{report}");
    for scenario in ["idle-connections", "queues", "backlog", "storm"] {
        let report = bench(&["--scenario", scenario, "--count", "50"]);
        assert_eq!(report["sizes"]["count"], 50, "{report}");
        assert!(report["sizes"]["per_s"].as_f64() > Some(0.0), "{report}");
    }
}

#[test]
fn a_server_that_is_not_there_is_named_with_what_to_do() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("amqp://{gone}");
    let done = Command::new(POTAGER).args(["bench", "amqp", "--url", &url]).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains(&gone.to_string()) && told.contains("is a server listening"), "{told}");
}

/// A server for one test; killed at its end.
struct Served {
    child: Child,
    amqp: String,
}

impl Served {
    fn start(folder: &Path) -> Self {
        let ready = folder.join("ready.json");
        let child = Command::new(POTAGER)
            .args(["serve", "--amqp", "127.0.0.1:0", "--http", "off", "--beanstalk", "off"])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, amqp: String::new() };
        let until = Instant::now() + Duration::from_secs(20);
        while server.amqp.is_empty() {
            assert!(Instant::now() < until, "the server does not get ready");
            if let Ok(text) = std::fs::read_to_string(&ready)
                && let Ok(doors) = serde_json::from_str::<Value>(&text)
            {
                doors["amqp"].as_str().unwrap().clone_into(&mut server.amqp);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn no_prompt_is_lost_when_two_workers_and_the_server_are_killed() {
    let tally = json(&["demo", "batch", "--prompts", "2500", "--json"]);
    for (name, expected) in [("answered", 2500), ("on_server", 2500), ("lost", 0), ("wrong", 0)] {
        assert_eq!(tally[name], expected, "{tally}");
    }
    assert!(tally["computed"].as_u64() >= Some(2500), "{tally}");
}
