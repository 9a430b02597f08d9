//! Users and virtual hosts of a server that does not run: requests applied to its data directory.
//! Not a command; used by `users` and `vhosts` with `--data-dir`.

use std::path::Path;

use anyhow::bail;
use model::{Admin, Cell, Listing, Reply, Row};

/// Applies one request.
///
/// # Errors
/// The directory is in use or damaged, or the request is refused.
pub(crate) fn change(dir: &Path, request: Admin) -> anyhow::Result<()> {
    exists(dir)?;
    match crate::serve::offline(dir, vec![request])?.pop() {
        Some(Reply::Refused(refusal)) => bail!("refused: {refusal:?}"),
        Some(_) => Ok(()),
        None => bail!("the data directory {} gave no answer", dir.display()),
    }
}

/// Reads a listing.
///
/// # Errors
/// As [`change`].
pub(crate) fn list(dir: &Path, of: Listing) -> anyhow::Result<Vec<Row>> {
    exists(dir)?;
    match crate::serve::offline(dir, vec![Admin::List(of)])?.pop() {
        Some(Reply::Listing(rows)) => Ok(rows),
        Some(_) | None => bail!("the data directory {} gave no listing", dir.display()),
    }
}

/// A mistyped path must not become a new, empty server.
fn exists(dir: &Path) -> anyhow::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    bail!("{} is no data directory; `potager serve --data-dir` makes one", dir.display())
}

/// A text column of a row; empty when it is absent.
pub(crate) fn text(row: &Row, column: &str) -> String {
    let cell = row.iter().find(|(name, _)| *name == column).map(|(_, cell)| cell);
    match cell {
        Some(Cell::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        Some(Cell::Number(_) | Cell::Flag(_)) | None => String::new(),
    }
}
