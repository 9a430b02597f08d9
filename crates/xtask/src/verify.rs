//! `cargo x verify`: every check in one run, exactly what CI runs.
//!
//! Writes nothing outside the target folder and the conformance work folder. Every step runs
//! although an earlier one failed, so that one run names all that is wrong; the last line is
//! `N passed, N failed`. Called by `main`; the steps are the other commands.

use crate::step::{Step, Tally};
use crate::workspace::Workspace;
use crate::{chaos, compat, conform, crash, fuzz, instructions, planted, sim, tidy};

/// Runs all steps; false when one failed.
pub(crate) fn run(workspace: &Workspace, quick: bool) -> bool {
    let mut tally = Tally::default();
    for step in cheap_steps() {
        tally.step(workspace, &step);
    }
    tally.count("tidy", "cargo x tidy".to_owned(), || tidy::run(workspace));
    tally.count("compat", "cargo x compat --check".to_owned(), || compat::run(workspace, true));
    for step in test_steps() {
        tally.step(workspace, &step);
    }
    if !quick {
        slow_steps(workspace, &mut tally);
    }
    tally.report()
}

fn cheap_steps() -> [Step; 2] {
    [
        Step::cargo("fmt", &["fmt", "--all", "--check"]),
        Step::cargo(
            "clippy",
            &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        ),
    ]
}

fn test_steps() -> [Step; 2] {
    [
        Step::cargo("test", &["test", "--workspace", "--locked", "--no-fail-fast"]),
        Step::cargo("docs", &["doc", "--workspace", "--no-deps", "--locked"])
            .with_env("RUSTDOCFLAGS", "-D warnings"),
    ]
}

/// Whatever needs optimised builds: first what needs no server, then the real binary alone, then
/// with foreign clients.
fn slow_steps(workspace: &Workspace, tally: &mut Tally) {
    tally.count("sim", sim::repeat(), || sim::for_verify(workspace));
    tally.count("planted", "cargo x planted".to_owned(), || planted::run(workspace, &[], false));
    tally.count("fuzz", fuzz::repeat(), || fuzz::for_verify(workspace));
    if !tally.step(workspace, &conform::release_build()) {
        tally.missed("crash", crash::repeat());
        tally.missed("chaos", chaos::repeat());
        for door in conform::DOORS {
            tally.missed("conformance", conform::repeat(door));
        }
        return;
    }
    tally.count("crash", crash::repeat(), || crash::for_verify(workspace));
    let repeat = "cargo x instructions".to_owned();
    tally.count("instructions", repeat, || instructions::run(workspace, false));
    tally.count("chaos", chaos::repeat(), || chaos::for_verify(workspace));
    for door in conform::DOORS {
        let suites = || conform::suites(workspace, &[door.to_owned()]);
        tally.count("conformance", conform::repeat(door), suites);
    }
}
