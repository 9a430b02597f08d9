//! The demonstration with Celery itself: unmodified prefork workers and producers with confirms.
//!
//! The application is the two Python files beside this one, written into the temporary folder.
//! Not here: the course of events (`conduct`).

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Options;
use super::books::{self, ENDING, Execution, unix_ms};
use super::conduct::{self, Players, Status, millis};
use super::folder::Folder;
use super::ledger::{Again, Ledger, Memory, Times};
use super::progress::Progress;
use super::server::{Server, end};

const APP: &str = include_str!("celery_app.py");
const PRODUCER: &str = include_str!("celery_producer.py");
/// Worker nodes, each with [`CONCURRENCY`] processes.
const WORKERS: usize = 2;
const CONCURRENCY: usize = 2;
const PRODUCERS: u64 = 2;
/// How often the books are looked at.
const LOOK: Duration = Duration::from_millis(25);
/// Workers go on with what they hold for a while after the server is gone.
const UNNOTICED_MS: u64 = 10_000;

/// The version of Celery that this Python can import.
pub(super) fn find(python: &Path) -> Option<String> {
    let ask = "import celery, sys; sys.stdout.write(celery.__version__)";
    let answer = Command::new(python).args(["-c", ask]).stderr(Stdio::null()).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// Runs it.
pub(super) fn run(options: &Options, folder: &Folder, version: &str) -> anyhow::Result<Ledger> {
    let (began, began_ms) = (Instant::now(), unix_ms());
    let mut server = Server::start(folder.join("server"))?;
    let first_ready_ms = millis(began.elapsed());
    let mut cast = Cast::hire(options, folder, server.url())?;
    let total = if options.duration.is_some() { 0 } else { options.tasks };
    let mut progress = Progress::new(total);
    let played = conduct::run(&mut cast, &mut server, &mut progress, began);
    progress.end();
    let times = Times { first_ready_ms, ..played? };
    let confirmed = cast.confirmed()?;
    let books = cast.books.clone();
    drop(cast);
    let killed_ms = began_ms + times.server_killed_at_ms;
    let mut ledger = add_up(&confirmed, &books::read_all(&books)?, killed_ms);
    ledger.players = format!(
        "Celery {version}: {WORKERS} prefork workers with {CONCURRENCY} processes, acks_late"
    );
    ledger.times = times;
    let (end_bytes, peak_bytes) = server.memory();
    ledger.memory = Memory { peak_bytes, end_bytes };
    ledger.folder = folder.kept();
    Ok(ledger)
}

/// Adds up confirms and books.
fn add_up(confirmed: &HashSet<u64>, executions: &[Execution], server_killed_ms: u64) -> Ledger {
    let mut by_task: HashMap<u64, Vec<&Execution>> = HashMap::new();
    for execution in executions {
        by_task.entry(execution.task).or_default().push(execution);
    }
    let lost = confirmed.iter().filter(|task| !by_task.contains_key(task)).count();
    let mut again = Again::default();
    for executions in by_task.values_mut() {
        executions.sort_by_key(|execution| execution.at_ms);
        for pair in executions.windows(2) {
            let [before, after] = pair else { continue };
            *cause(before, after, server_killed_ms, &mut again) += 1;
        }
    }
    Ledger {
        published: confirmed.len() as u64,
        confirmed: confirmed.len() as u64,
        executed: by_task.len() as u64,
        executed_again: again,
        lost: lost as u64,
        ..Ledger::default()
    }
}

/// Why a task that `before` had executed was executed again.
fn cause<'a>(
    before: &Execution,
    after: &Execution,
    server_killed_ms: u64,
    again: &'a mut Again,
) -> &'a mut u64 {
    let is_held_over = before.at_ms <= server_killed_ms + UNNOTICED_MS;
    if before.worker.starts_with(VICTIM) {
        &mut again.worker_killed
    } else if is_held_over && after.at_ms >= server_killed_ms {
        &mut again.server_killed
    } else {
        &mut again.unexplained
    }
}

