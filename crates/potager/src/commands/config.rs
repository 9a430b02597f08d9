//! `potager config ...`: the table of settings for people, with values and origins. Changes
//! nothing; reading and checking is the crate `config`'s.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::{cli::SettingArgs, output};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager config default > potager.toml       a commented file to begin with
  potager config explain --config potager.toml";

const EXPLAIN_EXAMPLE: &str = "\
Example:
  POTAGER_AMQP__LISTEN=0.0.0.0:5672 potager config explain

Takes the flags of `potager serve` and shows what it would run with.";
const DEFAULT_EXAMPLE: &str = "Example:\n  potager config default > potager.toml";
const REFERENCE_EXAMPLE: &str = "Example:\n  potager config reference | less";

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show every value in force and who set it
    #[command(after_help = EXPLAIN_EXAMPLE)]
    Explain(Explain),
    /// Print a commented configuration file with all defaults
    #[command(after_help = DEFAULT_EXAMPLE)]
    Default,
    /// Print the reference of all settings (Markdown)
    #[command(after_help = REFERENCE_EXAMPLE)]
    Reference,
}

#[derive(Debug, clap::Args)]
struct Explain {
    #[command(flatten)]
    settings: SettingArgs,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Explain(args) => explain(args)?,
        Verb::Default => output::line(config::default_file().trim_end())?,
        Verb::Reference => output::line(config::reference_page().trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(args: &Explain) -> anyhow::Result<()> {
    let resolved = args.settings.resolve()?;
    if args.json {
        for found in &resolved.values {
            let (key, origin) = (found.setting.key, found.origin.to_string());
            output::json(&json!({ "key": key, "value": raw(&found.value), "origin": origin }))?;
        }
        return Ok(());
    }
    let row = |found: &config::Resolution| {
        vec![found.setting.key.to_owned(), found.value.to_string(), found.origin.to_string()]
    };
    let rows: Vec<_> = resolved.values.iter().map(row).collect();
    Ok(output::table(&["setting", "value", "set by"], &rows)?)
}

/// Numbers stay numbers: 65536, not "64 KiB".
fn raw(value: &config::Value) -> Value {
    match value {
        config::Value::Number(number) | config::Value::Bytes(number) => json!(number),
        config::Value::Flag(is) => json!(is),
        config::Value::Path(_)
        | config::Value::Listen(_)
        | config::Value::SocketFile(_)
        | config::Value::Word(_)
        | config::Value::Text(_) => json!(value.to_string()),
    }
}
