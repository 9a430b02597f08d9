//! The demonstration with the built-in client: one producer and one collector as threads, workers
//! as processes. Not here: the course of events (`conduct`), adding up (`ledger`).

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::conduct::{self, Players, Status, millis};
use super::folder::Folder;
use super::ledger::{Evidence, Ledger, Memory, Times};
use super::producer::{self, Board, Published, Quota};
use super::progress::Progress;
use super::server::{Server, end};
use super::{Options, books, collector};

/// Worker processes.
const WORKERS: usize = 3;
/// The worker that is killed.
const VICTIM: &str = "worker0";

/// Runs it.
pub(super) fn run(options: &Options, folder: &Folder) -> anyhow::Result<Ledger> {
    let began = Instant::now();
    let mut server = Server::start(folder.join("server"))?;
    let first_ready_ms = millis(began.elapsed());
    let address = server.address()?;
    let board = Board::default();
    let quota = match options.duration {
        Some(duration) => Quota::Until(Instant::now() + duration),
        None => Quota::Tasks(options.tasks),
    };
    let crew = Crew::hire(server.url(), folder.join("books"))?;
    let books = crew.books.clone();
    let (played, published, results) = std::thread::scope(|scope| {
        let producing = scope.spawn(|| producer::run(&address, quota, &board));
        let collecting = scope.spawn(|| collector::run(&address, &board));
        let mut cast = Cast { board: &board, options, began, producing: &producing, crew };
        let played = play(&mut cast, &mut server, options, began);
        drop(cast);
        board.is_over.store(true, Ordering::Relaxed);
        let published = producing.join().map_err(|_| anyhow!("the producer failed"))??;
        let results = collecting.join().map_err(|_| anyhow!("the collector failed"))??;
        anyhow::Ok((played?, published, results))
    })?;
    let executions = books::read_all(&books)?;
    let mut ledger = Ledger::add_up(&Evidence {
        published: &published,
        executions: &executions,
        results: &results,
        killed_worker: VICTIM,
    });
    ledger.times = Times { first_ready_ms, ..played };
    let (end_bytes, peak_bytes) = server.memory();
    ledger.memory = Memory { peak_bytes, end_bytes };
    ledger.folder = folder.kept();
    Ok(ledger)
}

fn play(
    cast: &mut Cast<'_, '_>,
    server: &mut Server,
    options: &Options,
    began: Instant,
) -> anyhow::Result<Times> {
    let total = if options.duration.is_some() { 0 } else { options.tasks };
    let mut progress = Progress::new(total);
    let played = conduct::run(cast, server, &mut progress, began);
    progress.end();
    played
}

/// The built-in players.
struct Cast<'a, 'scope> {
    board: &'a Board,
    options: &'a Options,
    began: Instant,
    producing: &'a ScopedJoinHandle<'scope, anyhow::Result<Published>>,
    crew: Crew,
}

impl Players for Cast<'_, '_> {
    fn status(&mut self) -> anyhow::Result<Status> {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let published = read(&self.board.published);
        let confirmed = read(&self.board.confirmed);
        let finished = read(&self.board.finished);
        let share = match self.options.duration {
            Some(duration) => self.began.elapsed().as_secs_f64() / duration.as_secs_f64(),
            None => crate::bench::float(finished) / crate::bench::float(self.options.tasks.max(1)),
        };
        let is_done = self.producing.is_finished() && finished >= published;
        Ok(Status { share, published, confirmed, finished, is_done })
    }

    fn kill_worker(&mut self) -> anyhow::Result<()> {
        if let Some(victim) = self.crew.workers.first_mut() {
            end(victim);
        }
        self.crew.start()
    }
}

/// The worker processes; they are killed when this goes away.
struct Crew {
    url: String,
    books: PathBuf,
    workers: Vec<Child>,
}

impl Crew {
    fn hire(url: String, books: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&books)?;
        let mut crew = Self { url, books, workers: Vec::new() };
        for _ in 0..WORKERS {
            crew.start()?;
        }
        Ok(crew)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let name = format!("worker{}", self.workers.len());
        let worker = Command::new(std::env::current_exe()?)
            .args(["demo", "worker", "--url", &self.url, "--name", &name, "--books"])
            .arg(&self.books)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("starting a worker")?;
        self.workers.push(worker);
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // First a word, so that what is done can be committed; then the end.
        for worker in &mut self.workers {
            drop(worker.stdin.take());
        }
        let until = Instant::now() + Duration::from_secs(2);
        for worker in &mut self.workers {
            while matches!(worker.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            end(worker);
        }
    }
}