/// What the books of the worker that is killed begin with.
const VICTIM: &str = "node0-";

/// Celery's processes; all are killed when this goes away.
struct Cast {
    python: PathBuf,
    folder: PathBuf,
    books: PathBuf,
    url: String,
    workers: Vec<Child>,
    producers: Vec<Child>,
    seen: Seen,
    /// Of the work, as [`Status`] counts it.
    tasks: Option<u64>,
    duration: Option<Duration>,
    began: Instant,
}

impl Cast {
    fn hire(options: &Options, folder: &Folder, url: String) -> anyhow::Result<Self> {
        let books = folder.join("books");
        fs::create_dir_all(&books)?;
        fs::write(folder.join("potager_demo_app.py"), APP)?;
        fs::write(folder.join("potager_demo_producer.py"), PRODUCER)?;
        let mut cast = Self {
            python: options.python.clone(),
            folder: folder.path().to_owned(),
            books,
            url,
            workers: Vec::new(),
            producers: Vec::new(),
            seen: Seen::default(),
            tasks: options.duration.is_none().then_some(options.tasks),
            duration: options.duration,
            began: Instant::now(),
        };
        for _ in 0..WORKERS {
            cast.start_worker()?;
        }
        for first in 1..=PRODUCERS {
            cast.start_producer(first)?;
        }
        Ok(cast)
    }

    /// Any Python of the demonstration, in a process group of its own.
    fn python(&self, log: &str) -> anyhow::Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join(log))?;
        let mut command = Command::new(&self.python);
        command
            .current_dir(&self.folder)
            .env("PYTHONPATH", &self.folder)
            .env("POTAGER_DEMO_BROKER", format!("{}//", self.url))
            .env("POTAGER_DEMO_BOOKS", &self.books)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(command)
    }

    fn start_worker(&mut self) -> anyhow::Result<()> {
        let name = format!("node{}", self.workers.len());
        let worker = self
            .python(&format!("{name}.log"))?
            .env("POTAGER_DEMO_WORKER", &name)
            .args(["-m", "celery", "-A", "potager_demo_app", "worker", "--loglevel", "WARNING"])
            .args(["--concurrency", &CONCURRENCY.to_string(), "-n", &format!("{name}@%h")])
            .spawn()
            .context("starting a Celery worker")?;
        self.workers.push(worker);
        Ok(())
    }

    fn start_producer(&mut self, first: u64) -> anyhow::Result<()> {
        let seconds = self.duration.map_or(0.0, |duration| duration.as_secs_f64());
        let producer = self
            .python(&format!("producer{first}.log"))?
            .arg("potager_demo_producer.py")
            .args([first, PRODUCERS, self.tasks.unwrap_or(0)].map(|number| number.to_string()))
            .arg(seconds.to_string())
            .arg(self.folder.join(format!("producer{first}.confirmed")))
            .spawn()
            .context("starting a producer")?;
        self.producers.push(producer);
        Ok(())
    }

    /// The tasks whose publish was confirmed.
    fn confirmed(&self) -> anyhow::Result<HashSet<u64>> {
        let mut confirmed = HashSet::new();
        for first in 1..=PRODUCERS {
            let path = self.folder.join(format!("producer{first}.confirmed"));
            let text = fs::read_to_string(path)?;
            confirmed.extend(text.lines().filter_map(|line| line.parse::<u64>().ok()));
        }
        Ok(confirmed)
    }

    /// Whether all producers have ended; an end with an error is an error.
    fn have_producers_ended(&mut self) -> anyhow::Result<bool> {
        let mut have_ended = true;
        for producer in &mut self.producers {
            match producer.try_wait()? {
                None => have_ended = false,
                Some(status) if status.success() => {}
                Some(status) => bail!("a producer ended with {status}: see its log with --keep"),
            }
        }
        Ok(have_ended)
    }
}

