//! `cargo x test [crate] [-- ...]`: the tests of one crate, or of all.
//!
//! Plain `cargo test`, so that a fresh machine needs no further tool. Called by `main`.

use anyhow::Result;

use crate::step::Step;
use crate::workspace::Workspace;

/// Runs the tests; `rest` goes to cargo unchanged.
pub(crate) fn run(workspace: &Workspace, package: Option<&str>, rest: &[String]) -> Result<bool> {
    let step = match package {
        Some(name) => Step::cargo("test", &["test", "--package", name]),
        None => Step::cargo("test", &["test", "--workspace"]),
    };
    step.with_args(rest).run(workspace)
}
