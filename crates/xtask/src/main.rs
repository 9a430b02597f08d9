//! The developer's command, `cargo x`: one file per command, and the house's rules as tests.
//!
//! Lives here: the command line and nothing else; each command is the module of its name.
//! Not here: anything the product needs at run time. Called through the alias in
//! `.cargo/config.toml`, by people and by `.ci/run`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "these commands speak to a terminal")]

mod chaos;
mod compat;
mod conform;
mod crash;
mod damage;
mod fix;
mod fuzz;
mod instructions;
mod metadata;
mod planted;
mod promises;
mod sim;
mod step;
mod test;
mod tidy;
mod verify;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo x", about = "Potager's developer commands", long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything, writing nothing outside the target folder; exactly what CI runs
    Verify {
        /// Leave out the release build and the conformance suites
        #[arg(long)]
        quick: bool,
    },
    /// Format, apply clippy's suggestions, regenerate COMPAT.md
    Fix,
    /// Check the house's rules: arrows, sizes, heads, names, links, dependencies
    Tidy,
    /// Run the tests of one crate, or of all
    Test {
        /// Which crate; all when left out
        package: Option<String>,
        /// Passed on to `cargo test`
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Run unmodified clients against a release build: `cargo x conform [door] [...]`
    Conform {
        /// Passed on to conformance/run.py
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Kill a release build of the server many times and account for every message
    Crash {
        /// How many kills
        #[arg(long, default_value_t = 100)]
        kills: u32,
        /// Passed on to `potager demo`: --seconds, --keep, --json
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Cut the power, fail the disk and crowd the doors of a release build: `cargo x chaos [part]`
    Chaos {
        /// Passed on to chaos/run.py: parts, --cycles, --require, --keep
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Run the fuzz targets, each for a while: `cargo x fuzz [TARGET ...]`
    Fuzz {
        /// Which targets; all when left out
        targets: Vec<String>,
        /// Seconds of each target
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Use the seeded generator, as where libFuzzer cannot be built
        #[arg(long)]
        generator: bool,
    },
    /// Flip every bit of a small log and cut its files short at every byte, in a release build
    Damage,
    /// Count instructions per message under Callgrind and hold them against the budget
    Instructions {
        /// Write what was found into the budget
        #[arg(long)]
        update: bool,
    },
    /// Run the whole server in one thread from a seed: --seed N, --seeds A..B, --hours H, --help
    Sim {
        /// Passed on to the simulator
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Plant known bugs in a copy of the crates; the simulator must find each
    Planted {
        /// Which bugs; all when left out
        names: Vec<String>,
        /// Only say which there are
        #[arg(long)]
        list: bool,
    },
    /// Write the list of proofs under each promise of PROMISES.md
    Promises,
    /// Collect the tagged deviations of the front doors into COMPAT.md
    Compat {
        /// Write nothing; fail when COMPAT.md is out of date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo x: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)` means that the command did its work and found something wrong, already printed.
fn run(command: Command) -> anyhow::Result<bool> {
    let workspace = Workspace::find()?;
    match command {
        Command::Verify { quick } => Ok(verify::run(&workspace, quick)),
        Command::Fix => fix::run(&workspace),
        Command::Tidy => tidy::run(&workspace),
        Command::Test { package, rest } => test::run(&workspace, package.as_deref(), &rest),
        Command::Conform { rest } => conform::run(&workspace, &rest),
        Command::Crash { kills, rest } => crash::run(&workspace, kills, &rest),
        Command::Chaos { rest } => chaos::run(&workspace, &rest),
        Command::Fuzz { targets, seconds, generator } => {
            fuzz::run(&workspace, &fuzz::Plan { targets, seconds, is_generated: generator })
        }
        Command::Damage => damage::run(&workspace),
        Command::Instructions { update } => instructions::run(&workspace, update),
        Command::Sim { words } => sim::run(&workspace, &words),
        Command::Planted { names, list } => planted::run(&workspace, &names, list),
        Command::Promises => promises::run(&workspace),
        Command::Compat { check } => compat::run(&workspace, check),
    }
}
