//! [`Trace`]: what happened, as one number and, for people, as the last lines of a story.
//!
//! Two runs of one seed have the same number or something in them is not determined by the seed.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use crate::dice::Fnv;
use crate::fact::Micros;

/// Lines kept for a failing seed.
const LAST_MAX: usize = 60;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: Fnv,
    last: VecDeque<String>,
    is_kept: bool,
    is_printed: bool,
    steps: u64,
}

impl Trace {
    /// `is_printed`: every line goes to `sink` as it happens; `is_kept`: the last lines are kept.
    pub(crate) fn new(is_kept: bool, is_printed: bool) -> Self {
        Self { is_kept, is_printed, ..Self::default() }
    }

    /// Takes something in.
    pub(crate) fn note<T: Debug + Hash>(&mut self, now: Micros, what: &T) {
        self.steps += 1;
        self.hash.write_u64(now);
        what.hash(&mut self.hash);
        if self.is_kept || self.is_printed {
            self.keep(format!("{:>12.6} {what:?}", seconds(now)));
        }
    }

    fn keep(&mut self, line: String) {
        if self.is_printed {
            crate::say(&line);
        }
        if self.last.len() >= LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Takes bytes in that were moved.
    pub(crate) fn note_bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = <[u8; 8]>::try_from(word).map_or(0, u64::from_le_bytes);
            self.hash.write_u64(word);
        }
        self.hash.write(words.remainder());
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}

/// Microseconds as seconds, for people.
#[allow(clippy::cast_precision_loss, reason = "for people")]
#[must_use]
pub fn seconds(now: Micros) -> f64 {
    now as f64 / 1e6
}
