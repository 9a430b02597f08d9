//! `potager demo`: the command line of the demonstration.
//! Not here: what happens in it (`crate::demo`). Called by `main`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use crate::client::Address;
use crate::demo::{self, BatchOptions, CrashOptions, Options};
use crate::output;

/// The end of the help.
pub(crate) const EXAMPLE: &str = "\
Example:
  potager demo                 20,000 tasks through the kill of a worker and of the server
  potager demo --kills 100     the ledger under 100 kills of the server
  potager demo batch           10,000 prompts over four workers without a port
Exits with 1 when anything acknowledged was lost.";

const BATCH_EXAMPLE: &str = "\
Example:
  potager demo batch
  potager demo batch --prompts 50000 --json
Exits with 1 when a prompt has no result, or a wrong one.";

/// Show on this machine that nothing acknowledged is lost: kills a worker and the server
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// How many tasks
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..))]
    tasks: u64,
    /// Publish tasks for this long instead of a number of tasks
    #[arg(long)]
    seconds: Option<u32>,
    /// Kill the server this many times at random moments, under publishes and transactions
    #[arg(long)]
    kills: Option<u32>,
    /// Use the built-in client although Celery can be imported
    #[arg(long)]
    no_celery: bool,
    /// The Python that is asked for Celery
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Leave the temporary folder in place
    #[arg(long)]
    keep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Thousands of prompts over four workers without a port: kills two, and the server
    #[command(after_help = BATCH_EXAMPLE)]
    Batch {
        /// How many prompts
        #[arg(long, default_value_t = 10_000,
              value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
        prompts: u64,
        /// Leave the temporary folder in place
        #[arg(long)]
        keep: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One worker process of the demonstration
    #[command(hide = true, after_help = "Example:\n  started by `potager demo`")]
    Worker {
        /// The server
        #[arg(long)]
        url: Address,
        /// Folder of the books
        #[arg(long)]
        books: PathBuf,
        /// Name of the book
        #[arg(long)]
        name: String,
    },
}

/// Runs the command.
///
/// # Errors
/// When a process cannot be started or the demonstration gets stuck.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.role {
        Some(Role::Worker { url, books, name }) => {
            demo::run_worker(url, books, name)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Role::Batch { prompts, keep, json }) => {
            let tally = demo::run_batch(&BatchOptions { prompts: *prompts, is_kept: *keep })?;
            return tell(*json, &tally, &tally.text(), tally.is_kept());
        }
        None => {}
    }
    let duration = args.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    if let Some(kills) = args.kills {
        let account = demo::run_crash(&CrashOptions { kills, duration, is_kept: args.keep })?;
        return tell(args.json, &account, &account.text(), account.is_kept());
    }
    let ledger = demo::run(&Options {
        tasks: args.tasks,
        duration,
        is_kept: args.keep,
        may_use_celery: !args.no_celery,
        python: args.python.clone(),
    })?;
    tell(args.json, &ledger, &ledger.text(), ledger.is_kept())
}

fn tell(
    is_json: bool,
    data: &impl serde::Serialize,
    text: &str,
    is_kept: bool,
) -> anyhow::Result<ExitCode> {
    if is_json {
        output::json(&serde_json::to_value(data)?)?;
    } else {
        let verdict = if is_kept { "nothing was lost" } else { "THE PROMISE WAS BROKEN" };
        output::line(&format!("{text}{verdict}"))?;
    }
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_worker_is_a_role_of_its_own() {
        let words = "x worker --url amqp://127.0.0.1:1 --books /b --name w";
        let Cli { args } = Cli::parse_from(words.split(' '));
        assert!(matches!(args.role, Some(Role::Worker { .. })));
        let Cli { args } = Cli::parse_from(["x", "--kills", "3", "--json"]);
        assert_eq!((args.kills, args.json, args.tasks), (Some(3), true, 20_000));
    }
}
