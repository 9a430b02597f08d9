//! The beanstalk door of `potager serve`, and `potager beanstalkd` in the place of the original, as
//! real processes. What the protocol does in detail is tested in its own crate.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const POTAGER: &str = env!("CARGO_BIN_EXE_potager");
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// The drop-in at a free port, as a script starts it: no ready file, it just has to be there.
    fn start(more: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_text = port.to_string();
        let line = [&["beanstalkd", "-l", "127.0.0.1", "-p", &port_text], more].concat();
        let child = Command::new(POTAGER).args(line).stdin(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        wait_for(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        wait_for(|| self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One conversation.
struct Client<S> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Client<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, text: &str) -> String {
        self.say(text);
        self.hear()
    }

    /// Reserves what is there and returns its id and body.
    fn reserve(&mut self) -> (String, String) {
        let line = self.ask("reserve-with-timeout 5\r\n");
        let id = line.split(' ').nth(1).unwrap().to_owned();
        (id, self.hear())
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(POTAGER).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_job_goes_through_and_the_server_goes_at_once() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert!(client.ask("put 0 0 60 5\r\nhello\r\n").starts_with("INSERTED "));
    let (id, body) = client.reserve();
    assert_eq!(body, "hello");
    assert_eq!(client.ask(&format!("delete {id}\r\n")), "DELETED");
    assert_eq!(client.ask("reserve-with-timeout 0\r\n"), "TIMED_OUT");
    let began = Instant::now();
    assert_eq!(server.stop(), 0, "with a client that stays");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn jobs_outlive_the_server_only_in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    for (options, expected) in [(&["-b", dir][..], "kept"), (&[][..], "TIMED_OUT")] {
        let server = Server::start(options);
        assert!(server.client().ask("put 9 0 60 4\r\nkept\r\n").starts_with("INSERTED "));
        server.signal(Signal::KILL);
        drop(server);
        let server = Server::start(options);
        let mut client = server.client();
        let line = client.ask("reserve-with-timeout 0\r\n");
        let found = if line.starts_with("RESERVED") { client.hear() } else { line };
        assert_eq!(found, expected);
    }
}

#[test]
fn sigusr1_drains() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert!(client.ask("put 0 0 60 1\r\na\r\n").starts_with("INSERTED "));
    server.signal(Signal::USR1);
    wait_for(|| client.ask("put 0 0 60 1\r\nb\r\n") == "DRAINING");
    // What is there is worked off.
    assert_eq!(client.reserve().1, "a");
}

#[test]
fn a_half_closed_client_hears_what_it_asked_for() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.say("put 0 0 60 2\r\nab\r\nreserve\r\nuse other\r\n");
    client.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    client.stream.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("INSERTED ") && heard.contains("\r\nab\r\n"), "{heard}");
    assert!(heard.ends_with("USING other\r\n"), "{heard}");
}

#[test]
fn a_socket_file_is_a_place_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sock");
    let place = format!("unix:{}", path.display());
    let child = Command::new(POTAGER).args(["beanstalkd", "-l", &place]).spawn().unwrap();
    let server = Server { child, port: 0 };
    wait_for(|| UnixStream::connect(&path).is_ok());
    let mut client = Client::new(UnixStream::connect(&path).unwrap());
    assert!(client.ask("put 0 0 60 1\r\na\r\n").starts_with("INSERTED "));
    let second = run(&["beanstalkd", "-l", &place]);
    assert_eq!(second.status.code(), Some(111), "{}", err(&second));
    assert_eq!(server.stop(), 0);
    assert!(!path.exists());
}

#[test]
fn version_help_and_mistakes_are_the_originals() {
    let version = run(&["beanstalkd", "-v"]);
    assert!(version.status.success());
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("beanstalkd "));
    let help = run(&["beanstalkd", "-h"]);
    assert!(help.status.success() && err(&help).starts_with("Use: beanstalkd [OPTIONS]"));
    let unknown = run(&["beanstalkd", "-x"]);
    assert_eq!(unknown.status.code(), Some(5));
    assert!(err(&unknown).starts_with("beanstalkd: unknown flag: -x\nUse: "), "{}", err(&unknown));
    for (arguments, code) in [
        (&["beanstalkd", "extra"][..], 5),
        (&["beanstalkd", "-p"][..], 5),
        (&["beanstalkd", "-z", "abc"][..], 5),
        (&["beanstalkd", "-u", "no such user"][..], 33),
        (&["beanstalkd", "-b", "/no/such/dir"][..], 10),
        (&["beanstalkd", "-p", "abc"][..], 111),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        assert!(err(&output).starts_with("beanstalkd: "), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn the_name_of_the_program_makes_it_the_drop_in() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("beanstalkd");
    std::os::unix::fs::symlink(POTAGER, &link).unwrap();
    let version = Command::new(&link).arg("-v").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("beanstalkd "));
}

