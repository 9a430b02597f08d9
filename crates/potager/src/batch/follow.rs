//! [`Feed`]: reads a batch's results off the change feed, each once. Not here: what is done when
//! all have ended (`run`), items without result (`sweep`).

use serde_json::value::RawValue;

use super::Api;
use super::outcome::{Effort, Shown, Spool};
use super::scan::{Slots, State};

/// A batch's place in the change feed.
#[derive(Debug)]
pub(super) struct Feed {
    prefix: String,
    after: u64,
}

/// What results say together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    /// Money, when notes name any.
    pub(super) cost: Option<f64>,
    pub(super) tokens: u64,
}

/// One thing in the feed.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    /// A result: its key below the batch, and all of it.
    Stored { key: &'a str, raw: &'a str, effort: Effort },
    /// There is none any more.
    Deleted(&'a str),
    /// Deletions were missed: everything comes again.
    Anew,
}

impl Feed {
    pub(super) fn new(name: &str) -> Self {
        Self { prefix: format!("{name}/"), after: 0 }
    }

    /// One page of it, waiting so long for something new; says how many, and if there are more.
    pub(super) async fn page(
        &mut self,
        api: &Api,
        wait_s: u32,
        mut each: impl FnMut(Seen<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<(usize, bool)> {
        let page = api.changes(&self.prefix, self.after, wait_s).await?;
        if page.gap && self.after > 0 {
            self.after = 0;
            each(Seen::Anew)?;
            return Ok((0, true));
        }
        for raw in &page.results {
            self.see(raw, &mut each)?;
        }
        self.after = self.after.max(page.revision);
        Ok((page.results.len(), page.more))
    }

    fn see(
        &self,
        raw: &RawValue,
        each: &mut impl FnMut(Seen<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let shown: Shown<'_> = serde_json::from_str(raw.get())?;
        let Some(key) = shown.key.strip_prefix(&self.prefix) else { return Ok(()) };
        if shown.deleted {
            return each(Seen::Deleted(key));
        }
        each(Seen::Stored { key, raw: raw.get(), effort: Effort::of(shown.notes) })
    }

    /// Brings slots up to date; waits as [`Feed::page`] does, and then reads all there is.
    pub(super) async fn catch_up(
        &mut self,
        api: &Api,
        wait_s: u32,
        (slots, spool, totals): (&mut Slots, &mut Spool, &mut Totals),
    ) -> anyhow::Result<usize> {
        let (mut count, mut wait_s) = (0, wait_s);
        loop {
            let (more, goes_on) =
                self.page(api, wait_s, |seen| note(seen, slots, spool, totals)).await?;
            (count, wait_s) = (count + more, 0);
            if !goes_on {
                return Ok(count);
            }
        }
    }
}

fn note(
    seen: Seen<'_>,
    slots: &mut Slots,
    spool: &mut Spool,
    totals: &mut Totals,
) -> anyhow::Result<()> {
    match seen {
        Seen::Stored { key, raw, effort } => {
            let Some(slot) = slots.find(key).and_then(|at| slots.get_mut(at)) else {
                return Ok(());
            };
            if slot.state != State::Done {
                totals.tokens = totals.tokens.saturating_add(effort.tokens());
                totals.cost =
                    effort.cost.map(|cost| totals.cost.unwrap_or(0.0) + cost).or(totals.cost);
            }
            (slot.at, slot.bytes) = spool.add(raw)?;
            slot.state = State::Done;
        }
        Seen::Deleted(key) => {
            if let Some(slot) = slots.find(key).and_then(|at| slots.get_mut(at))
                && slot.state == State::Done
            {
                slot.state = if slot.job.is_some() { State::Sent } else { State::Open };
            }
        }
        Seen::Anew => {
            *totals = Totals::default();
            for slot in slots.iter_mut().filter(|slot| slot.state == State::Done) {
                slot.state = if slot.job.is_some() { State::Sent } else { State::Open };
            }
        }
    }
    Ok(())
}
