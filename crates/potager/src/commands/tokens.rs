//! `potager tokens ...`: access to the work API for programs. A token is a user with a random
//! password, named and tagged so that it is known as one; what it may do stands in that user's
//! permissions. The secret is shown once and stored as a hash only.

use std::process::ExitCode;

use anyhow::{Context, bail};
use base64ct::{Base64UrlUnpadded, Encoding};
use clap::ValueEnum;
use hyper::Method;
use model::{Admin, Listing, Permission};
use serde_json::{Value, json};

use super::permissions;
use super::place::{self, Change, Place};
use crate::http::{TOKEN_TAG, TOKEN_USER};
use crate::{output, password};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager tokens add --name gpu-7 --may claim --queue '^prompts$'   prints the token once
  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:15672/work/v1/queues
  potager tokens revoke gpu-7

As soon as there is a token, local programs need one, too.";

const ADD_EXAMPLE: &str = "\
Example:
  potager tokens add --name uploads --may publish
  potager tokens add --name gpu-7 --may claim --queue '^prompts$' --queue '^scores$'
  potager tokens add --name report --may results
  potager tokens add --name ops --may admin > token

Expressions are found anywhere in a name unless anchored. Without --queue every queue is meant.
Publishing into queues that are there is not limited by them.";
const LIST_EXAMPLE: &str = "Example:\n  potager tokens list --json";
const REVOKE_EXAMPLE: &str = "Example:\n  potager tokens revoke gpu-7";

/// Bytes of a secret: it cannot be guessed.
const SECRET_BYTES: usize = 32;
/// Longest name; with what stands before it, it is a user's.
const NAME_BYTES_MAX: usize = 200;
/// The expression for the default exchange.
const DEFAULT_EXCHANGE: &str = "^amq\\.default$";
/// The expression for every result.
const RESULTS: &str = "^result\\.";

/// Arguments of `tokens`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a token, or replace the one with this name, and print it
    #[command(after_help = ADD_EXAMPLE)]
    Add(Add),
    /// Show tokens and what they may do
    #[command(after_help = LIST_EXAMPLE)]
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Remove a token; who uses it is shut out at once
    #[command(after_help = REVOKE_EXAMPLE)]
    Revoke {
        /// Name of the token
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Name of the token: letters, digits, dots and dashes
    #[arg(long)]
    name: String,
    /// Queues it is for, as an expression; may be repeated
    #[arg(long, value_name = "REGEX")]
    queue: Vec<String>,
    /// What it may do
    #[arg(long, required = true, value_delimiter = ',')]
    may: Vec<May>,
    /// Virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum May {
    /// Put items into queues
    Publish,
    /// Take items and store their results
    Claim,
    /// Read, store and delete results
    Results,
    /// Everything in the virtual host
    Admin,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Add(add) => make(args, add)?,
        Verb::List { json } => list(args, *json)?,
        Verb::Revoke { name } => revoke(args, name)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn make(args: &Args, add: &Add) -> anyhow::Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let name = add.name.as_str();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
        bail!("the name of a token has 1 to {NAME_BYTES_MAX} letters, digits, dots and dashes");
    }
    let permission = rights(&add.may, &add.queue);
    let secret = secret()?;
    let user = format!("{TOKEN_USER}{name}");
    // The other side hashes; a hash for a place that does not need one would be time lost.
    let is_offline = args.place.is_offline();
    let hash = if is_offline { password::hash(secret.as_bytes())? } else { String::new() };
    args.place.change(Change {
        method: Method::PUT,
        path: &["users", &user],
        body: Some(json!({ "password": secret, "tags": TOKEN_TAG })),
        admin: Admin::PutUser {
            name: user.clone().into(),
            password_hash: hash.into(),
            tags: TOKEN_TAG.into(),
        },
    })?;
    let allowed = permissions::set(&args.place, &add.vhost, &user, &permission);
    allowed.with_context(|| {
        format!("the token has no rights yet; `potager tokens revoke {name}` removes it")
    })?;
    let token = format!("pt_{name}_{secret}");
    if add.json {
        output::json(&json!({ "name": name, "token": token }))?;
    } else {
        output::line(&token)?;
        output::note("this is the only time that the token is shown");
    }
    Ok(())
}

