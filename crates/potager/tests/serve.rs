//! `potager serve` and the commands that talk to it, as real processes on loopback with free ports
//! and temporary directories. What the protocols do in detail is tested in their own crates.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that ends with the test.
struct Server {
    child: Child,
    amqp: String,
    http: String,
    log: PathBuf,
}

impl Server {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let (ready, log) = (dir.join("ready"), dir.join("log"));
        let _missing = std::fs::remove_file(&ready);
        let child = Command::new(env!("CARGO_BIN_EXE_potager"))
            .args(["serve", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--beanstalk", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .args(more)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { child, amqp: String::new(), http: String::new(), log };
        let deadline = Instant::now() + PATIENCE;
        let doors = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{}", server.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        let address = |door: &str| doors.get(door).unwrap().as_str().unwrap().to_owned();
        (server.amqp, server.http) = (address("amqp"), address("http"));
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends SIGTERM and waits; returns the exit code.
    fn stop(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(Instant::now() < deadline, "does not stop\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A command against the AMQP door.
    fn amqp(&self, arguments: &[&str]) -> Output {
        self.amqp_as("guest:guest", arguments)
    }

    fn amqp_as(&self, login: &str, arguments: &[&str]) -> Output {
        let url = format!("amqp://{login}@{}", self.amqp);
        potager(&[arguments, &["--url", &url]].concat(), "")
    }

    /// A command against the HTTP door, with a new password on standard input.
    fn http(&self, arguments: &[&str], password: &str) -> Output {
        let url = format!("http://{}", self.http);
        potager(&[arguments, &["--url", &url]].concat(), password)
    }

    /// Status and body of a plain request.
    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
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
    // A command that refuses at once has closed its input; that is not this step's failure.
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn good(output: &Output) -> String {
    let (out, err) = texts(output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    out
}

/// Failed with code 1; returns the message.
fn bad(output: &Output) -> String {
    let (out, err) = texts(output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    err
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn messages_go_in_survive_a_kill_and_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    good(&server.amqp(&["publish", "--declare", "--queue", "q", "one", "two"]));
    let lines = potager(
        &["publish", "--queue", "q", "--json", "--url", &format!("amqp://{}", server.amqp)],
        "three\nfour\n",
    );
    let counts: serde_json::Value = serde_json::from_str(&good(&lines)).unwrap();
    assert_eq!((&counts["published"], &counts["confirmed"]), (&2.into(), &2.into()));
    drop(server);

    let server = Server::start(dir.path(), &[]);
    assert_eq!(good(&server.amqp(&["get", "q", "-n", "9"])), "one\ntwo\nthree\nfour\n");
    assert_eq!(good(&server.amqp(&["get", "q", "-n", "2", "--ack"])), "one\ntwo\n");
    let json = good(&server.amqp(&["get", "q", "--json"]));
    let message: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&message["body"], &message["delivery_mode"]), (&"three".into(), &2.into()));
    let queues = good(&server.http(&["queues", "--json"], ""));
    let queue: serde_json::Value = serde_json::from_str(&queues).unwrap();
    assert_eq!((&queue["name"], &queue["messages_ready"]), (&"q".into(), &2.into()));
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_message_without_a_queue_is_a_failure_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let message = bad(&server.amqp(&["publish", "--queue", "nowhere", "x"]));
    assert!(message.contains("--declare") && message.contains("NO_ROUTE"), "{message}");
    let message = bad(&server.amqp(&["get", "nowhere"]));
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn a_publisher_that_is_held_back_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let more_than_there_is = (1_u64 << 50).to_string();
    let set = format!("alarm.disk_free_bytes_min={more_than_there_is}");
    let server = Server::start(dir.path(), &["--set", &set]);
    let failed = bad(&server.amqp(&["publish", "--declare", "--queue", "tasks", "one"]));
    assert!(failed.contains("low on disk"), "{failed}");
}

#[test]
fn queues_are_emptied_and_removed_only_when_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    good(&server.amqp(&["publish", "--declare", "--queue", "q", "one", "two"]));
    let message = bad(&server.http(&["queues", "purge", "q"], ""));
    assert!(message.contains("2 ready messages") && message.contains("--yes"), "{message}");
    let kept = server.http(&["queues", "delete", "q", "--if-empty", "--yes"], "");
    assert!(bad(&kept).contains("not empty"));
    good(&server.http(&["queues", "purge", "q", "--yes"], ""));
    assert_eq!(good(&server.amqp(&["get", "q"])), "");
    good(&server.http(&["queues", "delete", "q", "--if-empty", "--yes"], ""));
    let message = bad(&server.http(&["queues", "delete", "q", "--yes"], ""));
    assert!(message.contains("not found"), "{message}");
}

#[test]
fn users_and_vhosts_of_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let added = server.http(&["users", "add", "ann", "--tags", "monitoring"], "first\n");
    assert!(texts(&added).1.contains("permissions set ann"), "{added:?}");
    let message = bad(&server.amqp_as("ann:first", &["get", "q"]));
    assert!(message.contains("access to vhost '/' refused for user 'ann'"), "{message}");
    good(&server.http(&["permissions", "set", "ann", ".*", ".*", ".*"], ""));
    good(&server.amqp_as("ann:first", &["publish", "--declare", "--queue", "q", "x"]));
    good(&server.http(&["users", "passwd", "ann"], "second\n"));
    let message = bad(&server.amqp_as("ann:first", &["get", "q"]));
    assert!(message.contains("log in as 'ann'") && message.contains("users add"), "{message}");
    assert_eq!(good(&server.amqp_as("ann:second", &["get", "q"])), "x\n");
    let users = good(&server.http(&["users", "list", "--json"], ""));
    assert!(users.contains(r#"{"name":"ann","tags":["monitoring"]}"#), "{users}");

    good(&server.http(&["vhosts", "add", "v/1"], ""));
    assert_eq!(good(&server.http(&["vhosts", "list"], "")).lines().count(), 3);
    good(&server.http(&["vhosts", "delete", "v/1", "--yes"], ""));
    good(&server.http(&["users", "delete", "ann"], ""));
    bad(&server.amqp_as("ann:second", &["get", "q"]));
    let message = bad(&server.http(&["users", "passwd", "ann"], "x\n"));
    assert!(message.contains("users add"), "{message}");
}

#[test]
fn users_of_a_stopped_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let message = bad(&potager(&["users", "list", "--data-dir", data], ""));
    assert!(message.contains("data directory"), "a running server owns it: {message}");
    assert_eq!(server.stop(), 0);

    let root = ["users", "add", "root", "--full-access", "--tags", "administrator"];
    good(&potager(&[&root[..], &["--data-dir", data]].concat(), "pw"));
    good(&potager(&["users", "passwd", "root", "--data-dir", data], "pw2"));
    good(&potager(&["users", "delete", "guest", "--data-dir", data], ""));
    good(&potager(&["vhosts", "add", "v", "--data-dir", data], ""));
    let users = good(&potager(&["users", "list", "--json", "--data-dir", data], ""));
    assert_eq!(users.trim(), r#"{"name":"root","tags":["administrator"]}"#);

    let server = Server::start(dir.path(), &[]);
    bad(&server.amqp(&["get", "q"]));
    good(&server.amqp_as("root:pw2", &["publish", "--declare", "--queue", "q", "x"]));
    let file = dir.path().join("password");
    std::fs::write(&file, "pw2\n").unwrap();
    let login = ["--user", "root", "--user-password-file", file.to_str().unwrap()];
    let vhosts = good(&server.http(&[&["vhosts", "list", "--json"][..], &login].concat(), ""));
    assert!(vhosts.contains(r#"{"name":"v"}"#), "{vhosts}");
}

#[test]
fn permissions_are_set_shown_kept_and_taken() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    good(&server.http(&["users", "add", "web", "--tags", "management"], "pw\n"));
    let set = server.http(&["permissions", "set", "web", "^web-", "^amq.default$", "web"], "");
    assert!(texts(&set).1.contains("'^web$' would be the whole name"), "{set:?}");
    let as_web = |server: &Server, arguments: &[&str]| server.amqp_as("web:pw", arguments);
    good(&as_web(&server, &["publish", "--declare", "--queue", "web-1", "x"]));
    let message = bad(&as_web(&server, &["publish", "--declare", "--queue", "other", "x"]));
    assert!(message.contains("access to queue 'other' in vhost '/' refused"), "{message}");
    let message = bad(&server.http(&["permissions", "set", "web", "(?=a)", "", ""], ""));
    assert!(message.contains("'(?=a)' is no regular expression"), "{message}");
    let message = bad(&server.http(&["permissions", "set", "nobody", "", "", ""], ""));
    assert!(message.contains("user_not_found"), "{message}");

    let keys = ["permissions", "topic", "set", "web", "amq.topic", "^{username}\\.", ".*"];
    good(&server.http(&keys, ""));
    let listed = |server: &Server, what: &[&str]| good(&server.http(what, ""));
    let row =
        r#"{"configure":"^web-","read":"web","user":"web","vhost":"/","write":"^amq.default$"}"#;
    let list_user = ["permissions", "list-user", "web", "--json"];
    assert_eq!(listed(&server, &list_user).trim(), row);
    assert_eq!(listed(&server, &["permissions", "list", "--json"]).lines().count(), 2);
    assert_eq!(listed(&server, &["permissions", "list", "--vhost", "v"]).lines().count(), 1);
    let topics = ["permissions", "topic", "list", "--json"];
    assert!(listed(&server, &topics).contains(r#""exchange":"amq.topic""#));

    // Over HTTP the same user sees the virtual host and may change what their rights cover.
    let file = dir.path().join("password");
    std::fs::write(&file, "pw\n").unwrap();
    let login = ["--user", "web", "--user-password-file", file.to_str().unwrap()];
    let http_as_web = |server: &Server, what: &[&str]| server.http(&[what, &login].concat(), "");
    good(&server.amqp(&["publish", "--declare", "--queue", "secret", "x"]));
    good(&http_as_web(&server, &["queues", "purge", "web-1", "--yes"]));
    let message = bad(&http_as_web(&server, &["queues", "purge", "secret", "--yes"]));
    assert!(message.contains("read access to queue 'secret' refused for user 'web'"), "{message}");
    bad(&http_as_web(&server, &["queues", "delete", "secret", "--yes"]));
    let message = bad(&http_as_web(&server, &["users", "list"]));
    assert!(message.contains("Not administrator user"), "{message}");
    bad(&http_as_web(&server, &["vhosts", "add", "mine"]));
    good(&server.http(&["vhosts", "add", "mine"], ""));
    assert_eq!(good(&http_as_web(&server, &["vhosts", "list"])).lines().count(), 2);
    good(&server.http(&["users", "tags", "web", "monitoring"], ""));
    assert_eq!(good(&http_as_web(&server, &["vhosts", "list"])).lines().count(), 3);

    assert_eq!(server.stop(), 0);
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let offline = |what: &[&str]| potager(&[what, &["--data-dir", data]].concat(), "");
    assert_eq!(good(&offline(&list_user)).trim(), row);
    let message = bad(&offline(&["permissions", "set", "web", "(", "", ""]));
    assert!(message.contains("'(' is no regular expression"), "{message}");
    good(&offline(&["permissions", "topic", "clear", "web", "amq.topic"]));

    let server = Server::start(dir.path(), &[]);
    assert_eq!(listed(&server, &list_user).trim(), row);
    assert_eq!(listed(&server, &topics), "");
    good(&as_web(&server, &["publish", "--queue", "web-1", "x"]));
    good(&server.http(&["permissions", "clear", "web"], ""));
    let message = bad(&as_web(&server, &["publish", "--queue", "web-1", "x"]));
    assert!(message.contains("access to vhost '/' refused for user 'web'"), "{message}");
}

#[test]
fn the_http_door_over_a_real_socket() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let local = "Host: localhost\r\n";
    assert_eq!(server.get("/health/live", local).0, 200);
    assert_eq!(server.get("/health/ready", local).0, 200);
    let (status, text) = server.get("/metrics", local);
    assert_eq!(status, 200);
    assert!(text.contains("potager_build_info") && text.contains("# EOF"), "{text}");
    assert_eq!(server.get("/metrics", "Host: evil.example\r\n").0, 421);
    assert_eq!(server.get("/api/overview", local).0, 401);
    let login = format!("{local}Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n");
    let (status, text) = server.get("/api/overview", &login);
    assert_eq!((status, text.contains("rabbitmq_version")), (200, true), "{text}");
}

#[test]
fn the_first_screen_names_every_door_and_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--durability", "memory"]);
    let log = server.log();
    assert!(log.contains(&format!("listening: amqp {}", server.amqp)), "{log}");
    assert!(log.contains(&format!("listening: http {}", server.http)), "{log}");
    assert!(log.contains("next: celery") && log.contains("IN MEMORY ONLY"), "{log}");
}

#[test]
fn a_damaged_log_is_exit_code_3_and_a_directory_in_use_is_1() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let data = dir.path().join("data");
    let doors = ["serve", "--amqp", "off", "--http", "off", "--beanstalk", "off", "--data-dir"];
    let second = [&doors[..], &[data.to_str().unwrap()]].concat();
    assert!(bad(&potager(&second, "")).contains("in use by process"));
    good(&server.amqp(&["publish", "--declare", "--queue", "q", "one"]));
    assert_eq!(server.stop(), 0);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in bytes.iter_mut().take(1 << 16) {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    let output = potager(&second, "");
    assert_eq!(output.status.code(), Some(3), "{:?}", texts(&output));
}

#[test]
fn a_busy_port_is_named_with_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let data = dir.path().join("data");
    let arguments =
        ["serve", "--amqp", &address, "--http", "off", "--beanstalk", "off", "--data-dir"];
    let message = bad(&potager(&[&arguments[..], &[data.to_str().unwrap()]].concat(), ""));
    assert!(message.contains(&address) && message.contains("--amqp"), "{message}");
}
