//! [`run()`]: a batch from its input to its output, in named stages. Not here: the stages' own work
//! (`scan`, `publish`, `follow`, `sweep`, `write`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use serde::Serialize;
use serde_json::json;

use super::follow::{Feed, Totals};
use super::outcome::{Failure, Outcome, Spool};
use super::progress::{Figures, Progress};
use super::publish::Publisher;
use super::read::Rows;
use super::record::Record;
use super::scan::{Slots, State, name_of, scan};
use super::sweep::{self, Place};
use super::write::Writer;
use super::{Api, Format, Recipe, check_name};

/// Seconds that the change feed is waited for.
const WAIT_S: u32 = 1;
/// A pause after a page with something in it, so that pages are worth their calls.
const GATHER: Duration = Duration::from_millis(150);
/// Least time between two looks at single items.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// So many items are looked at as soon as anything of the queue is set aside.
const SWEEP_FEW: u64 = 1000;
/// After so long without an end, every item is looked at.
const STALL: Duration = Duration::from_secs(30);

/// Where rows come from.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Bad rows are left out instead of refusing the file.
    pub(crate) skips_bad: bool,
}

/// Where outcomes go.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Cells of CSV stay as they are, formulas too.
    pub(crate) is_raw: bool,
}

/// One run of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) input: Input,
    pub(crate) recipe: Recipe,
    pub(crate) queue: String,
    pub(crate) priority: u8,
    /// `None` makes one from the input.
    pub(crate) name: Option<String>,
    /// `None` only sends.
    pub(crate) output: Option<Output>,
    pub(crate) is_json: bool,
}

/// What became of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) queue: String,
    /// Rows of the input.
    pub(crate) rows: u64,
    /// Different items of them.
    pub(crate) items: u64,
    /// Rows that cannot be read.
    pub(crate) bad: u64,
    /// Items that had a result before.
    pub(crate) before: u64,
    /// Items that the server took, or had already.
    pub(crate) sent: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) cost: Option<f64>,
    pub(crate) tokens: u64,
    pub(crate) seconds: f64,
}

/// Everything that stages hand on.
struct Batch<'a> {
    api: &'a Api,
    run: &'a Run,
    name: String,
    slots: Slots,
    spool: Spool,
    feed: Feed,
    totals: Totals,
    before: u64,
    progress: Progress,
}

/// Runs a batch, or what is left of it.
///
/// # Errors
/// The input has bad rows, the server stays away or refuses, the output cannot be written.
pub(crate) async fn run(api: &Api, run: &Run) -> anyhow::Result<Summary> {
    let began = Instant::now();
    let Input { path, format, skips_bad } = &run.input;
    let found = scan(path, *format, &run.recipe)?;
    if found.bad > 0 && !skips_bad {
        let (bad, rows) = (found.bad, found.rows);
        bail!(
            "{bad} of {rows} rows cannot be used; nothing was sent:\n  {}\nmend them, or leave \
             them out with --skip-bad",
            found.complaint(path)
        );
    }
    let name = run.name.clone().map_or_else(|| name_of(path, &run.recipe), Ok)?;
    check_name(&name)?;
    let items = found.slots.len() as u64;
    let spool = Spool::new(run.output.as_ref().map(|output| output.path.as_path()))?;
    let progress = Progress::new(items, run.is_json);
    let (feed, totals) = (Feed::new(&name), Totals::default());
    let slots = found.slots;
    let mut batch = Batch { api, run, name, slots, spool, feed, totals, before: 0, progress };
    let mut summary = Summary {
        queue: run.queue.clone(),
        rows: found.rows,
        bad: found.bad,
        items,
        ..Summary::default()
    };
    summary.sent = batch.send().await?;
    if run.output.is_some() {
        batch.follow().await?;
        batch.finish()?;
    }
    batch.progress.end();
    let figures = batch.figures();
    Ok(Summary {
        before: batch.before,
        done: figures.done,
        failed: figures.failed,
        cost: batch.totals.cost,
        tokens: batch.totals.tokens,
        seconds: began.elapsed().as_secs_f64(),
        name: batch.name,
        ..summary
    })
}

