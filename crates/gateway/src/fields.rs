//! Checks of single fields, with words that say which: names, numbers, durations, ids. Called by
//! whoever reads a call or an item.

use bytes::Bytes;
use model::{Held, JobRef, limits::NAME_BYTES_MAX};
use serde::Deserialize;

use crate::{Failure, LEASE_S, LEASE_S_MAX, LEASE_S_MIN, WORKER_CHARS_MAX, json::Items};

/// A number within limits, both included.
///
/// # Errors
/// It is outside.
pub(crate) fn within(what: &str, number: u64, (least, most): (u32, u32)) -> Result<u32, Failure> {
    let fits = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| Failure::bad(format!("'{what}' must be {least} to {most}")))
}

/// A name without control characters.
///
/// # Errors
/// It is empty, too long, or has some.
pub(crate) fn name(what: &str, name: &str, bytes_max: usize) -> Result<Bytes, Failure> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(Failure::bad(format!("'{what}' must have 1 to {bytes_max} bytes")));
    }
    if name.chars().any(char::is_control) {
        return Err(Failure::bad(format!("'{what}' must not have control characters")));
    }
    Ok(Bytes::copy_from_slice(name.as_bytes()))
}

/// The name of a queue.
///
/// # Errors
/// As [`name`].
pub(crate) fn queue(queue: &str) -> Result<Bytes, Failure> {
    name("queue", queue, NAME_BYTES_MAX)
}

/// The name of a worker.
///
/// # Errors
/// As [`name`], but counted in characters.
pub(crate) fn worker(worker: &str) -> Result<Bytes, Failure> {
    if worker.chars().count() > WORKER_CHARS_MAX {
        let text = format!("'worker' must have 1 to {WORKER_CHARS_MAX} characters");
        return Err(Failure::bad(text));
    }
    name("worker", worker, 4 * WORKER_CHARS_MAX)
}

/// How long a lease lasts, in seconds.
///
/// # Errors
/// Too short or too long.
pub(crate) fn lease(lease_s: Option<u64>) -> Result<u32, Failure> {
    within("lease_s", lease_s.unwrap_or_else(|| u64::from(LEASE_S)), (LEASE_S_MIN, LEASE_S_MAX))
}

/// A job as a worker names it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeldFields {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) attempt: u32,
}

/// The job of an id.
///
/// # Errors
/// The id is none that was ever given.
pub(crate) fn job(id: &str) -> Result<JobRef, Failure> {
    id.parse().map_err(|_| Failure::bad("'id' is none that was given by this server"))
}

/// The jobs that a worker believes to have, with the ids that cannot be any.
///
/// # Errors
/// An item has another shape.
pub(crate) fn held(items: &Items<'_>) -> Result<(Vec<Held>, Vec<String>), Failure> {
    let (mut found, mut odd) = (Vec::new(), Vec::new());
    for item in items.iter() {
        let HeldFields { id, attempt } = item.read()?;
        match job(&id) {
            Ok(job) => found.push(Held { job, attempt }),
            Err(_) => odd.push(id),
        }
    }
    Ok((found, odd))
}

/// At most so many bytes of a text, cut between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> Bytes {
    let end = text.floor_char_boundary(bytes_max);
    Bytes::copy_from_slice(text.get(..end).unwrap_or(text).as_bytes())
}
