//! `cargo x conform [door] [...]`: unmodified clients against a release build of the server.
//!
//! Lives here: building the binary and calling `conformance/run.py`, which makes its own Python
//! environment. Not here: the suites and what is known to fail in them. Called by `main` and by
//! `verify`.

use anyhow::{Context, Result, ensure};

use crate::step::Step;
use crate::workspace::Workspace;

const RUNNER: &str = "conformance/run.py";
/// Every door that has suites.
pub(crate) const DOORS: [&str; 3] = ["amqp", "beanstalk", "work"];

/// Builds the server and runs the suites named in `rest`, or all of the AMQP door.
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

/// What a person types to get the suites of a door again.
pub(crate) fn repeat(door: &str) -> String {
    format!("cargo x conform {door}")
}

/// Runs the suites against the binary that is already built.
pub(crate) fn suites(workspace: &Workspace, rest: &[String]) -> Result<bool> {
    let binary = workspace.release_binary()?;
    let binary = binary.to_str().context("the target folder's name is not valid UTF-8")?;
    Step::program("conformance", "python3", &[RUNNER, "--binary", binary])
        .with_args(&with_door(rest))
        .run(workspace)
}

/// Turns a door named first into the runner's option.
fn with_door(rest: &[String]) -> Vec<String> {
    let names_door = rest.first().is_some_and(|first| !first.starts_with('-'));
    let option = names_door.then(|| "--door".to_owned());
    option.into_iter().chain(rest.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_named_first_becomes_an_option() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(with_door(&words("amqp --only tx")), words("--door amqp --only tx"));
        assert_eq!(with_door(&words("--only tx")), words("--only tx"));
        assert_eq!(with_door(&[]), [""; 0]);
    }
}
