//! `potager batch`: a file of rows becomes items of a queue, and their results a file again.
//!
//! ```text
//! scan (every row, nothing sent) -> publish (what has no result) -> follow (the change feed, until
//! every row has ended) -> finish (the output, in input order)
//! ```
//!
//! Everything that must outlive a run is on the server: items in their queue, results by
//! `NAME/KEY`, and which item is which row under `potager.batch/NAME`. So a run that was killed is
//! resumed by running it again, from any machine that has the file. In memory: some 100 bytes for
//! each row, never their bodies. Not here: the command line (`commands::batch`), the connection
//! (`worker::Client`). Source: `docs/protocols/work.md`.

mod api;
mod follow;
mod format;
mod manage;
mod outcome;
mod progress;
mod publish;
mod read;
mod recipe;
mod record;
mod run;
mod scan;
mod sweep;
mod template;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use api::Api;
pub(crate) use format::Format;
pub(crate) use manage::{cancel, errors, results, retry, status};
pub(crate) use recipe::{Keys, Recipe};
pub(crate) use run::{Input, Output, Run, Summary, run};
pub(crate) use template::Template;

/// Most rows of a batch: bounds the memory, at some 100 bytes a row.
const ROWS_MAX: usize = 20_000_000;
/// Longest name of a batch in bytes; a key of 384 may follow it in the name of a result.
const NAME_BYTES_MAX: usize = 120;
/// Longest key of a row in bytes.
const KEY_BYTES_MAX: usize = 384;
/// Under which results the server keeps which item is which row.
const RECORDS: &str = "potager.batch";

/// Checks the name of a batch.
///
/// # Errors
/// It cannot be the beginning of results' names.
pub(crate) fn check_name(name: &str) -> Result<(), crate::exit::Usage> {
    let is_plain = !name.chars().any(|c| c.is_control() || c == '/');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && is_plain && name != RECORDS {
        return Ok(());
    }
    Err(crate::exit::Usage(format!(
        "--name {}: 1 to {NAME_BYTES_MAX} bytes without '/' and control characters",
        crate::output::printable(name)
    )))
}