#[test]
fn it_is_quiet_unless_told_to_speak() {
    let quiet = Server::start(&[]);
    drop(quiet.client());
    let busy = quiet.port.to_string();
    let second = run(&["beanstalkd", "-l", "127.0.0.1", "-p", &busy]);
    assert_eq!(second.status.code(), Some(111));
    assert_eq!(err(&second).lines().count(), 1, "{}", err(&second));
}

/// Starts `potager serve` and returns it with its ready file's addresses.
fn serve(dir: &Path, more: &[&str]) -> (Server, serde_json::Value) {
    let ready = dir.join("ready");
    let child = Command::new(POTAGER)
        .args(["serve", "--amqp", "127.0.0.1:0", "--http", "off", "--data-dir"])
        .arg(dir.join("data"))
        .arg("--ready-file")
        .arg(&ready)
        .args(more)
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap();
    let server = Server { child, port: 0 };
    wait_for(|| ready.exists());
    let doors = serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap();
    (server, doors)
}

#[test]
fn the_ready_file_names_the_door_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let place = format!("unix:{}", dir.path().join("jobs").display());
    let (server, doors) = serve(dir.path(), &["--beanstalk", &place]);
    assert_eq!(doors["beanstalk"], place);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains(&format!("listening: beanstalk {place}\n")), "{log}");
    assert_eq!(server.stop(), 0);
    std::fs::remove_file(dir.path().join("ready")).unwrap();
    let (server, doors) = serve(dir.path(), &["--beanstalk", "127.0.0.1:0"]);
    let address = doors["beanstalk"].as_str().unwrap();
    let mut client = Client::new(TcpStream::connect(address).unwrap());
    assert!(client.ask("put 0 0 60 1\r\na\r\n").starts_with("INSERTED "));
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_door_that_asks_for_a_login_does_nothing_before() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, doors) =
        serve(dir.path(), &["--beanstalk", "127.0.0.1:0", "--set", "beanstalk.login=required"]);
    let mut client = Client::new(TcpStream::connect(doors["beanstalk"].as_str().unwrap()).unwrap());
    assert!(!client.ask("put 0 0 60 1\r\na\r\n").starts_with("INSERTED "));
}

#[test]
fn a_tube_may_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limit = ["--beanstalk", "127.0.0.1:0", "--set", "beanstalk.queue_length_max=1"];
    let (_server, doors) = serve(dir.path(), &limit);
    let mut client = Client::new(TcpStream::connect(doors["beanstalk"].as_str().unwrap()).unwrap());
    assert!(client.ask("put 0 0 60 1\r\na\r\n").starts_with("INSERTED "));
    assert!(!client.ask("put 0 0 60 1\r\na\r\n").starts_with("INSERTED "));
    client.reserve();
    assert_eq!(client.ask("use other\r\n"), "USING other");
    assert!(client.ask("put 0 0 60 1\r\na\r\n").starts_with("INSERTED "));
}

#[test]
fn the_load_generator_measures_it() {
    let server = Server::start(&[]);
    let (address, pid) = (format!("127.0.0.1:{}", server.port), server.child.id().to_string());
    let bench = |more: &[&str]| {
        let line = ["bench", "beanstalk", "--json", "--addr", &address, "--pid", &pid];
        let output = run(&[&line, more].concat());
        assert!(output.status.success(), "{}", err(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let flow = ["--seconds", "0.2", "--warm-up-seconds", "0", "--clients", "2", "--pipeline", "10"];
    let report = bench(&flow);
    assert!(report["jobs"].as_u64().unwrap() > 0 && report["round_us"]["p99"].is_f64(), "{report}");
    assert!(report["server_cpu"].is_object(), "{report}");
    let report = bench(&["--fill", "25", "--pipeline", "10", "--tube", "left"]);
    assert_eq!(report["jobs"], 25);
    assert!(report["resident_bytes"][0].as_u64().unwrap() > 0, "{report}");
    let mut client = server.client();
    assert!(client.ask("stats-tube left\r\n").starts_with("OK "));
    let ready = (0..20).map(|_| client.hear()).find(|line| line.starts_with("current-jobs-ready"));
    assert_eq!(ready.unwrap(), "current-jobs-ready: 25");
}

#[test]
fn in_memory_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("unix:{}", folder.path().join("s").display());
    let mut command = Command::new(POTAGER);
    command.args(["beanstalkd", "-l", &place]).current_dir(folder.path());
    let server = Server { child: command.spawn().unwrap(), port: 0 };
    wait_for(|| UnixStream::connect(folder.path().join("s")).is_ok());
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_job_may_not_be_larger_than_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let line = [
        "serve",
        "--amqp",
        "off",
        "--http",
        "off",
        "--beanstalk",
        "off",
        "--data-dir",
        data.to_str().unwrap(),
        "--set",
        "beanstalk.job_bytes_max=17 MiB",
    ];
    let output = run(&line);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("limits.message_bytes_max"), "{}", err(&output));
}
