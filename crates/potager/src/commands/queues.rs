//! `potager queues ...`: queues of a running server through its management API: look, empty,
//! remove.

use std::{path::PathBuf, process::ExitCode};

use hyper::Method;
use serde_json::Value;

use super::{amqp::URL_HELP, api, get};
use crate::{client::Address, output};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager queues                     counts of every queue
  potager queues peek celery -n 5    looks at the first five messages of one
  potager queues purge celery        removes the waiting messages of one";

const LIST_EXAMPLE: &str = "Example:\n  potager queues list --vhost staging --json";
const PURGE_EXAMPLE: &str = "Example:\n  potager queues purge celery --yes";
const PEEK_EXAMPLE: &str = "\
Example:
  potager queues peek celery -n 5

The messages are taken and put back over AMQP: they keep their place and are marked as redelivered.
A job is looked at without a trace by the beanstalk commands peek and peek-ready.";
const DELETE_EXAMPLE: &str = "Example:\n  potager queues delete celery --if-empty";

/// Columns of the table: title and field of the answer.
const COLUMNS: [(&str, &str); 7] = [
    ("vhost", "vhost"),
    ("queue", "name"),
    ("ready", "messages_ready"),
    ("unacked", "messages_unacknowledged"),
    ("consumers", "consumers"),
    ("durable", "durable"),
    ("type", "type"),
];

/// Arguments of `queues`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    server: api::Server,
    /// Virtual host; for `list` all when left out
    #[arg(long, global = true, value_name = "NAME")]
    vhost: Option<String>,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show queues with their counts (also without a word)
    #[command(after_help = LIST_EXAMPLE)]
    List,
    /// Look at the first messages of a queue
    #[command(after_help = PEEK_EXAMPLE)]
    Peek(Peek),
    /// Remove the messages of a queue that nobody has: ready, delayed and buried ones
    #[command(after_help = PURGE_EXAMPLE)]
    Purge {
        /// Queue
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Remove a queue with its messages
    #[command(after_help = DELETE_EXAMPLE)]
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct Peek {
    /// Queue
    name: String,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 1)]
    count: u64,
    /// The server
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672", help = URL_HELP)]
    url: Address,
    /// PEM file with the authority that signs an amqps:// server; else those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// Queue
    name: String,
    /// Only when it has no messages
    #[arg(long)]
    if_empty: bool,
    /// Only when it has no consumers
    #[arg(long)]
    if_unused: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        None | Some(Verb::List) => list(args)?,
        Some(Verb::Peek(wanted)) => {
            return get::run(&get::Args {
                queue: wanted.name.clone(),
                count: wanted.count,
                ack: false,
                url: wanted.url.clone(),
                ca_file: wanted.ca_file.clone(),
                json: args.json,
            });
        }
        Some(Verb::Purge { name, yes }) => purge(args, name, *yes)?,
        Some(Verb::Delete(wanted)) => delete(args, wanted)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Args) -> anyhow::Result<()> {
    let mut segments = vec!["queues"];
    segments.extend(args.vhost.as_deref());
    let answer = args.server.call(Method::GET, &api::path(&segments), None)?;
    let queues = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if args.json {
        return Ok(queues.iter().try_for_each(output::json)?);
    }
    let rows: Vec<_> = queues.iter().map(row).collect();
    Ok(output::table(&COLUMNS.map(|(title, _)| title), &rows)?)
}

fn row(queue: &Value) -> Vec<String> {
    let cell = |field: &str| match queue.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(is)) => if *is { "yes" } else { "no" }.to_owned(),
        None | Some(Value::Null) => String::new(),
        Some(other @ (Value::Number(_) | Value::Array(_) | Value::Object(_))) => other.to_string(),
    };
    COLUMNS.iter().map(|(_, field)| cell(field)).collect()
}

/// Path of a queue, and how many messages are in it now.
fn find(args: &Args, name: &str) -> anyhow::Result<(Vec<String>, u64)> {
    let vhost = args.vhost.clone().unwrap_or_else(|| "/".to_owned());
    let segments = vec!["queues".to_owned(), vhost, name.to_owned()];
    let queue = args.server.call(Method::GET, &path(&segments), None)?;
    Ok((segments, queue.get("messages_ready").and_then(Value::as_u64).unwrap_or(0)))
}

fn path(segments: &[String]) -> String {
    api::path(&segments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn purge(args: &Args, name: &str, yes: bool) -> anyhow::Result<()> {
    let (mut segments, ready) = find(args, name)?;
    let shown = output::printable(name);
    output::confirm(&format!("remove {ready} ready messages from '{shown}'?"), yes)?;
    segments.push("contents".to_owned());
    args.server.call(Method::DELETE, &path(&segments), None)?;
    output::note(&format!("queue '{shown}' is empty; what workers hold is not touched"));
    Ok(())
}

fn delete(args: &Args, wanted: &Delete) -> anyhow::Result<()> {
    let (segments, ready) = find(args, &wanted.name)?;
    let shown = output::printable(&wanted.name);
    output::confirm(&format!("remove '{shown}' with {ready} ready messages?"), wanted.yes)?;
    let query = format!("?if-empty={}&if-unused={}", wanted.if_empty, wanted.if_unused);
    args.server.call(Method::DELETE, &(path(&segments) + &query), None)?;
    output::note(&format!("queue '{shown}' is removed"));
    Ok(())
}
