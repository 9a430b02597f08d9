//! `cargo x conform [door] [...]`: unmodified clients against a release build of the server.
//!
//! Lives here: building the binary and calling `conformance/run.py`, which makes its own Python
//! environment. Not here: the suites and what is known to fail in them. Called by `main` and by
//! `verify`.

use anyhow::{Context, Result, ensure};

use crate::step::Step;
use crate::workspace::Workspace;

const RUNNER: &str = "conformance/run.py";

/// Builds the server and runs the suites named in `rest`, or all.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> Result<bool> {
    ensure!(is_present(workspace), "{RUNNER} is not in this checkout");
    Ok(release_build().run(workspace)? && suites(workspace, rest)?)
}

/// The build that conformance and the crash runs need.
pub(crate) fn release_build() -> Step {
    Step::cargo("release", &["build", "--release", "--locked", "--package", "potager"])
}

/// Whether this checkout has the suites.
pub(crate) fn is_present(workspace: &Workspace) -> bool {
    workspace.root.join(RUNNER).is_file()
}

/// Runs the suites against the binary that is already built.
pub(crate) fn suites(workspace: &Workspace, rest: &[String]) -> Result<bool> {
    let binary = workspace.release_binary()?;
    let binary = binary.to_str().context("the target folder's name is not valid UTF-8")?;
    Step::program("conformance", "python3", &[RUNNER, "--binary", binary])
        .with_args(rest)
        .run(workspace)
}
