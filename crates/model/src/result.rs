//! Results by key: the last thing that was stored under a name, in a virtual host. A result is
//! written once, into the log, and read from there; what is kept of it in memory is its key.
//!
//! Not here: when a result may be stored (`engine`), how it is shown (`gateway`).

use bytes::Bytes;

use crate::{JobRef, Lsn, Millis};

/// Longest key of a result, in bytes.
pub const RESULT_KEY_BYTES_MAX: usize = 512;

/// What happens when the key has a result already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The one that is there stays.
    #[default]
    FirstWins,
    /// The new one takes its place.
    LastWins,
}

/// Stores a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreResult {
    /// Its name: 1 to [`RESULT_KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// Its media type, at most 255 bytes; may be empty.
    pub content_type: Bytes,
    /// What the worker says about it (a JSON object or nothing), at most 64 KiB.
    pub notes: Bytes,
    /// The result itself.
    pub value: Bytes,
    /// See [`Policy`].
    pub policy: Policy,
    /// Forgotten after so many seconds; 0 is never.
    pub ttl_s: u32,
}

/// What is known about a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFacts {
    /// Its name.
    pub key: Bytes,
    /// Where it stands among all changes; higher is later. Never used again.
    pub revision: Lsn,
    /// When it was stored.
    pub stored: Millis,
    /// When it is forgotten.
    pub expires: Option<Millis>,
}

/// A result as it was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultRef<'a> {
    /// The job whose result it is.
    pub job: Option<JobRef>,
    /// The worker that stored it, when a worker did.
    pub worker: &'a [u8],
    /// Its media type.
    pub content_type: &'a [u8],
    /// See [`StoreResult::notes`].
    pub notes: &'a [u8],
    /// The result itself.
    pub value: &'a [u8],
}

/// What is asked about results. All in the virtual host of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Results {
    /// One: `Event::Result` or `Empty`.
    Get(Bytes),
    /// Those whose keys begin so, in order of their keys: an `Event::Result` each, then
    /// `Reply::Results`.
    List {
        /// How the keys begin.
        prefix: Bytes,
        /// Only keys behind this one.
        after: Option<Bytes>,
        /// At most so many.
        most: u32,
    },
    /// What changed, in order of revisions: an `Event::Result` or `Event::ResultGone` each, then
    /// `Reply::Results`. Of several changes of one key only the last is there.
    Changes {
        /// How the keys begin.
        prefix: Bytes,
        /// Only behind this revision.
        after: Lsn,
        /// At most so many.
        most: u32,
        /// When there is none, wait for one; `Request::Withdraw` ends the wait.
        waits: bool,
    },
    /// Store one that no job is acknowledged with: `Reply::Stored`.
    Put(StoreResult),
    /// Forget one: `Done` or `Empty`.
    Delete(Bytes),
}
