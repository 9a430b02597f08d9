//! `potager users ...`: who may log in. Through the management API of a running server, or with
//! `--data-dir` in the data of one that is stopped. Passwords are asked for, piped in or read
//! from a file.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use hyper::Method;
use model::{Admin, Listing};
use serde_json::{Value, json};

use super::{api, offline};
use crate::{output, password};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager users add ann --tags administrator
  potager users add app --password-file /run/secrets/app
  potager users list --data-dir ./potager-data     (while the server is stopped)";

const ADD_EXAMPLE: &str = "\
Example:
  potager users add ann --tags administrator       asks for the password twice
  pwgen 20 1 | tee pw | potager users add app      takes it from the pipe";
const PASSWD_EXAMPLE: &str = "Example:\n  potager users passwd ann";
const DELETE_EXAMPLE: &str = "Example:\n  potager users delete guest";
const LIST_EXAMPLE: &str = "Example:\n  potager users list --json";

/// Arguments of `users`.
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
    /// Create a user, or replace one with the same name
    #[command(after_help = ADD_EXAMPLE)]
    Add(Add),
    /// Give a user a new password; tags stay
    #[command(after_help = PASSWD_EXAMPLE)]
    Passwd(Named),
    /// Remove a user; open connections stay
    #[command(after_help = DELETE_EXAMPLE)]
    Delete {
        /// User name
        name: String,
    },
    /// Show users and their tags
    #[command(after_help = LIST_EXAMPLE)]
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    named: Named,
    /// Comma-separated: administrator may do everything, monitoring may read
    #[arg(long, default_value = "")]
    tags: String,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// User name
    name: String,
    /// File with the new password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Add(add) => put(args, &add.named, Some(&add.tags))?,
        Verb::Passwd(named) => put(args, named, None)?,
        Verb::Delete { name } => delete(args, name)?,
        Verb::List { json } => list(args, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `tags` is `None` to keep them, and then the user must be there.
fn put(args: &Args, named: &Named, tags: Option<&str>) -> anyhow::Result<()> {
    let name = named.name.as_str();
    let kept = match tags {
        Some(_) => None,
        None => Some(current_tags(args, name)?),
    };
    let password = password::obtain(named.password_file.as_deref(), true)?;
    let tags = tags.map(str::to_owned).or(kept).unwrap_or_default();
    if let Some(dir) = &args.data_dir {
        let password_hash = password::hash(&password)?.into();
        let name = name.to_owned().into();
        offline::change(dir, Admin::PutUser { name, password_hash, tags: tags.into() })?;
    } else {
        let password = String::from_utf8(password).context("a password must be UTF-8")?;
        let body = json!({ "password": password, "tags": tags });
        args.server.call(Method::PUT, &api::path(&["users", name]), Some(&body))?;
    }
    output::note(&format!("user '{}' is set", output::printable(name)));
    Ok(())
}

fn current_tags(args: &Args, name: &str) -> anyhow::Result<String> {
    let found = users(args)?.into_iter().find(|user| user.name == name);
    let missing = || anyhow::anyhow!("there is no user '{name}'; `potager users add` makes one");
    found.map(|user| user.tags).ok_or_else(missing)
}

fn delete(args: &Args, name: &str) -> anyhow::Result<()> {
    match &args.data_dir {
        Some(dir) => offline::change(dir, Admin::DeleteUser(name.to_owned().into()))?,
        None => drop(args.server.call(Method::DELETE, &api::path(&["users", name]), None)?),
    }
    output::note(&format!("user '{}' is removed", output::printable(name)));
    Ok(())
}

struct User {
    name: String,
    /// Comma-separated.
    tags: String,
}

fn users(args: &Args) -> anyhow::Result<Vec<User>> {
    if let Some(dir) = &args.data_dir {
        let rows = offline::list(dir, Listing::Users)?;
        let user =
            |row| User { name: offline::text(row, "name"), tags: offline::text(row, "tags") };
        return Ok(rows.iter().map(user).collect());
    }
    let answer = args.server.call(Method::GET, &api::path(&["users"]), None)?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    let user = |value: &Value| {
        let tags = value.get("tags").and_then(Value::as_array).into_iter().flatten();
        let tags: Vec<&str> = tags.filter_map(Value::as_str).collect();
        User { name: text(value.get("name")), tags: tags.join(",") }
    };
    Ok(answer.as_array().into_iter().flatten().map(user).collect())
}

fn list(args: &Args, is_json: bool) -> anyhow::Result<()> {
    let users = users(args)?;
    if is_json {
        for user in &users {
            let tags: Vec<&str> = user.tags.split(',').filter(|tag| !tag.is_empty()).collect();
            output::json(&json!({ "name": user.name, "tags": tags }))?;
        }
        return Ok(());
    }
    let rows: Vec<_> = users.into_iter().map(|user| vec![user.name, user.tags]).collect();
    Ok(output::table(&["user", "tags"], &rows)?)
}