impl Batch<'_> {
    fn figures(&self) -> Figures {
        let count = |state| self.slots.iter().filter(|slot| slot.state == state).count() as u64;
        Figures {
            items: self.slots.len() as u64,
            done: count(State::Done),
            failed: count(State::Failed),
            before: self.before,
        }
    }

    async fn catch_up(&mut self, wait_s: u32) -> anyhow::Result<usize> {
        let into = (&mut self.slots, &mut self.spool, &mut self.totals);
        self.feed.catch_up(self.api, wait_s, into).await
    }

    /// Sends every row without a result; says how many the server took.
    async fn send(&mut self) -> anyhow::Result<u64> {
        self.catch_up(0).await?;
        self.before = self.figures().done;
        let input = self.run.input.path.file_name().unwrap_or_default().to_string_lossy();
        let record = Record {
            queue: self.run.queue.clone(),
            items: self.slots.len() as u64,
            input: input.into_owned(),
        };
        record.put(self.api, &self.name).await?;
        let name = self.name.clone();
        let mut publisher = Publisher::new(self.api, &name, &self.run.queue);
        publisher.priority = self.run.priority;
        publisher.headers = self.run.recipe.endpoint.as_ref().map(|path| json!({ "path": path }));
        let mut rows = Rows::open(&self.run.input.path, self.run.input.format)?;
        while let Some((_, row)) = rows.next()? {
            let Ok(item) = row.map_err(|bad| bad.why).and_then(|row| self.run.recipe.item(&row))
            else {
                continue;
            };
            let at = self.slots.find(&item.key).ok_or_else(changed)?;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            if slot.state != State::Open {
                continue;
            }
            slot.state = State::Sent;
            if publisher.add(at, item) {
                self.flush(&mut publisher).await?;
            }
        }
        self.flush(&mut publisher).await?;
        Ok(publisher.accepted)
    }

    async fn flush(&mut self, publisher: &mut Publisher<'_>) -> anyhow::Result<()> {
        self.catch_up(0).await?;
        publisher.flush(&mut self.slots, &mut self.spool).await?;
        self.progress.tell(self.figures(), self.totals);
        Ok(())
    }

    /// Until every item has ended.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let (mut moved, mut swept) = (Instant::now(), None::<Instant>);
        loop {
            if self.catch_up(WAIT_S).await? > 0 {
                moved = Instant::now();
                tokio::time::sleep(GATHER).await;
            }
            let figures = self.figures();
            self.progress.tell(figures, self.totals);
            let left = figures.items - figures.done - figures.failed;
            if left == 0 {
                return Ok(());
            }
            if swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY)
                && self.is_sweep_due(left, moved.elapsed()).await?
            {
                self.sweep().await?;
                (moved, swept) = (Instant::now(), Some(Instant::now()));
            }
        }
    }

    /// Whether looking at every single item is worth its calls.
    async fn is_sweep_due(&self, left: u64, still: Duration) -> anyhow::Result<bool> {
        let counts = self.api.queue(&self.run.queue).await?;
        let live = counts.ready + counts.claimed + counts.delayed;
        let few = left <= SWEEP_FEW && counts.buried > 0;
        Ok(live == 0 || few || counts.buried >= left || still >= STALL)
    }

    /// Looks at every item that has not ended.
    async fn sweep(&mut self) -> anyhow::Result<()> {
        let open = (0..self.slots.len()).filter_map(|at| {
            let slot = self.slots.get(at).filter(|slot| slot.state == State::Sent)?;
            Some((at, slot.job.as_ref()?.to_string()))
        });
        let open: Vec<(usize, String)> = open.collect();
        let (mut failed, mut gone) = (Vec::new(), Vec::new());
        sweep::look(self.api, open, |at, place| {
            match place {
                Place::Waiting(_) => {}
                Place::Buried(failure) => failed.push((at, failure)),
                Place::Gone => gone.push((at, sweep::gone())),
            }
            Ok(())
        })
        .await?;
        // What was done a moment ago is gone, too; its result is in the feed by now.
        self.catch_up(0).await?;
        for (at, failure) in failed.into_iter().chain(gone) {
            self.fail(at, &failure)?;
        }
        Ok(())
    }

    fn fail(&mut self, at: usize, failure: &Failure) -> anyhow::Result<()> {
        let Some(slot) = self.slots.get_mut(at) else { return Ok(()) };
        if slot.state != State::Done {
            (slot.at, slot.bytes) = self.spool.add(&serde_json::to_string(failure)?)?;
            slot.state = State::Failed;
        }
        Ok(())
    }

    /// Writes the output, in the order of the input.
    fn finish(&mut self) -> anyhow::Result<()> {
        let Some(output) = &self.run.output else { return Ok(()) };
        let mut writer = Writer::create(&output.path, output.format, output.is_raw)?;
        let mut rows = Rows::open(&self.run.input.path, self.run.input.format)?;
        while let Some((line, row)) = rows.next()? {
            let item = row.map_err(|bad| bad.why).and_then(|row| self.run.recipe.item(&row));
            let outcome = match item {
                Ok(item) => self.outcome(item.key)?,
                Err(message) => {
                    let failure = Failure { class: "bad_row".to_owned(), message, attempts: 0 };
                    Outcome::failed(format!("line {line}"), failure)
                }
            };
            writer.add(&outcome)?;
        }
        writer.finish()
    }

    fn outcome(&mut self, key: String) -> anyhow::Result<Outcome> {
        let slot = self.slots.find(&key).and_then(|at| self.slots.get(at)).ok_or_else(changed)?;
        let text = self.spool.read(slot.at, slot.bytes)?;
        match slot.state {
            State::Done => Outcome::done(key, &text),
            State::Failed => Ok(Outcome::failed(key, serde_json::from_str(&text)?)),
            State::Open | State::Sent => Err(changed()),
        }
    }
}

fn changed() -> anyhow::Error {
    anyhow!("the input was changed while it was worked on; run the command again")
}
