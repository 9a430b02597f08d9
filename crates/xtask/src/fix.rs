//! `cargo x fix`: everything a machine can put right, written into the working tree.
//!
//! The counterpart of `verify`, which only reads. Called by `main`.

use anyhow::Result;

use crate::step::Step;
use crate::workspace::Workspace;
use crate::{compat, promises};

/// Applies clippy's suggestions, formats, regenerates COMPAT.md and the lists of PROMISES.md.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let clippy = ["clippy", "--fix", "--workspace", "--all-targets", "--allow-dirty"];
    let is_fixed = Step::cargo("clippy", &clippy).run(workspace)?;
    let is_formatted = Step::cargo("fmt", &["fmt", "--all"]).run(workspace)?;
    let are_pages_written = compat::run(workspace, false)? && promises::run(workspace)?;
    Ok(are_pages_written && is_fixed && is_formatted)
}
