//! Administration of a server that does not run: requests applied to its data directory. Not a
//! command; used by `place` when `--data-dir` is given.

use std::path::Path;

use anyhow::bail;
use model::{Admin, Listing, Reply, Row};

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
