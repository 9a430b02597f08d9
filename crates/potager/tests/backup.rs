//! `potager backup` with real processes: a backup of a server that works on, restored and compared
//! with what was confirmed; and what the command refuses.
//!
//! Promise: P17.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that ends with the test.
struct Server {
    child: Child,
    amqp: String,
    http: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let ready = dir.join("ready");
        let _missing = std::fs::remove_file(&ready);
        let mut child = Command::new(env!("CARGO_BIN_EXE_potager"))
            .args(["serve", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--beanstalk", "off"])
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
        let address = |door: &str| doors[door].as_str().unwrap().to_owned();
        Self { child, amqp: address("amqp"), http: address("http") }
    }

    fn amqp(&self, arguments: &[&str], input: &str) -> Output {
        potager(&[arguments, &["--url", &format!("amqp://{}", self.amqp)]].concat(), input)
    }

    fn http(&self, arguments: &[&str]) -> Output {
        potager(&[arguments, &["--url", &format!("http://{}", self.http)]].concat(), "")
    }

    fn lines(&self, queue: &str) -> Vec<String> {
        let got = good(&self.amqp(&["get", queue, "-n", "1000000"], ""));
        got.lines().map(str::to_owned).collect()
    }

    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn potager(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_potager"))
        .args(arguments)
        .env_remove("POTAGER_PASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn good(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Failed with this code; returns the message.
fn bad(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    text(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&good(output)).unwrap()
}

/// Just enough AMQP for transactions of two publishes.
struct Transactions(TcpStream);

impl Transactions {
    fn open(address: &str) -> Self {
        let mut this = Self(TcpStream::connect(address).unwrap());
        this.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        this.hear();
        let login = [&[0; 4][..], b"\x05PLAIN", b"\0\0\0\x0c\0guest\0guest", b"\x05en_US"].concat();
        this.say(0, (10, 11), &login);
        this.hear();
        this.say(0, (10, 31), &[0x07, 0xff, 0, 2, 0, 0, 0, 0]);
        this.say(0, (10, 40), b"\x01/\0\0");
        this.hear();
        this.say(1, (20, 10), b"\0");
        this.hear();
        for queue in ["left", "right"] {
            let name = [&[u8::try_from(queue.len()).unwrap()], queue.as_bytes()].concat();
            this.say(1, (50, 10), &[&[0, 0], &name[..], &[2, 0, 0, 0, 0]].concat());
            this.hear();
        }
        this.say(1, (90, 10), b"");
        this.hear();
        this
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&[kind][..], &channel.to_be_bytes(), &length].concat();
        self.0.write_all(&[&head, payload, &[0xce]].concat()).unwrap();
    }

    fn say(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.frame(1, channel, &payload);
    }

    /// Waits for one frame; `false` at the end of the connection.
    fn hear(&mut self) -> bool {
        let mut head = [0; 7];
        if self.0.read_exact(&mut head).is_err() {
            return false;
        }
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut rest = vec![0; usize::try_from(length).unwrap() + 1];
        self.0.read_exact(&mut rest).is_ok()
    }

    fn publish(&mut self, queue: &str, body: &[u8]) {
        let name = [&[u8::try_from(queue.len()).unwrap()], queue.as_bytes()].concat();
        self.say(1, (60, 40), &[&[0, 0, 0], &name[..], &[0]].concat());
        let size = (body.len() as u64).to_be_bytes();
        self.frame(2, 1, &[&[0, 60, 0, 0][..], &size, &[0x10, 0, 2]].concat());
        self.frame(3, 1, body);
    }

    /// One transaction: the same body to both queues.
    fn pair(&mut self, number: u64) -> bool {
        let body = format!("{number:06} {}", "x".repeat(400));
        self.publish("left", body.as_bytes());
        self.publish("right", body.as_bytes());
        self.say(1, (90, 20), b"");
        self.hear()
    }
}

#[test]
fn what_was_confirmed_before_is_in_the_backup_and_no_transaction_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    let server = Server::start(&here);
    let before: Vec<String> =
        (0..3000).map(|number| format!("{number} {}", "b".repeat(900))).collect();
    good(&server.amqp(&["publish", "--declare", "--queue", "before"], &before.join("\n")));

    let (pairs, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load = std::thread::spawn({
        let (pairs, is_over) = (Arc::clone(&pairs), Arc::clone(&is_over));
        let mut client = Transactions::open(&server.amqp);
        move || {
            while !is_over.load(Ordering::SeqCst) && client.pair(pairs.load(Ordering::SeqCst)) {
                pairs.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let wait_for = |count: u64| {
        let deadline = Instant::now() + PATIENCE;
        while pairs.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < deadline, "{count} transactions take too long");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for(50);
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    let confirmed = pairs.load(Ordering::SeqCst);
    let made = json(&server.http(&["backup", "create", "--to", &file, "--json"]));
    let asked = pairs.load(Ordering::SeqCst) + 1;
    wait_for(asked + 50);
    is_over.store(true, Ordering::SeqCst);
    load.join().unwrap();
    assert_eq!(server.stop(), Some(0), "the server went on and stops in order");

    let checked = json(&potager(&["backup", "verify", &file, "--json"], ""));
    assert_eq!(made, checked);
    let data = there.join("data");
    let restore = ["backup", "restore", &file, "--data-dir", data.to_str().unwrap(), "--json"];
    let restored = json(&potager(&restore, ""));
    assert_eq!(made["state_hash"], restored["state_hash"]);
    let server = Server::start(&there);
    assert_eq!(server.lines("before"), before);
    let (left, right) = (server.lines("left"), server.lines("right"));
    assert_eq!(left, right, "a transaction is half there");
    let count = left.len() as u64;
    assert!((confirmed..=asked).contains(&count), "{confirmed} <= {count} <= {asked}");
    assert!((0..).zip(&left).all(|(number, line)| line.starts_with(&format!("{number:06} "))));
    assert_eq!(made["messages"].as_u64(), Some(3000 + 2 * count));
    good(&server.amqp(&["publish", "--queue", "left", "more"], ""));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_data_of_a_stopped_server_is_backed_up_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    good(&server.amqp(&["publish", "--declare", "--queue", "q", "one", "two"], ""));
    let data = dir.path().join("data").to_str().unwrap().to_owned();
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    let offline = ["backup", "create", "--to", &file, "--data-dir", &data];
    let message = bad(&potager(&offline, ""), 1);
    assert!(message.contains("in use by process"), "{message}");
    assert_eq!(server.stop(), Some(0));
    good(&potager(&offline, ""));
    let message = bad(&potager(&offline, ""), 2);
    assert!(message.contains("exists") && message.contains("--force"), "{message}");
    good(&potager(&[&offline[..], &["--force"]].concat(), ""));
    let into_data = ["backup", "restore", &file, "--data-dir", &data];
    let message = bad(&potager(&into_data, ""), 1);
    assert!(message.contains("not empty"), "{message}");
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap()).collect();
    assert!(names.iter().all(|it| !it.file_name().to_string_lossy().contains("unfinished")));

    let other = dir.path().join("other");
    good(&potager(
        &["backup", "restore", &file, "--data-dir", &other.join("data").to_string_lossy()],
        "",
    ));
    let server = Server::start(&other);
    assert_eq!(server.lines("q"), ["one", "two"]);
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let lines = format!("{}\n", "x".repeat(2000)).repeat(20_000);
    good(&server.amqp(&["publish", "--declare", "--queue", "q"], &lines));
    let mut client = TcpStream::connect(&server.http).unwrap();
    let login = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nHost: localhost\r\n";
    let asked = format!("GET /api/backup HTTP/1.1\r\n{login}\r\n");
    client.write_all(asked.as_bytes()).unwrap();
    client.read_exact(&mut [0; 4096]).unwrap();
    // The client reads no further: the backup waits for it, and everybody else goes on.
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    let create = ["backup", "create", "--to", &file];
    let message = bad(&server.http(&create), 1);
    assert!(message.contains("another backup is being taken"), "{message}");
    good(&server.amqp(&["publish", "--queue", "q", "more"], ""));
    drop(client);
    let deadline = Instant::now() + PATIENCE;
    while !server.http(&create).status.success() {
        assert!(Instant::now() < deadline, "the first backup does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let checked = json(&potager(&["backup", "verify", &file, "--json"], ""));
    assert_eq!(checked["messages"].as_u64(), Some(20_001));
}

/// Promise: P11.
#[test]
fn a_damaged_backup_is_named_and_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    good(&server.amqp(&["publish", "--declare", "--queue", "q", "one", "two"], ""));
    let file = dir.path().join("backup");
    let name = file.to_str().unwrap();
    good(&server.http(&["backup", "create", "--to", name]));
    let bytes = std::fs::read(&file).unwrap();
    let mut rotten = bytes.clone();
    let middle = bytes.len() / 2;
    rotten[middle] ^= 0x10;
    std::fs::write(&file, &rotten).unwrap();
    let message = bad(&potager(&["backup", "verify", name], ""), 1);
    assert!(message.contains("damaged at byte") && message.contains(name), "{message}");
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let message = bad(&potager(&["backup", "verify", name], ""), 1);
    assert!(message.contains("cut off"), "{message}");
    let target = dir.path().join("restored");
    let restore = ["backup", "restore", name, "--data-dir", target.to_str().unwrap()];
    let message = bad(&potager(&restore, ""), 1);
    assert!(message.contains("cut off"), "{message}");
    assert!(!target.exists(), "nothing was made");
}

#[test]
fn only_an_administrator_takes_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let url = format!("http://{}", server.http);
    good(&potager(&["users", "add", "ann", "--tags", "monitoring", "--url", &url], "secret\n"));
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    let as_ann = ["--user", "ann", "--user-password-file", secret.to_str().unwrap()];
    let create = [&["backup", "create", "--to", &file][..], &as_ann].concat();
    let message = bad(&server.http(&create), 1);
    assert!(message.contains("administrator"), "{message}");
    assert!(!Path::new(&file).exists());
    let message =
        bad(&potager(&["backup", "create", "--to", &file, "--url", "http://127.0.0.1:1"], ""), 1);
    assert!(message.contains("potager serve"), "{message}");
}
