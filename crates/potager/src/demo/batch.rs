//! `potager demo batch`: thousands of prompts for three tenants over four workers without a port,
//! while two workers and the server are killed.
//!
//! Everything is what users run: `potager serve`, four `potager work` over model servers of
//! different speed, three `potager batch run`, all processes. At a third of the work two workers
//! are killed with SIGKILL and one of them never comes back; at two thirds the server is, and is
//! started again on the same data. At the end outputs and server are compared with what was asked,
//! and the model servers say what they computed. Not here: model servers (`models`), adding up
//! (`account`). Called by `commands::demo`.

mod account;
mod models;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

pub(crate) use self::account::Tally;
use self::models::Models;
use super::conduct::millis;
use super::folder::Folder;
use super::progress::Progress;
use super::server::{Server, end};

/// Who asks; each has a queue and a batch.
const TENANTS: [&str; 3] = ["ann", "bob", "eve"];
/// Part of the work after which two workers are killed, and the server.
const KILLS: (f64, f64) = (0.33, 0.66);
/// Without anything computed for this long, the rest counts as lost.
const STUCK: Duration = Duration::from_secs(45);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(10);

/// What one demonstration does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchOptions {
    pub(crate) prompts: u64,
    /// Leave the temporary folder in place.
    pub(crate) is_kept: bool,
}

/// Runs it to its account.
///
/// # Errors
/// A process cannot be started, or nothing goes on.
pub(crate) fn run(options: &BatchOptions) -> anyhow::Result<Tally> {
    let mut folder = Folder::create(options.is_kept)?;
    let began = Instant::now();
    let models = Models::start(options.prompts)?;
    let mut server = Server::start(folder.join("server"))?;
    let mut stage = Stage::new(folder.path(), server.http_url(), &models, options.prompts)?;
    let mut progress = Progress::new(options.prompts);
    let played = play(&mut stage, &mut server, &mut progress, options.prompts);
    progress.end();
    let mut tally = played?;
    tally.seconds = began.elapsed().as_secs_f64();
    for (at, tenant) in TENANTS.into_iter().enumerate() {
        tally.judge_output(&output(folder.path(), tenant), tenant, share(options.prompts, at))?;
        tally.on_server += stage.count_on_server(tenant)?;
    }
    drop(stage);
    tally.judge_models(&models);
    if !tally.is_kept() {
        folder.keep();
    }
    tally.folder = folder.kept();
    Ok(tally)
}

/// How many prompts a tenant has.
fn share(prompts: u64, at: usize) -> std::ops::Range<u64> {
    let (at, count) = (at as u64, TENANTS.len() as u64);
    prompts * at / count..prompts * (at + 1) / count
}

fn output(folder: &Path, tenant: &str) -> std::path::PathBuf {
    folder.join(format!("{tenant}.answers.jsonl"))
}

fn play(
    stage: &mut Stage<'_>,
    server: &mut Server,
    progress: &mut Progress,
    prompts: u64,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::new(prompts);
    stage.until(KILLS.0, server, progress)?;
    stage.kill_workers()?;
    progress.event("two workers were killed (SIGKILL); one of them will not come back");
    stage.until(KILLS.1, server, progress)?;
    server.kill();
    progress.event("the server was killed (SIGKILL)");
    let ready = server.restart(None)?.unwrap_or_default();
    tally.ready_after_kill_ms = millis(ready);
    progress.event(&format!("the server was started again: ready after {} ms", millis(ready)));
    stage.until_all_end(server, progress)?;
    Ok(tally)
}

/// The processes; they are killed when this goes away.
struct Stage<'a> {
    folder: &'a Path,
    url: String,
    models: &'a Models,
    prompts: u64,
    workers: Vec<Child>,
    batches: Vec<Child>,
}

impl<'a> Stage<'a> {
    fn new(
        folder: &'a Path,
        url: String,
        models: &'a Models,
        prompts: u64,
    ) -> anyhow::Result<Self> {
        let (workers, batches) = (Vec::new(), Vec::new());
        let mut stage = Self { folder, url, models, prompts, workers, batches };
        for at in 0..models.urls.len() {
            let worker = stage.hire(at)?;
            stage.workers.push(worker);
        }
        for (at, tenant) in TENANTS.into_iter().enumerate() {
            let batch = stage.ask(tenant, share(prompts, at))?;
            stage.batches.push(batch);
        }
        Ok(stage)
    }

