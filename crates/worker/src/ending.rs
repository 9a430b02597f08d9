//! How an item ends, whatever runs it: [`Ending`], and the trait of what runs items.
//! Not here: telling the server (`agent`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::api::{Item, Payload};
use crate::lanes::Slot;

/// Longest text of a failure.
const MESSAGE_CHARS_MAX: usize = 2000;

/// How an item ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// With a result.
    Done { payload: Payload, notes: Map<String, Value>, tokens: u64 },
    /// Badly, by its own fault.
    Failed(Failure),
    /// Not at all, by the machine's fault.
    Interrupted(String),
}

/// Why an item failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One word, for counting and rules.
    pub(crate) class: String,
    /// For people.
    pub(crate) message: String,
    /// Another try would fail too.
    pub(crate) is_final: bool,
}

impl Failure {
    /// A failure that may go better another time.
    pub(crate) fn new(class: &str, message: impl Into<String>) -> Self {
        Self { class: class.to_owned(), message: short(message.into()), is_final: false }
    }

    /// It ran longer than it may.
    pub(crate) fn timeout(hard: Duration) -> Self {
        Self::new("timeout", format!("stopped after {} s", hard.as_secs_f64()))
    }
}

/// Runs items.
pub(crate) trait Perform: Send + Sync + 'static {
    /// Runs one to its end, beginning in `slot`. Dropping the future stops the item.
    fn perform(&self, item: Arc<Item>, slot: Slot) -> impl Future<Output = Ending> + Send;
}

/// The end of a text that is too long, since errors stand there.
pub(crate) fn short(text: String) -> String {
    let count = text.chars().count();
    if count <= MESSAGE_CHARS_MAX {
        return text;
    }
    let tail: String = text.chars().skip(count - MESSAGE_CHARS_MAX).collect();
    format!("..{tail}")
}
