//! `cargo x crash --kills N`: the ledger under kills of the server, against a release build.
//!
//! Lives here: building the binary and calling `potager demo --kills`, which starts the server,
//! kills it at random moments under publishes and transactions, and compares everything that was
//! promised. Not here: the ledger itself (`crates/potager/src/demo/crash`). Called by `main` and,
//! with few kills, by `verify`.

use anyhow::{Context, Result};

use crate::conform::release_build;
use crate::step::Step;
use crate::workspace::Workspace;

/// Kills in a run of `verify`: enough to meet starts that are killed too.
const VERIFY_KILLS: u32 = 15;

/// Builds the server and runs the ledger.
pub(crate) fn run(workspace: &Workspace, kills: u32, rest: &[String]) -> Result<bool> {
    Ok(release_build().run(workspace)? && ledger(workspace, kills, rest)?)
}

/// The run that belongs to every check.
pub(crate) fn for_verify(workspace: &Workspace) -> Result<bool> {
    ledger(workspace, VERIFY_KILLS, &[])
}

/// What a person types to get the run of `verify` again.
pub(crate) fn repeat() -> String {
    format!("cargo x crash --kills {VERIFY_KILLS}")
}

/// Runs the ledger with the binary that is already built.
fn ledger(workspace: &Workspace, kills: u32, rest: &[String]) -> Result<bool> {
    let binary = workspace.release_binary()?;
    let binary = binary.to_str().context("the target folder's name is not valid UTF-8")?;
    Step::program("crash", binary, &["demo", "--kills", &kills.to_string()])
        .with_args(rest)
        .run(workspace)
}