/// 256 random bits as text.
fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).context("the system has no random numbers to give")?;
    Ok(Base64UrlUnpadded::encode_string(&bytes))
}

/// The expressions that stand for what a token may do.
fn rights(may: &[May], queues: &[String]) -> Permission {
    if may.contains(&May::Admin) {
        return Permission::full();
    }
    let every = [".*".to_owned()];
    let queues = if queues.is_empty() { &every[..] } else { queues };
    let queues: Vec<String> = queues.iter().map(|queue| format!("(?:{queue})")).collect();
    let (mut configure, mut write, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let is = |wanted| may.contains(&wanted);
    if is(May::Publish) || is(May::Claim) {
        // A queue that is missing is made.
        configure.extend(queues.iter().map(String::as_str));
    }
    if is(May::Publish) {
        write.push(DEFAULT_EXCHANGE);
    }
    if is(May::Claim) {
        read.extend(queues.iter().map(String::as_str));
    }
    if is(May::Claim) || is(May::Results) {
        write.push(RESULTS);
    }
    if is(May::Results) {
        read.push(RESULTS);
    }
    let any = |parts: &[&str]| parts.join("|").into();
    Permission { configure: any(&configure), write: any(&write), read: any(&read) }
}

fn list(args: &Args, is_json: bool) -> anyhow::Result<()> {
    let rows = args.place.list(&["users"], Listing::Users)?;
    let permissions = args.place.list(&["permissions"], Listing::Permissions)?;
    let users = rows.iter().map(|row| place::text(row, "name"));
    let mut table = Vec::new();
    for user in users {
        let Some(name) = user.strip_prefix(TOKEN_USER) else { continue };
        let of_user = permissions.iter().filter(|row| place::text(row, "user") == user);
        for row in of_user {
            let of = |column| place::text(row, column);
            let columns = ["vhost", "configure", "write", "read"].map(of);
            if is_json {
                let [vhost, configure, write, read] = columns;
                let token: Value = json!({
                    "name": name, "vhost": vhost, "configure": configure, "write": write,
                    "read": read,
                });
                output::json(&token)?;
            } else {
                table.push([vec![name.to_owned()], columns.to_vec()].concat());
            }
        }
    }
    if is_json {
        return Ok(());
    }
    Ok(output::table(&["token", "vhost", "configure", "write", "read"], &table)?)
}

fn revoke(args: &Args, name: &str) -> anyhow::Result<()> {
    let user = format!("{TOKEN_USER}{name}");
    let rows = args.place.list(&["users"], Listing::Users)?;
    if !rows.iter().any(|row| place::text(row, "name") == user) {
        bail!("there is no token '{}'; `potager tokens list` shows them", output::printable(name));
    }
    args.place.change(Change {
        method: Method::DELETE,
        path: &["users", &user],
        body: None,
        admin: Admin::DeleteUser(user.clone().into()),
    })?;
    output::note(&format!("token '{}' is revoked", output::printable(name)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_no_more_than_was_said() {
        let text = |permission: Permission| {
            let Permission { configure, write, read } = permission;
            [configure, write, read].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        let queues = ["^a$".to_owned(), "b|c".to_owned()];
        let all = "(?:^a$)|(?:b|c)";
        let publish = text(rights(&[May::Publish], &queues));
        assert_eq!(publish, [all, DEFAULT_EXCHANGE, ""]);
        assert_eq!(text(rights(&[May::Claim], &queues)), [all, RESULTS, all]);
        assert_eq!(text(rights(&[May::Results], &queues)), ["", RESULTS, RESULTS]);
        assert_eq!(rights(&[May::Admin], &queues), Permission::full());
    }

    #[test]
    fn secrets_differ_and_fit_into_a_header() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert!(one != other && one.len() == 43);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }
}
