//! `potager permissions ...`: what users may do in which virtual host. Expressions are checked by
//! the server, which says what is wrong with one.

use std::process::ExitCode;

use hyper::Method;
use model::{Admin, Listing, Permission, TopicPermission};
use serde_json::{Value, json};

use super::place::{self, Change, Place};
use crate::output;

pub(crate) const EXAMPLE: &str = "\
Example:
  potager permissions set app '.*' '.*' '.*'                       every right in '/'
  potager permissions set web '' '^(tasks|events)$' '^web-'        no right to create anything
  potager permissions topic set web events '^web\\.' '.*'           only these routing keys";

const SET_EXAMPLE: &str = "\
Example:
  potager permissions set app '.*' '.*' '.*' --vhost staging

Expressions are found anywhere in a name; '' allows nothing. The default exchange is amq.default.";
const CLEAR_EXAMPLE: &str = "Example:\n  potager permissions clear app --vhost staging";
const LIST_EXAMPLE: &str = "Example:\n  potager permissions list --vhost / --json";
const LIST_USER_EXAMPLE: &str = "Example:\n  potager permissions list-user app";
const TOPIC_EXAMPLE: &str = "Example:\n  potager permissions topic list";
const TOPIC_SET_EXAMPLE: &str = "\
Example:
  potager permissions topic set app amq.topic '^{username}\\.' '.*'

{username} and {vhost} stand for those names. Without a row every routing key is allowed.";
const TOPIC_CLEAR_EXAMPLE: &str = "Example:\n  potager permissions topic clear app amq.topic";
const TOPIC_LIST_EXAMPLE: &str = "Example:\n  potager permissions topic list --json";

const COLUMNS: [&str; 5] = ["vhost", "user", "configure", "write", "read"];
const TOPIC_COLUMNS: [&str; 5] = ["vhost", "user", "exchange", "write", "read"];

/// Arguments of `permissions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    place: Place,
    /// Virtual host [default: /; for lists all]
    #[arg(long, global = true, value_name = "NAME")]
    vhost: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Say what a user may do in a virtual host, from now on
    #[command(after_help = SET_EXAMPLE)]
    Set {
        /// User name
        name: String,
        /// Queues and exchanges they may create and delete
        configure: String,
        /// Exchanges they may publish to; queues and exchanges they may bind
        write: String,
        /// Queues they may take from; exchanges they may bind from
        read: String,
    },
    /// Take a user's right to enter a virtual host
    #[command(after_help = CLEAR_EXAMPLE)]
    Clear {
        /// User name
        name: String,
    },
    /// Show who may do what
    #[command(after_help = LIST_EXAMPLE)]
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show what one user may do
    #[command(after_help = LIST_USER_EXAMPLE)]
    ListUser {
        /// User name
        name: String,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Restrict routing keys at topic exchanges
    #[command(after_help = TOPIC_EXAMPLE)]
    Topic {
        #[command(subcommand)]
        verb: TopicVerb,
    },
}