impl Players for Cast {
    fn status(&mut self) -> anyhow::Result<Status> {
        let have_ended = self.have_producers_ended()?;
        self.seen.look(&self.folder, &self.books)?;
        let (confirmed, finished) = (self.seen.confirmed, self.seen.executed.len() as u64);
        let float = crate::bench::float;
        let share = match (self.duration, self.tasks) {
            (Some(duration), _) => self.began.elapsed().as_secs_f64() / duration.as_secs_f64(),
            (None, tasks) => float(finished) / float(tasks.unwrap_or(1).max(1)),
        };
        let is_done = have_ended && finished >= confirmed && confirmed > 0;
        Ok(Status { share, published: confirmed, confirmed, finished, is_done })
    }

    fn kill_worker(&mut self) -> anyhow::Result<()> {
        if let Some(victim) = self.workers.first_mut() {
            end_group(victim);
        }
        self.start_worker()
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for process in self.workers.iter_mut().chain(&mut self.producers) {
            end_group(process);
        }
    }
}

/// Kills a process with all it has started.
fn end_group(process: &mut Child) {
    // A process that was reaped has no group that is safe to name.
    if matches!(process.try_wait(), Ok(None)) {
        kill_process_group(Pid::from_child(process), Signal::KILL).ok();
    }
    end(process);
}

/// What has been read of the growing files.
#[derive(Default)]
struct Seen {
    looked: Option<Instant>,
    /// How far each file has been read.
    read_bytes: HashMap<PathBuf, u64>,
    executed: HashSet<u64>,
    confirmed: u64,
}

impl Seen {
    /// Reads what is new, if the last look was a while ago.
    fn look(&mut self, folder: &Path, books: &Path) -> anyhow::Result<()> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        for entry in fs::read_dir(books)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(ENDING) {
                let text = self.news(&path)?;
                let tasks = text.split_inclusive('\n').filter_map(|line| books::parse("", line));
                self.executed.extend(tasks.map(|execution| execution.task));
            }
        }
        for first in 1..=PRODUCERS {
            let text = self.news(&folder.join(format!("producer{first}.confirmed")))?;
            self.confirmed += text.lines().count() as u64;
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    /// The whole lines that a file has grown by.
    fn news(&mut self, path: &Path) -> anyhow::Result<String> {
        let Ok(mut file) = File::open(path) else { return Ok(String::new()) };
        let read_bytes = self.read_bytes.entry(path.to_owned()).or_default();
        file.seek(SeekFrom::Start(*read_bytes))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        *read_bytes += text.len() as u64;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(worker: &str, task: u64, at_ms: u64) -> Execution {
        Execution { worker: worker.to_owned(), task, serial: 1, is_redelivered: false, at_ms }
    }

    #[test]
    fn losses_and_repetitions_are_found() {
        let confirmed = [1, 2, 3, 4, 5].into();
        let executions = [
            execution("node1-7", 1, 10),
            execution("node0-8", 2, 20),
            execution("node1-7", 2, 30),
            execution("node1-7", 3, 90),
            execution("node2-9", 3, 3000),
            execution("node1-7", 4, 40),
            execution("node2-9", 4, 50),
        ];
        let ledger = add_up(&confirmed, &executions, 100);
        assert_eq!((ledger.confirmed, ledger.executed, ledger.lost), (5, 4, 1));
        let expected = Again { worker_killed: 1, server_killed: 1, confirm_cut: 0, unexplained: 1 };
        assert_eq!(ledger.executed_again, expected);
        assert!(!ledger.is_kept());
    }

    #[test]
    fn growing_files_are_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("producer1.confirmed");
        let mut seen = Seen::default();
        fs::write(&path, "1\n2\n3").unwrap();
        seen.look(folder.path(), folder.path()).unwrap();
        assert_eq!(seen.confirmed, 2);
        fs::write(&path, "1\n2\n33\n").unwrap();
        seen.looked = None;
        seen.look(folder.path(), folder.path()).unwrap();
        assert_eq!(seen.confirmed, 3);
    }
}
