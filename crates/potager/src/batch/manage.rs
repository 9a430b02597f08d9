//! What can be done with a batch by its name alone, from any machine: status, results, errors,
//! another try, an end. Not here: running one (`run`).

use std::collections::HashMap;

use serde::Serialize;

use super::api::{Act, Counts};
use super::follow::{Feed, Seen};
use super::outcome::{Failure, Outcome};
use super::record::{Record, parts};
use super::run::Output;
use super::sweep::{self, Place};
use super::write::Writer;
use super::{Api, Format};

/// Where a batch stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) input: String,
    pub(crate) items: u64,
    pub(crate) done: u64,
    /// Set aside after their last failure.
    pub(crate) failed: u64,
    /// In no queue, and without result.
    pub(crate) gone: u64,
    /// Still to be done: not claimed yet, claimed, not yet sent.
    pub(crate) left: u64,
    pub(crate) claimed: u64,
    pub(crate) cost: Option<f64>,
    pub(crate) tokens: u64,
    /// Its queue, with what else is in it.
    pub(crate) queue_counts: Counts,
}

/// A row without result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fallen {
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) failure: Failure,
}

/// Items that have no result: where each is.
struct Open {
    record: Record,
    done: u64,
    cost: Option<f64>,
    tokens: u64,
    /// Key, item, place.
    items: Vec<(String, String, Place)>,
}

/// Where a batch stands.
///
/// # Errors
/// The server knows no such batch, or stays away.
pub(crate) async fn status(api: &Api, name: &str) -> anyhow::Result<Status> {
    let open = open(api, name).await?;
    let queue_counts = api.queue(&open.record.queue).await?;
    let count = |fits: fn(&Place) -> bool| {
        open.items.iter().filter(|(_, _, place)| fits(place)).count() as u64
    };
    let failed = count(|place| matches!(place, Place::Buried(_)));
    let gone = count(|place| *place == Place::Gone);
    let ended = open.done.saturating_add(failed).saturating_add(gone);
    Ok(Status {
        name: name.to_owned(),
        input: open.record.input.clone(),
        items: open.record.items,
        done: open.done,
        failed,
        gone,
        left: open.record.items.saturating_sub(ended),
        claimed: count(|place| matches!(place, Place::Waiting(state) if state == "claimed")),
        cost: open.cost,
        tokens: open.tokens,
        queue: open.record.queue,
        queue_counts,
    })
}

/// Writes what has a result, in order of keys; says how many.
///
/// # Errors
/// As [`status`]; the output cannot be written.
pub(crate) async fn results(
    api: &Api,
    name: &str,
    output: Option<&Output>,
    format: Format,
) -> anyhow::Result<u64> {
    Record::find(api, name).await?;
    let mut writer = match output {
        Some(output) => Writer::create(&output.path, output.format, output.is_raw)?,
        None => Writer::to_stdout(format, false)?,
    };
    let (prefix, mut after, mut count) = (format!("{name}/"), String::new(), 0);
    loop {
        let page = api.list(&prefix, &after).await?;
        for raw in &page.results {
            let shown: super::outcome::Shown<'_> = serde_json::from_str(raw.get())?;
            after = shown.key.into_owned();
            let id = after.strip_prefix(&prefix).unwrap_or(&after).to_owned();
            writer.add(&Outcome::done(id, raw.get())?)?;
            count += 1;
        }
        if !page.more || page.results.is_empty() {
            break;
        }
    }
    writer.finish()?;
    Ok(count)
}

/// Rows that have failed, with why.
///
/// # Errors
/// As [`status`].
pub(crate) async fn errors(api: &Api, name: &str) -> anyhow::Result<Vec<Fallen>> {
    let open = open(api, name).await?;
    let fallen = open.items.into_iter().filter_map(|(id, _, place)| match place {
        Place::Buried(failure) => Some(Fallen { id, failure }),
        Place::Gone => Some(Fallen { id, failure: sweep::gone() }),
        Place::Waiting(_) => None,
    });
    Ok(fallen.collect())
}

/// Gives failed items another try; says how many.
///
/// # Errors
/// As [`status`].
pub(crate) async fn retry(api: &Api, name: &str) -> anyhow::Result<u64> {
    let items = open(api, name).await?.items.into_iter();
    let buried = items.filter(|(_, _, place)| matches!(place, Place::Buried(_)));
    sweep::act_on(api, buried.map(|(_, id, _)| id).collect(), Act::Retry).await
}

/// Takes away what is not done; says how many were, and how many a worker still has.
///
/// # Errors
/// As [`status`].
pub(crate) async fn cancel(api: &Api, name: &str) -> anyhow::Result<(u64, u64)> {
    let items = open(api, name).await?.items.into_iter();
    let there: Vec<String> =
        items.filter(|(_, _, place)| *place != Place::Gone).map(|(_, id, _)| id).collect();
    let wanted = there.len() as u64;
    let cancelled = sweep::act_on(api, there, Act::Delete).await?;
    Ok((cancelled, wanted - cancelled))
}

/// Looks at every item of a batch that has no result.
async fn open(api: &Api, name: &str) -> anyhow::Result<Open> {
    let record = Record::find(api, name).await?;
    let mut left: HashMap<String, String> = parts(api, name).await?.into_iter().collect();
    let mut open = Open { record, done: 0, cost: None, tokens: 0, items: Vec::new() };
    read_done(api, name, &mut open, &mut left).await?;
    let asked: Vec<(String, String)> = left.iter().map(|(k, id)| (k.clone(), id.clone())).collect();
    let mut found = Vec::new();
    sweep::look(api, asked, |key, place| {
        found.push((key, place));
        Ok(())
    })
    .await?;
    // What was done while we looked is gone from its queue, and has a result now.
    (open.done, open.cost, open.tokens) = (0, None, 0);
    read_done(api, name, &mut open, &mut left).await?;
    for (key, place) in found {
        if let Some(id) = left.remove(&key) {
            open.items.push((key, id, place));
        }
    }
    open.items.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(open)
}

async fn read_done(
    api: &Api,
    name: &str,
    open: &mut Open,
    left: &mut HashMap<String, String>,
) -> anyhow::Result<()> {
    let mut feed = Feed::new(name);
    loop {
        let (_, goes_on) = feed
            .page(api, 0, |seen| {
                if let Seen::Stored { key, effort, .. } = seen {
                    open.done += 1;
                    open.tokens = open.tokens.saturating_add(effort.tokens());
                    open.cost =
                        effort.cost.map(|cost| open.cost.unwrap_or(0.0) + cost).or(open.cost);
                    left.remove(key);
                }
                Ok(())
            })
            .await?;
        if !goes_on {
            return Ok(());
        }
    }
}