#[derive(Debug, clap::Subcommand)]
enum TopicVerb {
    /// Say which routing keys a user may use at an exchange
    #[command(after_help = TOPIC_SET_EXAMPLE)]
    Set {
        /// User name
        name: String,
        /// Name of the exchange, whether it is there yet or not
        exchange: String,
        /// Routing keys of messages
        write: String,
        /// Routing keys of bindings
        read: String,
    },
    /// Lift restrictions
    #[command(after_help = TOPIC_CLEAR_EXAMPLE)]
    Clear {
        /// User name
        name: String,
        /// At this exchange; at all when left out
        exchange: Option<String>,
    },
    /// Show restrictions
    #[command(after_help = TOPIC_LIST_EXAMPLE)]
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Set { name, configure, write, read } => {
            let permission = Permission {
                configure: configure.clone().into(),
                write: write.clone().into(),
                read: read.clone().into(),
            };
            set(&args.place, args.one_vhost(), name, &permission)?;
            for pattern in [configure, write, read] {
                warn(pattern);
            }
        }
        Verb::Clear { name } => clear(args, name)?,
        Verb::List { json } => list(args, None, *json)?,
        Verb::ListUser { name, json } => list(args, Some(name), *json)?,
        Verb::Topic { verb: TopicVerb::Set { name, exchange, write, read } } => {
            set_topic(args, name, exchange, [write, read])?;
        }
        Verb::Topic { verb: TopicVerb::Clear { name, exchange } } => {
            clear_topic(args, name, exchange.as_deref())?;
        }
        Verb::Topic { verb: TopicVerb::List { json } } => {
            let rows = args.place.list(&["topic-permissions"], Listing::TopicPermissions)?;
            print(args, rows, TOPIC_COLUMNS, *json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn one_vhost(&self) -> &str {
        self.vhost.as_deref().unwrap_or("/")
    }
}

/// Sets a permission, and says so.
///
/// # Errors
/// The server or the directory refuses.
pub(crate) fn set(
    place: &Place,
    vhost: &str,
    name: &str,
    permission: &Permission,
) -> anyhow::Result<()> {
    let text = |pattern: &bytes::Bytes| String::from_utf8_lossy(pattern).into_owned();
    let Permission { configure, write, read } = permission;
    let body = json!({ "configure": text(configure), "write": text(write), "read": text(read) });
    let (user, at) = (name.to_owned().into(), vhost.to_owned().into());
    place.change(Change {
        method: Method::PUT,
        path: &["permissions", vhost, name],
        body: Some(body),
        admin: Admin::SetPermission { user, vhost: at, permission: permission.clone() },
    })?;
    let (name, vhost) = (output::printable(name), output::printable(vhost));
    output::note(&format!("permissions of '{name}' in '{vhost}' are set"));
    Ok(())
}

/// An expression that reads like a name matches more than that name.
fn warn(pattern: &str) {
    let is_anchored = pattern.starts_with('^') && pattern.ends_with('$');
    if !is_anchored && !pattern.is_empty() && !pattern.contains(".*") {
        let shown = output::printable(pattern);
        output::note(&format!(
            "note: '{shown}' is found anywhere in a name; '^{shown}$' would be the whole name"
        ));
    }
}

fn clear(args: &Args, name: &str) -> anyhow::Result<()> {
    let vhost = args.one_vhost();
    let (user, at) = (name.to_owned().into(), vhost.to_owned().into());
    args.place.change(Change {
        method: Method::DELETE,
        path: &["permissions", vhost, name],
        body: None,
        admin: Admin::ClearPermission { user, vhost: at },
    })?;
    let (name, vhost) = (output::printable(name), output::printable(vhost));
    output::note(&format!("'{name}' may not enter '{vhost}' any more"));
    Ok(())
}

fn set_topic(
    args: &Args,
    name: &str,
    exchange: &str,
    [write, read]: [&String; 2],
) -> anyhow::Result<()> {
    let vhost = args.one_vhost();
    let permission = TopicPermission { write: write.clone().into(), read: read.clone().into() };
    args.place.change(Change {
        method: Method::PUT,
        path: &["topic-permissions", vhost, name],
        body: Some(json!({ "exchange": exchange, "write": write, "read": read })),
        admin: Admin::SetTopicPermission {
            user: name.to_owned().into(),
            vhost: vhost.to_owned().into(),
            exchange: exchange.to_owned().into(),
            permission,
        },
    })?;
    let (name, exchange) = (output::printable(name), output::printable(exchange));
    output::note(&format!("routing keys of '{name}' at '{exchange}' are restricted"));
    Ok(())
}

fn clear_topic(args: &Args, name: &str, exchange: Option<&str>) -> anyhow::Result<()> {
    let vhost = args.one_vhost();
    let mut path = vec!["topic-permissions", vhost, name];
    path.extend(exchange);
    args.place.change(Change {
        method: Method::DELETE,
        path: &path,
        body: None,
        admin: Admin::ClearTopicPermission {
            user: name.to_owned().into(),
            vhost: vhost.to_owned().into(),
            exchange: exchange.map(|exchange| exchange.to_owned().into()),
        },
    })?;
    output::note(&format!("routing keys of '{}' are free", output::printable(name)));
    Ok(())
}

fn list(args: &Args, user: Option<&str>, is_json: bool) -> anyhow::Result<()> {
    let path = user.map_or_else(|| vec!["permissions"], |user| vec!["users", user, "permissions"]);
    let mut rows = args.place.list(&path, Listing::Permissions)?;
    rows.retain(|row| user.is_none_or(|user| place::text(row, "user") == user));
    print(args, rows, COLUMNS, is_json)
}

fn print(
    args: &Args,
    mut rows: Vec<Value>,
    columns: [&str; 5],
    is_json: bool,
) -> anyhow::Result<()> {
    let vhost = args.vhost.as_deref();
    rows.retain(|row| vhost.is_none_or(|vhost| place::text(row, "vhost") == vhost));
    if is_json {
        for row in &rows {
            output::json(row)?;
        }
        return Ok(());
    }
    let cells = |row: &Value| columns.iter().map(|column| place::text(row, column)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    Ok(output::table(&columns, &rows)?)
}
