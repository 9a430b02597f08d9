//! `potager repair` and starts on directories that are damaged or cannot be used, with the real
//! binary. What is read and rebuilt in detail is tested in `journal` and `replica`.
//!
//! Promise: P11.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::indexing_slicing, reason = "a failed step fails the test")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn serve(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potager"));
    command.args(["serve", "--amqp", "127.0.0.1:0", "--http", "off", "--beanstalk", "off"]);
    command.arg("--data-dir").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A server that ends with the test.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(temp: &Path, dir: &Path) -> Self {
        let ready = temp.join("ready");
        let _missing = std::fs::remove_file(&ready);
        let log = std::fs::File::create(temp.join("log")).unwrap();
        let mut command = serve(dir);
        let child = command.arg("--ready-file").arg(&ready).stderr(log).spawn().unwrap();
        let mut server = Self { child, url: String::new() };
        let deadline = Instant::now() + PATIENCE;
        let doors = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break serde_json::from_str::<Value>(&text).unwrap();
            }
            let ended = server.child.try_wait().unwrap();
            let log = std::fs::read_to_string(temp.join("log")).unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        };
        server.url = format!("amqp://{}", doors["amqp"].as_str().unwrap());
        server
    }

    fn publish(&self, body: &str) {
        let out = potager(&["publish", "--declare", "--queue", "q", body, "--url", &self.url]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    }

    fn bodies(&self) -> String {
        text(&potager(&["get", "q", "-n", "99", "--url", &self.url]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn potager(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potager"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// A start that has to fail: its exit code and what it said.
fn fails(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it neither starts nor ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code(), said)
}

/// Four messages, a kill, and one bit of the second one flipped.
fn damaged(temp: &Path) -> (PathBuf, PathBuf) {
    let dir = temp.join("data");
    let server = Server::start(temp, &dir);
    for body in ["the-first", "the-second", "the-third", "the-fourth"] {
        server.publish(body);
    }
    drop(server);
    let log = dir.join("log-0000000000000001.seg");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(10).position(|window| window == b"the-second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    (dir, log)
}

/// Every file with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn damage_is_named_examined_and_repaired() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, log) = damaged(temp.path());
    let shown = dir.to_str().unwrap();
    let (code, said) = fails(serve(&dir));
    assert_eq!(code, Some(3), "{said}");
    for word in [log.to_str().unwrap(), "at byte", "position", "potager repair --dry-run"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }

    let before = contents(&dir);
    let dry = potager(&["repair", "--dry-run", "--json", shown]);
    assert_eq!(dry.status.code(), Some(3), "{}", text(&dry));
    let found: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(found["problems"][0]["file"], log.to_str().unwrap());
    assert_eq!(found["queues"][0]["kept"], 1, "{found}");
    assert!(found["reached"].as_u64() > found["good_up_to"].as_u64(), "{found}");
    assert!(found["stranded_records"].as_u64().unwrap() >= 2, "{found}");
    let words = text(&potager(&["repair", "--dry-run", shown]));
    assert!(words.contains("damaged:") && words.contains("lost: positions"), "{words}");
    assert!(contents(&dir) == before, "looking changed something");

    let refused = potager(&["repair", shown]);
    assert_eq!(refused.status.code(), Some(1), "nobody said yes: {}", text(&refused));
    assert!(contents(&dir) == before, "refusing changed something");
    let repaired = potager(&["repair", "--yes", shown]);
    assert_eq!(repaired.status.code(), Some(0), "{}", text(&repaired));
    let old = dir.join("damaged-1").join(log.file_name().unwrap());
    assert!(std::fs::read(old).unwrap() == before[&log], "the old file is kept as it was");

    let again = potager(&["repair", "--dry-run", shown]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    let server = Server::start(temp.path(), &dir);
    assert_eq!(server.bodies(), "the-first\n");
    server.publish("the-fifth");
    assert_eq!(server.bodies(), "the-first\nthe-fifth\n");
}

#[test]
fn a_sound_directory_is_clean_and_one_in_use_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let link = temp.path().join("link");
    let server = Server::start(temp.path(), &dir);
    server.publish("one");
    let shown = dir.to_str().unwrap();
    let busy = potager(&["repair", "--dry-run", shown]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(text(&busy).contains(&server.child.id().to_string()), "{}", text(&busy));
    // A second server, also by another name of the same directory.
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    for name in [&dir, &link] {
        let (code, said) = fails(serve(name));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&server.child.id().to_string()), "{said}");
    }
    drop(server);
    let clean = potager(&["repair", "--dry-run", shown]);
    assert_eq!(clean.status.code(), Some(0), "{}", text(&clean));
    assert!(text(&clean).contains("nothing is wrong"));
    let server = Server::start(temp.path(), &link);
    assert_eq!(server.bodies(), "one\n");
}

#[test]
fn a_place_that_cannot_be_used_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let (code, said) = fails(serve(&file));
    assert!(code != Some(0) && said.contains(file.to_str().unwrap()), "{code:?} {said}");
    // Nobody, not even root, writes there.
    let (code, said) = fails(serve(Path::new("/proc/potager")));
    assert!(code != Some(0) && said.contains("/proc/potager"), "{code:?} {said}");
    let nothing = potager(&["repair", "--dry-run", "/proc/potager"]);
    assert_eq!(nothing.status.code(), Some(1), "{}", text(&nothing));
}

#[test]
fn a_start_without_file_descriptors_fails_and_spoils_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let server = Server::start(temp.path(), &dir);
    server.publish("one");
    drop(server);
    for limit in [8, 20] {
        let mut shell = Command::new("sh");
        let script = format!(
            "ulimit -n {limit} && exec {} serve --amqp 127.0.0.1:0 --http off --beanstalk off \
             --data-dir {}",
            env!("CARGO_BIN_EXE_potager"),
            dir.display()
        );
        shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
        let (code, said) = fails(shell);
        assert!(code == Some(1) && said.contains("ulimit -n"), "{limit}: {code:?} {said}");
    }
    let server = Server::start(temp.path(), &dir);
    assert_eq!(server.bodies(), "one\n");
}
