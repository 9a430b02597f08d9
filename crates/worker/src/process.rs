//! Processes of items: started without a shell, in a group of their own, so that what they started
//! ends with them. [`Exec`] runs one for each item. Not here: processes that stay (`lines`).

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::api::{Item, Payload};
use crate::ending::{Ending, Failure, Perform};
use crate::lanes::Slot;
use crate::plan::Limits;
use crate::upstream::rounded;

/// Largest result of a process; the server takes calls of 20 MiB.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Of what it writes to standard error, this much is kept, from the end.
const ERROR_BYTES_KEPT: usize = 4096;
/// Between asking a process to end and killing it.
const GRACE: Duration = Duration::from_secs(5);
/// How long pipes may stay open after the process is gone.
const PIPES_MAX: Duration = Duration::from_secs(2);
/// What a process may not see.
const SECRETS: [&str; 2] = ["POTAGER_TOKEN", "POTAGER_PASSWORD"];

/// A process for each item: the body on standard input, the result on standard output.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) words: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) notes: Map<String, Value>,
}

/// A group of processes; killed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    pid: Option<Pid>,
}

impl Group {
    /// The group that a child leads.
    pub(crate) fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self { pid: pid.and_then(Pid::from_raw) }
    }

    /// Sends all of them a signal; those that are gone do not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            let _gone = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Starts a program in a group of its own.
///
/// # Errors
/// The system does not start it.
pub(crate) fn start(words: &[String], item: Option<&Item>) -> std::io::Result<(Child, Group)> {
    let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    for name in SECRETS {
        command.env_remove(name);
    }
    if let Some(item) = item {
        // A variable cannot hold a zero byte; a key may.
        let plain = |text: &str| text.replace('\0', "");
        command.env("POTAGER_ID", plain(&item.id)).env("POTAGER_KEY", plain(item.key()));
        command.env("POTAGER_QUEUE", plain(&item.queue));
        command.env("POTAGER_ATTEMPT", item.attempt.to_string());
    }
    let child = command.spawn()?;
    let group = Group::of(&child);
    Ok((child, group))
}

/// How a process ended.
enum Ended {
    ByItself(ExitStatus),
    /// The hard limit was over.
    ByLimit(Duration),
    Unknown(String),
}

impl Perform for Exec {
    async fn perform(&self, item: Arc<Item>, slot: Slot) -> Ending {
        let began = Instant::now();
        let ending = self.run(&item).await;
        match &ending {
            Ending::Done { .. } => slot.finished(began.elapsed(), 0),
            Ending::Failed(_) | Ending::Interrupted(_) => slot.failed(),
        }
        ending
    }
}

impl Exec {
    async fn run(&self, item: &Item) -> Ending {
        let Some(body) = item.bytes() else {
            return Ending::Failed(Failure::new("invalid", "its base64 cannot be read"));
        };
        let began = Instant::now();
        let started = start(&self.words, Some(item));
        let (mut child, group) = match started {
            Ok(started) => started,
            // The machine's fault: the program is not there, or there is no memory.
            Err(error) => return Ending::Interrupted(format!("cannot start the program: {error}")),
        };
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let feeding = feed(stdin, &body);
        let reading = async { tokio::join!(collect(stdout), tail(stderr)) };
        let piping = async { tokio::join!(feeding, reading).1 };
        let mut piping = std::pin::pin!(piping);
        let mut output = None;
        let ended = {
            let mut waiting = std::pin::pin!(self.wait(&mut child, &group));
            loop {
                tokio::select! {
                    ended = &mut waiting => break ended,
                    read = &mut piping, if output.is_none() => output = Some(read),
                }
            }
        };
        // Whatever the process left behind in its group ends now, and with it the pipes.
        drop(group);
        if output.is_none() {
            output = timeout(PIPES_MAX, piping).await.ok();
        }
        let (stdout, stderr) = output.unwrap_or_default();
        self.conclude(ended, stdout, &stderr, began.elapsed())
    }

    async fn wait(&self, child: &mut Child, group: &Group) -> Ended {
        let began = Instant::now();
        let mut is_asked = false;
        if let Some(soft) = self.limits.soft {
            tokio::select! {
                status = child.wait() => return ended(status),
                () = sleep(soft) => {
                    tracing::warn!(soft_s = soft.as_secs(), "an item takes long: asked to end");
                    group.signal(Signal::TERM);
                    is_asked = true;
                }
            }
        }
        let Some(hard) = self.limits.hard else { return ended(child.wait().await) };
        tokio::select! {
            status = child.wait() => return ended(status),
            () = sleep(hard.saturating_sub(began.elapsed())) => {}
        }
        if !is_asked {
            group.signal(Signal::TERM);
            let _ended_in_grace = timeout(GRACE, child.wait()).await;
        }
        group.signal(Signal::KILL);
        let _reaped = child.wait().await;
        Ended::ByLimit(hard)
    }

    fn conclude(&self, ended: Ended, stdout: Output, stderr: &str, took: Duration) -> Ending {
        let status = match ended {
            Ended::ByLimit(hard) => return Ending::Failed(Failure::timeout(hard)),
            Ended::Unknown(text) => return Ending::Interrupted(text),
            Ended::ByItself(status) => status,
        };
        if !status.success() {
            let text = format!("{status}: {}", stderr.trim());
            return Ending::Failed(Failure::new("exit", text));
        }
        match stdout {
            Output::TooLarge => {
                let text = format!("the result is larger than {OUTPUT_BYTES_MAX} bytes");
                Ending::Failed(Failure::new("answer_too_large", text))
            }
            Output::Whole(bytes) => {
                let mut notes = self.notes.clone();
                let _new = notes.insert("seconds".to_owned(), rounded(took));
                Ending::Done { payload: Payload::of(bytes), notes, tokens: 0 }
            }
            Output::None => Ending::Interrupted("the result could not be read".to_owned()),
        }
    }
}

