//! `potager vhosts ...`: virtual hosts, each with its own queues and exchanges. Through the
//! management API of a running server, or with `--data-dir` in the data of a stopped one.

use std::{path::PathBuf, process::ExitCode};

use hyper::Method;
use model::{Admin, Listing};
use serde_json::{Value, json};

use super::{api, offline};
use crate::output;

pub(crate) const EXAMPLE: &str = "\
Example:
  potager vhosts add staging && celery -A app worker --broker=amqp://localhost/staging";

const ADD_EXAMPLE: &str = "Example:\n  potager vhosts add staging";
const DELETE_EXAMPLE: &str = "Example:\n  potager vhosts delete staging --yes";
const LIST_EXAMPLE: &str = "Example:\n  potager vhosts list --json";

/// Arguments of `vhosts`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: api::Server,
    /// Work in this data directory of a stopped server, without asking one
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Create a virtual host
    #[command(after_help = ADD_EXAMPLE)]
    Add {
        /// Its name
        name: String,
    },
    /// Remove a virtual host with all queues and messages in it
    #[command(after_help = DELETE_EXAMPLE)]
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show virtual hosts
    #[command(after_help = LIST_EXAMPLE)]
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Add { name } => {
            change(args, Method::PUT, name, Admin::PutVhost(name.clone().into()))?;
            output::note(&format!("virtual host '{}' is there", output::printable(name)));
        }
        Verb::Delete { name, yes } => {
            let shown = output::printable(name);
            output::confirm(&format!("remove '{shown}' and everything in it?"), *yes)?;
            change(args, Method::DELETE, name, Admin::DeleteVhost(name.clone().into()))?;
            output::note(&format!("virtual host '{shown}' is removed"));
        }
        Verb::List { json } => list(args, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn change(args: &Args, method: Method, name: &str, offline: Admin) -> anyhow::Result<()> {
    match &args.data_dir {
        Some(dir) => offline::change(dir, offline),
        None => args.server.call(method, &api::path(&["vhosts", name]), None).map(drop),
    }
}

fn list(args: &Args, is_json: bool) -> anyhow::Result<()> {
    let names = names(args)?;
    if is_json {
        for name in names {
            output::json(&json!({ "name": name }))?;
        }
        return Ok(());
    }
    let rows: Vec<_> = names.into_iter().map(|name| vec![name]).collect();
    Ok(output::table(&["vhost"], &rows)?)
}

fn names(args: &Args) -> anyhow::Result<Vec<String>> {
    if let Some(dir) = &args.data_dir {
        let rows = offline::list(dir, Listing::Vhosts)?;
        return Ok(rows.iter().map(|row| offline::text(row, "name")).collect());
    }
    let answer = args.server.call(Method::GET, &api::path(&["vhosts"]), None)?;
    let found = answer.as_array().into_iter().flatten();
    let names = found.filter_map(|vhost| vhost.get("name").and_then(Value::as_str));
    Ok(names.map(str::to_owned).collect())
}
