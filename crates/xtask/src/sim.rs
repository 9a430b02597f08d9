//! `cargo x sim`: runs the simulator, built for release.
//!
//! Lives here: building it and passing the words on. Not here: what a run does (crate
//! `simulator`), planted bugs (`planted`). Called by `main` and, with some seeds, by
//! `verify`.

use anyhow::Result;

use crate::step::Step;
use crate::workspace::Workspace;

/// The seeds of a run of `verify`: each virtual minutes of work, crashes and repair.
const VERIFY: &[&str] = &["--seeds", "0..200"];

/// Builds the simulator and runs it with these words.
pub(crate) fn run(workspace: &Workspace, words: &[String]) -> Result<bool> {
    let cargo = ["run", "--quiet", "--release", "--locked", "--package", "simulator", "--"];
    Step::cargo("sim", &cargo).with_args(words).run(workspace)
}

/// The run that belongs to every check.
pub(crate) fn for_verify(workspace: &Workspace) -> Result<bool> {
    run(workspace, &VERIFY.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
}

/// What a person types to get the run of `verify` again.
pub(crate) fn repeat() -> String {
    format!("cargo x sim {}", VERIFY.join(" "))
}
