//! `cargo x sim`: runs the simulator, built for release.
//!
//! Lives here: building it and passing the words on. Not here: what a run does (crate
//! `simulator`), planted bugs (`planted`). Called by `main`.

use anyhow::Result;

use crate::step::Step;
use crate::workspace::Workspace;

/// Builds the simulator and runs it with these words.
pub(crate) fn run(workspace: &Workspace, words: &[String]) -> Result<bool> {
    let cargo = ["run", "--quiet", "--release", "--locked", "--package", "simulator", "--"];
    Step::cargo("sim", &cargo).with_args(words).run(workspace)
}