    fn command(&self, words: &[&str], log: &str) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(self.folder.join(log))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words).args(["--server", &self.url]);
        command.env_remove("POTAGER_TOKEN").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn hire(&self, at: usize) -> anyhow::Result<Child> {
        let name = format!("worker{at}");
        let mut command = self.command(&["work", "--name", &name], &format!("{name}.log"))?;
        for tenant in TENANTS {
            command.args(["--queue", tenant]);
        }
        let model = self.models.urls.get(at).context("no such model server")?;
        // The shortest lease that there is: what a killed worker had is free after it.
        command.args(["--http", model, "--concurrency", "8", "--lease", "5"]);
        command.arg("--spool").arg(self.folder.join("spool"));
        command.spawn().context("starting a worker")
    }

    fn ask(&self, tenant: &str, share: std::ops::Range<u64>) -> anyhow::Result<Child> {
        let input = self.folder.join(format!("{tenant}.jsonl"));
        let mut file = BufWriter::new(File::create(&input)?);
        for number in share {
            writeln!(file, "{}", json!({ "id": number, "number": number }))?;
        }
        file.flush()?;
        let words = ["batch", "run", "--to", tenant, "--name", tenant, "--key", "id"];
        let mut command = self.command(&words, &format!("{tenant}.log"))?;
        command.args(["--template", models::PROMPT, "--model", "demo"]).arg(&input);
        command.arg("--out").arg(output(self.folder, tenant));
        command.spawn().context("starting a batch")
    }

    /// One comes back at once, the other never.
    fn kill_workers(&mut self) -> anyhow::Result<()> {
        for worker in self.workers.iter_mut().take(2) {
            end(worker);
        }
        let back = self.hire(0)?;
        if let Some(worker) = self.workers.first_mut() {
            *worker = back;
        }
        Ok(())
    }

    /// Looks until so much of the work is done.
    fn until(
        &mut self,
        part: f64,
        server: &mut Server,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let total = crate::bench::float(self.prompts);
        self.watch(server, progress, |computed, has_ended| {
            if has_ended {
                bail!("everything was done before anything could be killed: use more prompts");
            }
            Ok(crate::bench::float(computed) >= part * total)
        })
    }

    fn until_all_end(
        &mut self,
        server: &mut Server,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        self.watch(server, progress, |_, has_ended| Ok(has_ended))
    }

    fn watch(
        &mut self,
        server: &mut Server,
        progress: &mut Progress,
        is_so: impl Fn(u64, bool) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let computed = self.models.distinct();
            progress.tell(computed, &format!("{computed} prompts computed"));
            if is_so(computed, self.have_batches_ended()?)? {
                return Ok(());
            }
            if computed > last {
                (last, moved) = (computed, Instant::now());
            }
            if moved.elapsed() > STUCK {
                bail!("nothing was computed for {} s, after {computed}", STUCK.as_secs());
            }
            server.check()?;
            std::thread::sleep(LOOK);
        }
    }

    fn have_batches_ended(&mut self) -> anyhow::Result<bool> {
        let mut have_ended = true;
        for (batch, tenant) in self.batches.iter_mut().zip(TENANTS) {
            match batch.try_wait()? {
                None => have_ended = false,
                Some(status) if status.success() => {}
                Some(status) => {
                    let log = fs::read_to_string(self.folder.join(format!("{tenant}.log")));
                    bail!("the batch of {tenant} ended with {status}: {}", log.unwrap_or_default());
                }
            }
        }
        Ok(have_ended)
    }

    /// Results of a tenant that the server has.
    fn count_on_server(&self, tenant: &str) -> anyhow::Result<u64> {
        let path = self.folder.join(format!("{tenant}.server.jsonl"));
        let mut command = self.command(&["batch", "results", tenant], "results.log")?;
        let status = command.arg("--out").arg(&path).status()?;
        if !status.success() {
            bail!("the results of {tenant} cannot be read: {status}");
        }
        Ok(fs::read_to_string(&path)?.lines().count() as u64)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for process in self.workers.iter_mut().chain(&mut self.batches) {
            end(process);
        }
    }
}
