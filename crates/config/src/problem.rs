//! [`Problem`]: something wrong with a setting, where it stands, and what was probably meant.
//! Printing and exit codes are the binary's business.

use std::{fmt, path::PathBuf};

use crate::SETTINGS;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file; line and column count from 1.
    File {
        /// Which file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// In this flag, as typed.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to write instead.
    pub message: String,
}

/// The message for a key that no setting has.
pub(crate) fn unknown_key(key: &str) -> String {
    let hint = nearest(key).map_or_else(
        || "`potager config default` lists all settings".to_owned(),
        |meant| format!("did you mean {meant:?}?"),
    );
    format!("unknown setting {key:?}; {hint}")
}

/// The key that `key` was probably meant to be: at most a third of it is different, or it is the
/// last part of a key (`heartbeat_s` for `amqp.heartbeat_s`).
pub(crate) fn nearest(key: &str) -> Option<&'static str> {
    let tail = |full: &str| full.rsplit_once('.').is_some_and(|(_, last)| last == key);
    let by_tail = SETTINGS.iter().map(|setting| setting.key).find(|full| tail(full));
    let by_distance = || {
        let keys = SETTINGS.iter().map(|setting| (distance(setting.key, key), setting.key));
        keys.min().filter(|(edits, _)| edits * 3 <= key.chars().count()).map(|(_, full)| full)
    };
    by_tail.or_else(by_distance)
}

/// Levenshtein distance in characters; both texts are short.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, a) in left.chars().enumerate() {
        let mut diagonal = above;
        let mut before = above + 1;
        let (Some(first), rest) = (row.first_mut(), right.iter()) else { return 0 };
        *first = before;
        for (cell, b) in row.iter_mut().skip(1).zip(rest) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(before + 1);
            before = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}
