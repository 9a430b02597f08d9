//! `cargo x verify`: every check in one run, exactly what CI runs.
//!
//! Writes nothing outside the target folder and the conformance work folder. Every step runs
//! although an earlier one failed, so that one run names all that is wrong; the last line is
//! `N passed, N failed`. Called by `main`; the steps are the other commands.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::step::{Step, Tally};
use crate::workspace::Workspace;
use crate::{chaos, compat, conform, crash, fuzz, instructions, planted, sim, tidy};

/// What builds and servers of a whole run take of the disk; a run with `--quick` takes less.
const DISK_GIB: u64 = 24;
const DISK_GIB_QUICK: u64 = 8;
/// Servers under test go on where one in production would hold its publishers back: the tests
/// want no more than the room they use. Tests of the alarm set their own.
const SMALL_RESERVE: (&str, &str) = ("POTAGER_ALARM__DISK_FREE_BYTES_MIN", "64 MiB");

/// Runs all steps; false when one failed.
pub(crate) fn run(workspace: &Workspace, quick: bool) -> bool {
    let mut tally = Tally::default();
    let wanted = if quick { DISK_GIB_QUICK } else { DISK_GIB };
    if !tally.count("room", format!("df -h .  # wants {wanted} GiB"), || room(workspace, wanted)) {
        // Whatever ran now would fail for a reason that has nothing to do with it.
        return tally.report();
    }
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

/// Whether the target folder's disk has so much free, built artefacts counted in.
fn room(workspace: &Workspace, wanted_gib: u64) -> Result<bool> {
    let target = workspace.target()?;
    let free = kib_of("df", &["-k", "--output=avail"], &workspace.root)?;
    let built = if target.exists() { kib_of("du", &["-sk"], &target)? } else { 0 };
    let has = (free + built) >> 20;
    println!("{has} GiB of {wanted_gib} GiB for builds and servers, {} built before", built >> 20);
    ensure!(
        has >= wanted_gib,
        "the disk of {} is too full; make room there, or set CARGO_TARGET_DIR",
        workspace.root.display()
    );
    Ok(true)
}

/// The first number that a command prints about a path.
fn kib_of(program: &str, words: &[&str], path: &Path) -> Result<u64> {
    let output = Command::new(program)
        .args(words)
        .arg(path)
        .output()
        .with_context(|| format!("starting {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.split_whitespace().find_map(|word| word.parse().ok());
    number.with_context(|| format!("{program} says no number of {}: {text}", path.display()))
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
        Step::cargo("test", &["test", "--workspace", "--locked", "--no-fail-fast"])
            .with_env(SMALL_RESERVE.0, SMALL_RESERVE.1),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_said_before_anything_is_built() {
        let workspace = Workspace::find().unwrap();
        assert!(room(&workspace, 0).unwrap());
        let error = room(&workspace, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("too full"), "{error}");
    }
}
