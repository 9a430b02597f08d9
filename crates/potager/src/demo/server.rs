//! [`Server`]: `potager serve` as a child process that is killed and started again on the same
//! ports and the same data. Not here: when to kill it.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::bench::ServerProcess;
use crate::client::Address;

/// A start that takes longer has failed.
const START_MAX: Duration = Duration::from_secs(30);

/// A server process; it is killed when this goes away.
pub(super) struct Server {
    folder: PathBuf,
    child: Child,
    /// Where AMQP and HTTP listen; the same after a restart.
    amqp: SocketAddr,
    http: SocketAddr,
    /// The most resident memory seen, of all lives.
    peak_bytes: u64,
}

impl Server {
    /// Starts a server with its data in `folder` on free ports and waits until it is ready.
    pub(super) fn start(folder: PathBuf) -> anyhow::Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut child = spawn(&folder, any, any)?;
        let (amqp, http) = match await_ready(&folder, &mut child) {
            Ok(places) => places,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        Ok(Self { folder, child, amqp, http, peak_bytes: 0 })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> anyhow::Result<Address> {
        Ok(self.url().parse()?)
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://guest:guest@{}", self.amqp)
    }

    /// The HTTP door.
    pub(super) fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) fn kill(&mut self) {
        self.watch_memory();
        end(&mut self.child);
    }

    /// Starts again after a kill; with a limit the start itself is killed when the limit has
    /// passed, then `None`. Returns the time until it was ready.
    pub(super) fn restart(&mut self, limit: Option<Duration>) -> anyhow::Result<Option<Duration>> {
        let began = Instant::now();
        self.child = spawn(&self.folder, self.amqp, self.http)?;
        if let Some(limit) = limit {
            while began.elapsed() < limit {
                if self.folder.join("ready.json").exists() {
                    return Ok(Some(began.elapsed()));
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            end(&mut self.child);
            return Ok(None);
        }
        await_ready(&self.folder, &mut self.child)?;
        Ok(Some(began.elapsed()))
    }

    /// Whether it still runs; an end that nobody asked for is an error.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.watch_memory();
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself with {status}: {}", last_words(&self.folder));
        }
        Ok(())
    }

    fn watch_memory(&mut self) {
        let now = ServerProcess::of(self.child.id()).resident_bytes();
        self.peak_bytes = self.peak_bytes.max(now);
    }

    /// Resident memory: now, and the most seen.
    pub(super) fn memory(&mut self) -> (u64, u64) {
        self.watch_memory();
        (ServerProcess::of(self.child.id()).resident_bytes(), self.peak_bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills and reaps; a process that is gone already is as good.
pub(super) fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

fn spawn(folder: &Path, amqp: SocketAddr, http: SocketAddr) -> anyhow::Result<Child> {
    let ready = folder.join("ready.json");
    fs::create_dir_all(folder)?;
    fs::remove_file(&ready).ok();
    let log = OpenOptions::new().create(true).append(true).open(folder.join("server.log"))?;
    Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--amqp", &amqp.to_string(), "--http", &http.to_string(), "--beanstalk", "off"])
        .arg("--ready-file")
        .arg(ready)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("starting the server")
}

/// Waits for the ready file; returns where AMQP and HTTP listen.
fn await_ready(folder: &Path, child: &mut Child) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let until = Instant::now() + START_MAX;
    while Instant::now() < until {
        if let Some(places) = read_ready(folder) {
            return Ok(places);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status} before it was ready: {}", last_words(folder));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    bail!("the server was not ready within {} s", START_MAX.as_secs())
}

fn read_ready(folder: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let text = fs::read_to_string(folder.join("ready.json")).ok()?;
    let doors: serde_json::Value = serde_json::from_str(&text).ok()?;
    let place = |door: &str| doors.get(door)?.as_str()?.parse().ok();
    Some((place("amqp")?, place("http")?))
}

/// The end of the server's log.
fn last_words(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("server.log")).unwrap_or_default();
    let mut lines: Vec<&str> = log.lines().rev().take(3).collect();
    lines.reverse();
    lines.join(" | ")
}
