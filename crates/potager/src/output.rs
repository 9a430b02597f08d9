//! Printing: data to standard output, people's messages to standard error, colour only where it is
//! wanted (`NO_COLOR`, `CLICOLOR_FORCE`, pipes: anstream decides). Used by every command.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::bail;
use serde_json::Value;

/// The reader of our output went away.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(crate) struct Closed;

/// Prints one line of data.
///
/// # Errors
/// [`Closed`], which ends a command quietly.
pub(crate) fn line(text: &str) -> Result<(), Closed> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|_| Closed)
}

/// Prints one JSON value on a line of its own.
///
/// # Errors
/// As [`line()`].
pub(crate) fn json(value: &Value) -> Result<(), Closed> {
    line(&value.to_string())
}

/// Tells people something; a closed standard error is nobody's problem.
pub(crate) fn note(text: &str) {
    let _unread = writeln!(anstream::stderr().lock(), "{text}");
}

/// Asks people something, without ending the line.
pub(crate) fn prompt(text: &str) {
    let mut out = anstream::stderr().lock();
    let _unread = write!(out, "{text}").and_then(|()| out.flush());
}

/// Asks before something is destroyed: on a terminal, a person; otherwise `--yes` must be there.
///
/// # Errors
/// Nobody said yes.
pub(crate) fn confirm(question: &str, is_said: bool) -> anyhow::Result<()> {
    if is_said {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("{question} nobody can be asked here; say it with --yes");
    }
    prompt(&format!("{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    bail!("nothing was changed")
}

/// Prints rows as a table for people; `columns` are titles.
///
/// # Errors
/// As [`line()`].
pub(crate) fn table(columns: &[&str], rows: &[Vec<String>]) -> Result<(), Closed> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for text in table.lines() {
        line(text.trim_end())?;
    }
    Ok(())
}

/// Names may hold any bytes; control characters must not reach a terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(printable("käse"), "käse");
    }
}
