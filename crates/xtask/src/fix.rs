//! `cargo x fix`: everything a machine can put right, written into the working tree.
//!
//! The counterpart of `verify`, which only reads. Called by `main`.

use anyhow::Result;

use crate::compat;
use crate::step::Step;
use crate::workspace::Workspace;

/// Applies clippy's suggestions, formats, regenerates COMPAT.md.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let clippy = ["clippy", "--fix", "--workspace", "--all-targets", "--allow-dirty"];
    let is_fixed = Step::cargo("clippy", &clippy).run(workspace)?;
    let is_formatted = Step::cargo("fmt", &["fmt", "--all"]).run(workspace)?;
    Ok(compat::run(workspace, false)? && is_fixed && is_formatted)
}
