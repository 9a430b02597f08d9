//! `cargo x damage`: every bit of a small log flipped, every file cut short at every byte.
//!
//! Lives here: calling the journal's tests in a release build with everything switched on; an
//! ordinary run of them hits every byte once. Called by `main`.

use anyhow::Result;

use crate::step::Step;
use crate::workspace::Workspace;

/// Runs the exhaustive tests.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let args = ["test", "--release", "--package", "journal", "--test", "it", "--"];
    let tests = ["every_bit::", "odd_files::", "damage::", "--nocapture"].map(str::to_owned);
    Step::cargo("damage", &args).with_args(&tests).with_env("DAMAGE", "all").run(workspace)
}
