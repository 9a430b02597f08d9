//! Looks at single items in their queue: which failed for good, which are gone. The server has no
//! list of a batch's failed items, so they are asked for by id, many at a time.
//! Not here: when that is worth while (`run`).

use std::collections::VecDeque;

use tokio::task::JoinSet;

use super::Api;
use super::api::{Act, Job};
use super::outcome::Failure;

/// Calls under way at a time.
const AT_ONCE: usize = 16;

/// Where an item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It will still be done.
    Waiting(String),
    /// It failed for good and stays in its queue.
    Buried(Failure),
    /// It is not in its queue: it is done, or was taken away.
    Gone,
}

/// What is said of an item that is gone and left no result.
pub(super) fn gone() -> Failure {
    let message = "the item is not in its queue any more and has no result: it was cancelled, \
                   expired, went to a dead-letter exchange, or somebody else took it";
    Failure { class: "gone".to_owned(), message: message.to_owned(), attempts: 0 }
}

/// Looks at items; `T` is the caller's word for each.
pub(super) async fn look<T: Send + 'static>(
    api: &Api,
    items: Vec<(T, String)>,
    mut each: impl FnMut(T, Place) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut left, mut running) = (VecDeque::from(items), JoinSet::new());
    loop {
        while running.len() < AT_ONCE
            && let Some((what, id)) = left.pop_front()
        {
            let api = api.clone();
            running.spawn(async move { (what, api.job(&id).await) });
        }
        let Some(ended) = running.join_next().await else { return Ok(()) };
        let (what, job) = ended?;
        each(what, place(job?))?;
    }
}

/// Does something with items; says with how many it could be done.
pub(super) async fn act_on(api: &Api, ids: Vec<String>, act: Act) -> anyhow::Result<u64> {
    let (mut left, mut running, mut done) = (VecDeque::from(ids), JoinSet::new(), 0);
    loop {
        while running.len() < AT_ONCE
            && let Some(id) = left.pop_front()
        {
            let api = api.clone();
            running.spawn(async move { api.act(&id, act).await });
        }
        let Some(ended) = running.join_next().await else { return Ok(done) };
        done += u64::from(ended??);
    }
}

fn place(job: Option<Job>) -> Place {
    let Some(job) = job else { return Place::Gone };
    if job.state != "buried" {
        return Place::Waiting(job.state);
    }
    let attempts = job.attempts.len() as u64;
    let last = job.attempts.into_iter().rev().find(|attempt| attempt.end == "failed");
    Place::Buried(match last {
        Some(last) => Failure { class: last.class, message: last.message, attempts },
        None => Failure {
            class: "buried".to_owned(),
            message: "the item was set aside without a reason".to_owned(),
            attempts,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Place {
        place(Some(serde_json::from_str(text).unwrap()))
    }

    #[test]
    fn a_buried_item_says_its_last_failure() {
        let failed = r#"{"state":"buried","attempts":[{"end":"failed","class":"a","message":"1"},
            {"end":"failed","class":"too_long","message":"2"},{"end":"expired"}]}"#;
        let expected = Failure { class: "too_long".into(), message: "2".into(), attempts: 3 };
        assert_eq!(job(failed), Place::Buried(expected));
        assert_eq!(job(r#"{"state":"ready"}"#), Place::Waiting("ready".into()));
        assert_eq!(place(None), Place::Gone);
    }
}
