//! Jobs in the hands of workers that come and go without a connection of their own: taken under a
//! lease, renewed for the whole worker, and ended by the job's name from wherever the worker is.
//!
//! Not here: what any of it does (`engine`), how a worker asks (`gateway`).

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::{JobId, Millis, QueueId};

/// Longest class of a failure, in bytes; longer ones are cut.
pub const FAILURE_CLASS_BYTES_MAX: usize = 64;
/// Longest message of a failure, in bytes; longer ones are cut.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 1024;

/// One job of one queue. Its text is `<queue>-<id>`, both decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobRef {
    /// The queue it is in.
    pub queue: QueueId,
    /// Its id there.
    pub id: JobId,
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.queue.0, self.id)
    }
}

/// A text that names no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job is named <queue>-<id>, two decimal numbers")]
pub struct NoJobRef;

impl FromStr for JobRef {
    type Err = NoJobRef;

    fn from_str(text: &str) -> Result<Self, NoJobRef> {
        // Only what `Display` writes: two names for one job would be two jobs to a client.
        let is_number = |text: &str| {
            let has_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            has_digits && (text == "0" || !text.starts_with('0'))
        };
        let (queue, id) = text.split_once('-').ok_or(NoJobRef)?;
        if !is_number(queue) || !is_number(id) {
            return Err(NoJobRef);
        }
        let queue = QueueId(queue.parse().map_err(|_| NoJobRef)?);
        Ok(Self { queue, id: JobId(id.parse().map_err(|_| NoJobRef)?) })
    }
}

/// Takes jobs for a worker. Each that is handed over is an `Event::Taken`; then comes
/// `Reply::Taken`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Take {
    /// From these queues and no others: the lowest rank over all of them first, then the oldest.
    /// One that is missing is made.
    pub queues: Vec<Bytes>,
    /// At most so many.
    pub most: u32,
    /// They are the worker's for so many seconds, and for as many again with each renewal.
    pub lease_s: u32,
    /// When nothing is ready, wait for one job; `Request::Withdraw` ends the wait.
    pub waits: bool,
}

/// What is known about a job that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenFacts {
    /// Which one.
    pub job: JobRef,
    /// Name of its queue.
    pub queue: Bytes,
    /// Which taking of it this is, from 1.
    pub attempt: u32,
    /// How often it failed.
    pub failures: u32,
}

/// Why nothing was handed over. Later ones stand before earlier ones when queues differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Idle {
    /// The queues are empty.
    #[default]
    Empty,
    /// All that is there is with other workers.
    Claimed,
    /// What is there is buried.
    Buried,
    /// What is there is delayed, or waits for other jobs.
    Delayed,
    /// A queue with jobs that are ready is paused.
    Paused,
}

/// A taken job, named for its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which one.
    pub job: JobRef,
    /// Which taking of it.
    pub attempt: u32,
}

/// A worker gives a job back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveBack {
    /// Which one, and the worker's own taking of it: a later one is not touched.
    pub held: Held,
    /// Not to be taken before so many seconds have passed.
    pub delay_s: u32,
    /// It is the job's fault; `None`: it is the worker's or nobody's.
    pub failure: Option<Failure>,
}

/// A job could not be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Its kind, a word: see [`FAILURE_CLASS_BYTES_MAX`].
    pub class: Bytes,
    /// For people: see [`FAILURE_MESSAGE_BYTES_MAX`].
    pub message: Bytes,
    /// Another try makes no sense.
    pub is_final: bool,
}

/// How an attempt at a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AttemptEnd {
    /// The worker said that it failed.
    Failed = 0,
    /// The worker gave it back.
    Released = 1,
    /// The worker was not heard of in time.
    Expired = 2,
    /// The worker's session ended.
    Lost = 3,
}

/// One attempt at a job that did not finish it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whose.
    pub worker: Bytes,
    /// How it ended.
    pub end: AttemptEnd,
    /// When it ended.
    pub at: Millis,
    /// What failed; empty unless it failed.
    pub failure: Failure,
}
