//! `cargo x chaos [part ...]`: power cuts, failing disks, alarms and crashes against a release
//! build, with real clients.
//!
//! Lives here: building the binary and calling `chaos/run.py`. Not here: the faults themselves
//! and what must follow. Called by `main` and, with fewer power cuts, by `verify`.

use anyhow::{Context, Result, ensure};

use crate::conform::release_build;
use crate::step::Step;
use crate::workspace::Workspace;

const RUNNER: &str = "chaos/run.py";
/// The parts of `verify`, eight minutes: all but the storm, whose ten seconds are a matter of the
/// machine. What the machine forbids is skipped.
const VERIFY: &[&str] = &[
    "power",
    "power_beanstalk",
    "eio",
    "alarms",
    "alarms_beanstalk",
    "recovery",
    "poison",
    "stop",
    "timers",
    "canary",
    "--cycles",
    "25",
];

/// Builds the server and runs the parts named in `rest`, or all.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> Result<bool> {
    ensure!(workspace.root.join(RUNNER).is_file(), "{RUNNER} is not in this checkout");
    Ok(release_build().run(workspace)? && parts(workspace, rest)?)
}

/// The run that belongs to every check.
pub(crate) fn for_verify(workspace: &Workspace) -> Result<bool> {
    parts(workspace, &VERIFY.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
}

/// What a person types to get the run of `verify` again.
pub(crate) fn repeat() -> String {
    format!("cargo x chaos {}", VERIFY.join(" "))
}

/// Runs parts with the binary that is already built.
fn parts(workspace: &Workspace, rest: &[String]) -> Result<bool> {
    let binary = workspace.release_binary()?;
    let binary = binary.to_str().context("the target folder's name is not valid UTF-8")?;
    Step::program("chaos", "python3", &[RUNNER, "--binary", binary]).with_args(rest).run(workspace)
}