fn ended(status: std::io::Result<ExitStatus>) -> Ended {
    match status {
        Ok(status) => Ended::ByItself(status),
        Err(error) => Ended::Unknown(format!("cannot wait for the program: {error}")),
    }
}

/// What came out of a process.
#[derive(Debug, Default)]
enum Output {
    #[default]
    None,
    Whole(Vec<u8>),
    TooLarge,
}

/// Writes the body; a process that does not read it is free not to.
async fn feed(stdin: Option<ChildStdin>, body: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _unread = stdin.write_all(body).await;
        let _closed = stdin.shutdown().await;
    }
}

async fn collect(stdout: Option<impl AsyncRead + Unpin>) -> Output {
    let Some(stdout) = stdout else { return Output::None };
    let mut bytes = Vec::new();
    match stdout.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).await {
        Ok(read) if u64::try_from(read).is_ok_and(|read| read <= OUTPUT_BYTES_MAX) => {
            Output::Whole(bytes)
        }
        Ok(_) => Output::TooLarge,
        Err(_) => Output::None,
    }
}

/// Reads all and keeps the end.
pub(crate) async fn tail(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stderr.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let surplus = kept.len().saturating_sub(ERROR_BYTES_KEPT);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The notes that say where a result was made.
pub(crate) fn notes_of(machine: &str, gpu: Option<&str>) -> Map<String, Value> {
    let mut notes = Map::new();
    let _new = notes.insert("machine".to_owned(), json!(machine));
    if let Some(gpu) = gpu {
        let _new = notes.insert("gpu".to_owned(), json!(gpu));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{Health, Lanes};
    use crate::pace::Pace;

    async fn run(words: &[&str], body: &str, limits: Limits) -> Ending {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let exec = Exec { words, limits, notes: notes_of("box", None) };
        let item = Item { id: "1".into(), text: Some(body.into()), ..Item::default() };
        let lanes = Lanes::new(["here".to_owned()], &Health::Up, || Pace::fixed(1));
        exec.perform(Arc::new(item), lanes.take(None).unwrap()).await
    }

    fn class(ending: &Ending) -> &str {
        match ending {
            Ending::Failed(failure) => &failure.class,
            Ending::Done { .. } => "done",
            Ending::Interrupted(_) => "interrupted",
        }
    }

    #[tokio::test]
    async fn the_body_goes_in_and_the_result_comes_out() {
        let ending = run(&["cat"], r#"{"a": 1}"#, Limits::default()).await;
        let Ending::Done { payload: Payload::Json(raw), notes, .. } = ending else {
            panic!("{ending:?}")
        };
        assert_eq!(raw.get(), r#"{"a": 1}"#);
        assert_eq!(notes["machine"], "box");
    }

    #[tokio::test]
    async fn a_large_body_and_a_large_result_do_not_lock_each_other() {
        let body = "x".repeat(4 << 20);
        let ending = run(&["cat"], &body, Limits::default()).await;
        assert!(
            matches!(ending, Ending::Done { payload: Payload::Text(text), .. } if text == body)
        );
    }

    #[tokio::test]
    async fn a_bad_exit_shows_what_was_said() {
        let ending = run(&["sh", "-c", "echo reason >&2; exit 3"], "", Limits::default()).await;
        let Ending::Failed(failure) = &ending else { panic!("{ending:?}") };
        assert_eq!(failure.class, "exit");
        assert!(failure.message.contains('3') && failure.message.contains("reason"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_the_machines_fault() {
        assert_eq!(class(&run(&["/no/such/program"], "", Limits::default()).await), "interrupted");
    }

    #[tokio::test]
    async fn the_token_is_not_handed_on() {
        let (child, _group) = start(&["env".to_owned()], None).unwrap();
        let text = child.wait_with_output().await.unwrap().stdout;
        assert!(!String::from_utf8_lossy(&text).contains("POTAGER_TOKEN"));
    }

    #[tokio::test]
    async fn a_process_knows_its_item() {
        let ending = run(&["sh", "-c", "echo $POTAGER_KEY"], "", Limits::default()).await;
        assert!(
            matches!(ending, Ending::Done { payload: Payload::Json(raw), .. } if raw.get() == "1")
        );
    }

    /// The child of the item's process holds the write end of a fifo that nobody else has, so the
    /// reader sees its end when, and only when, the whole group is gone.
    #[tokio::test]
    async fn the_hard_limit_ends_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = format!("trap '' TERM; exec 9>{}; sleep 1000 & wait", fifo.display());
        let reader = tokio::spawn({
            let fifo = fifo.clone();
            async move {
                let mut file = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo);
                let mut bytes = Vec::new();
                file.as_mut().unwrap().readable().await.unwrap();
                file.as_mut().unwrap().read_to_end(&mut bytes).await.unwrap();
            }
        });
        let hard = Some(Duration::from_millis(50));
        // Asked to end already by the soft limit, so the hard one kills at once.
        let limits = Limits { soft: Some(Duration::from_millis(20)), hard };
        assert_eq!(class(&run(&["sh", "-c", &script], "", limits).await), "timeout");
        // If the limit came before the shell opened it, the reader has not had a writer yet.
        drop(tokio::net::unix::pipe::OpenOptions::new().open_sender(&fifo));
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_leaves_children_behind_does_not_hold_the_worker() {
        let ending = run(&["sh", "-c", "sleep 1000 & echo '1'"], "", Limits::default()).await;
        assert_eq!(class(&ending), "done");
    }
}
