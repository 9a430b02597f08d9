//! `potager check-config FILE`: every problem of a configuration file with line and column. Reads
//! that file only, no environment and no flags.

use std::{path::PathBuf, process::ExitCode};

use config::{Problem, Sources};
use serde_json::json;

use crate::{cli, exit, output};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager check-config /etc/potager.toml && systemctl restart potager

Exits 0 when the file is good and 2 when it is not.";

/// Arguments of `check-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file (TOML)
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = cli::read_file(args.file.clone())?;
    let sources = Sources { file: Some(file), ..Sources::default() };
    let problems = config::resolve(&sources).err().unwrap_or_default();
    if args.json {
        let list: Vec<_> = problems.iter().map(as_json).collect();
        output::json(&json!({ "ok": problems.is_empty(), "problems": list }))?;
    } else {
        for problem in &problems {
            output::note(&problem.to_string());
        }
        match problems.len() {
            0 => output::line(&format!("{}: good", args.file.display()))?,
            count => output::note(&format!("{count} wrong; correct the file and check again")),
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { exit::usage() })
}

fn as_json(problem: &Problem) -> serde_json::Value {
    let (line, column) = match problem.place {
        config::Place::File { line, column, .. } => (line, column),
        config::Place::Environment(_) | config::Place::Flag(_) => (0, 0),
    };
    json!({ "line": line, "column": column, "message": problem.message })
}
