//! `potager vhosts ...`: virtual hosts, each with its own queues and exchanges. Through the
//! management API of a running server, or with `--data-dir` in the data of a stopped one.

use std::process::ExitCode;

use hyper::Method;
use model::{Admin, Listing};
use serde_json::json;

use super::place::{self, Change, Place};
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
    place: Place,
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
            if args.place.is_offline() {
                output::note("nobody may enter it yet; `potager permissions set` lets users in");
            }
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

fn change(args: &Args, method: Method, name: &str, admin: Admin) -> anyhow::Result<()> {
    args.place.change(Change { method, path: &["vhosts", name], body: None, admin })
}

fn list(args: &Args, is_json: bool) -> anyhow::Result<()> {
    let vhosts = args.place.list(&["vhosts"], Listing::Vhosts)?;
    let names = vhosts.iter().map(|vhost| place::text(vhost, "name"));
    if is_json {
        for name in names {
            output::json(&json!({ "name": name }))?;
        }
        return Ok(());
    }
    let rows: Vec<_> = names.map(|name| vec![name]).collect();
    Ok(output::table(&["vhost"], &rows)?)
}
