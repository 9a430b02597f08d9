//! `potager users ...`: who may log in. Through the management API of a running server, or with
//! `--data-dir` in the data of one that is stopped. Passwords are asked for, piped in or read
//! from a file.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use hyper::Method;
use model::{Admin, Listing, Permission};
use serde_json::{Value, json};

use super::{
    permissions,
    place::{self, Change, Place},
};
use crate::{output, password};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager users add ann --tags administrator
  potager users add app --full-access --password-file /run/secrets/app
  potager users list --data-dir ./potager-data     (while the server is stopped)";

const ADD_EXAMPLE: &str = "\
Example:
  potager users add ann --tags administrator       asks for the password twice
  pwgen 20 1 | tee pw | potager users add app      takes it from the pipe";
const TAGS_EXAMPLE: &str = "Example:\n  potager users tags ann monitoring,impersonator";
const PASSWD_EXAMPLE: &str = "Example:\n  potager users passwd ann";
const DELETE_EXAMPLE: &str = "Example:\n  potager users delete guest";
const LIST_EXAMPLE: &str = "Example:\n  potager users list --json";

/// Arguments of `users`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Create a user, or replace one with the same name
    #[command(after_help = ADD_EXAMPLE)]
    Add(Add),
    /// Give a user a new password; tags stay
    #[command(after_help = PASSWD_EXAMPLE)]
    Passwd(Named),
    /// Give a user other tags; the password stays
    #[command(after_help = TAGS_EXAMPLE)]
    Tags {
        /// User name
        name: String,
        /// Comma-separated; '' for none
        tags: String,
    },
    /// Remove a user with their permissions; their connections end
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
    /// Comma-separated: administrator, monitoring, policymaker, management (over HTTP),
    /// impersonator
    #[arg(long, default_value = "")]
    tags: String,
    /// Allow everything in the virtual host '/'; without it `potager permissions` says what the
    /// user may do
    #[arg(long)]
    full_access: bool,
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
        Verb::Add(add) => {
            put(args, &add.named, Some(&add.tags))?;
            let name = &add.named.name;
            if add.full_access {
                permissions::set(&args.place, "/", name, &Permission::full())?;
            } else {
                hint(args, name)?;
            }
        }
        Verb::Passwd(named) => put(args, named, None)?,
        Verb::Tags { name, tags } => set_tags(args, name, tags)?,
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
    // The other side hashes; a hash for a place that does not need one would be time lost.
    let is_offline = args.place.is_offline();
    let hash = if is_offline { password::hash(&password)? } else { String::new() };
    let password = String::from_utf8(password).context("a password must be UTF-8")?;
    args.place.change(Change {
        method: Method::PUT,
        path: &["users", name],
        body: Some(json!({ "password": password, "tags": tags })),
        admin: Admin::PutUser {
            name: name.to_owned().into(),
            password_hash: hash.into(),
            tags: tags.into(),
        },
    })?;
    output::note(&format!("user '{}' is set", output::printable(name)));
    Ok(())
}

/// A new user can log in and do nothing; that should surprise nobody.
fn hint(args: &Args, name: &str) -> anyhow::Result<()> {
    let rows = args.place.list(&["users", name, "permissions"], Listing::Permissions)?;
    if !rows.iter().any(|row| place::text(row, "user") == name) {
        let name = output::printable(name);
        output::note(&format!(
            "'{name}' may not enter any virtual host yet; for everything in '/':\n  \
             potager permissions set {name} '.*' '.*' '.*'"
        ));
    }
    Ok(())
}

fn set_tags(args: &Args, name: &str, tags: &str) -> anyhow::Result<()> {
    current_tags(args, name)?;
    args.place.change(Change {
        method: Method::PUT,
        path: &["users", name],
        body: Some(json!({ "tags": tags })),
        admin: Admin::SetTags { name: name.to_owned().into(), tags: tags.to_owned().into() },
    })?;
    output::note(&format!("tags of '{}' are set", output::printable(name)));
    Ok(())
}

fn current_tags(args: &Args, name: &str) -> anyhow::Result<String> {
    let found = users(args)?.into_iter().find(|user| user.name == name);
    let missing = || anyhow::anyhow!("there is no user '{name}'; `potager users add` makes one");
    found.map(|user| user.tags).ok_or_else(missing)
}

fn delete(args: &Args, name: &str) -> anyhow::Result<()> {
    args.place.change(Change {
        method: Method::DELETE,
        path: &["users", name],
        body: None,
        admin: Admin::DeleteUser(name.to_owned().into()),
    })?;
    output::note(&format!("user '{}' is removed", output::printable(name)));
    Ok(())
}

struct User {
    name: String,
    /// Comma-separated.
    tags: String,
}

fn users(args: &Args) -> anyhow::Result<Vec<User>> {
    let rows = args.place.list(&["users"], Listing::Users)?;
    let user = |row: &Value| {
        // A list over HTTP, a text in the data.
        let list = row.get("tags").and_then(Value::as_array);
        let tags = list.map_or_else(
            || place::text(row, "tags"),
            |list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        );
        User { name: place::text(row, "name"), tags }
    };
    Ok(rows.iter().map(user).collect())
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
