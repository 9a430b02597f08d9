//! `potager batch ...`: a file of rows as items of a queue, and their results as a file.
//! Not here: what happens with them (`crate::batch`).

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use hyper::Uri;
use serde_json::{Map, Value, json};
use worker::{Client, Token};

use crate::batch::{self, Api, Format, Input, Keys, Output, Recipe, Run, Template};
use crate::{exit::Usage, output};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager batch run prompts.csv --to prompts --template 'Summarise: {text}' --model m \\
                --out answers.csv
  potager batch status prompts-0123456789ab

A run that was stopped goes on when it is run again. Workers: `potager work --help`.";

const RUN_EXAMPLE: &str = "\
Example:
  potager batch run prompts.csv --to prompts --template 'Summarise: {text}' --model m \\
                --key id --out answers.csv
  potager batch run jobs.parquet --to jobs --no-wait

Rows are sent as they are, or as chat requests with --template. Exits with 1 when any
row failed; it is in the output with the reason.";
const STATUS_EXAMPLE: &str = "Example:\n  potager batch status NAME --json";
const RESULTS_EXAMPLE: &str = "Example:\n  potager batch results NAME --out answers.parquet";
const ERRORS_EXAMPLE: &str = "Example:\n  potager batch errors NAME";
const RETRY_EXAMPLE: &str = "Example:\n  potager batch retry NAME";
const CANCEL_EXAMPLE: &str = "Example:\n  potager batch cancel NAME --yes";

/// The token, for scripts.
const VARIABLE: &str = "POTAGER_TOKEN";

/// Arguments of `batch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Which server, and who asks.
#[derive(Debug, clap::Args)]
struct Server {
    /// The server's HTTP door
    #[arg(
        long = "server",
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:15672"
    )]
    url: Uri,
    /// File with the token, read anew for each call; or $`POTAGER_TOKEN`
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the authority of the server's certificate; else the system's
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Virtual host of the queue
    #[arg(long, global = true, default_value = "/")]
    vhost: String,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Send what has no result yet, wait, write all results
    #[command(after_help = RUN_EXAMPLE)]
    Run(Box<RunArgs>),
    /// Say where a batch stands
    #[command(after_help = STATUS_EXAMPLE)]
    Status { name: String },
    /// Write what has a result, in order of keys
    #[command(after_help = RESULTS_EXAMPLE)]
    Results {
        name: String,
        /// File; else standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// What it is written in; else by its ending, and JSON lines
        #[arg(long)]
        format: Option<Format>,
        /// Leave cells of CSV that look like formulas as they are
        #[arg(long)]
        csv_raw: bool,
    },
    /// List rows that failed, and why
    #[command(after_help = ERRORS_EXAMPLE)]
    Errors { name: String },
    /// Give rows that failed another try
    #[command(after_help = RETRY_EXAMPLE)]
    Retry { name: String },
    /// Take away what is not done; results stay
    #[command(after_help = CANCEL_EXAMPLE)]
    Cancel {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("chat").args(["template", "template_file"]).multiple(true))]
struct RunArgs {
    /// The rows: .jsonl, .csv or .parquet
    file: PathBuf,
    /// Queue that workers take items from
    #[arg(long, value_name = "QUEUE")]
    to: String,
    /// File for the outcome of every row
    #[arg(long, value_name = "FILE", required_unless_present = "no_wait")]
    out: Option<PathBuf>,
    /// Only send; `batch results` gets what is done later
    #[arg(long, conflicts_with = "out")]
    no_wait: bool,
    /// What the input is written in; else by its ending
    #[arg(long)]
    format: Option<Format>,
    /// What the output is written in; else by its ending
    #[arg(long)]
    out_format: Option<Format>,
    /// Make a chat request of each row, with {column} in the text
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE", conflicts_with = "template")]
    template_file: Option<PathBuf>,
    /// System message of chat requests
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Model of chat requests
    #[arg(long, requires = "chat")]
    model: Option<String>,
    /// Further fields of chat requests, as a JSON object
    #[arg(long, value_name = "JSON", requires = "chat", value_parser = fields)]
    fields: Option<Fields>,
    /// Path that workers post items to; else theirs
    #[arg(long, value_name = "PATH", value_parser = path)]
    endpoint: Option<String>,
    /// Column with a key for each row; else a hash of the item
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Name of the batch; else the file's and a hash of its content
    #[arg(long)]
    name: Option<String>,
    /// Priority of its items, 0 to 255
    #[arg(long, default_value_t = 0)]
    priority: u8,
    /// Leave out rows that cannot be used
    #[arg(long)]
    skip_bad: bool,
    /// Leave cells of CSV that look like formulas as they are
    #[arg(long)]
    csv_raw: bool,
}

type Fields = Map<String, Value>;

/// Runs the command.
///
/// # Errors
/// The server is away or refuses; a file cannot be read or written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let api = args.server.api()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.verb {
            Verb::Run(run) => Box::pin(run_batch(&api, run, args.json)).await,
            Verb::Status { name } => status(&api, name, args.json).await,
            Verb::Results { name, out, format, csv_raw } => {
                let format = match (out, format) {
                    (Some(path), said) => Format::of(path, *said)?,
                    (None, said) => said.unwrap_or(Format::Jsonl),
                };
                let output = out.clone().map(|path| Output { path, format, is_raw: *csv_raw });
                let count = batch::results(&api, name, output.as_ref(), format).await?;
                if args.json && output.is_some() {
                    output::json(&json!({ "written": count }))?;
                } else {
                    output::note(&format!("{count} results"));
                }
                Ok(ExitCode::SUCCESS)
            }
            Verb::Errors { name } => errors(&api, name, args.json).await,
            Verb::Retry { name } => {
                let count = batch::retry(&api, name).await?;
                let text = format!("{count} rows get another try");
                tell(args.json, &json!({ "retried": count }), &text)
            }
            Verb::Cancel { name, yes } => {
                output::confirm(&format!("Take away what is not done of '{name}'?"), *yes)?;
                let (cancelled, held) = batch::cancel(&api, name).await?;
                let text = format!("{cancelled} rows are cancelled, workers still have {held}");
                tell(args.json, &json!({ "cancelled": cancelled, "held": held }), &text)
            }
        }
    })
}

async fn run_batch(api: &Api, args: &RunArgs, is_json: bool) -> anyhow::Result<ExitCode> {
    let run = args.plan(is_json)?;
    let summary = batch::run(api, &run).await?;
    if is_json {
        let mut event = serde_json::to_value(&summary)?;
        if let Some(object) = event.as_object_mut() {
            object.insert("event".to_owned(), json!("end"));
        }
        output::json(&event)?;
    } else {
        output::note(&args.told(&summary));
    }
    let is_good = summary.failed == 0 && summary.bad == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn status(api: &Api, name: &str, is_json: bool) -> anyhow::Result<ExitCode> {
    let status = batch::status(api, name).await?;
    if is_json {
        return tell(true, &serde_json::to_value(&status)?, "");
    }
    let cell = |count: u64| count.to_string();
    let columns = ["ITEMS", "DONE", "FAILED", "GONE", "LEFT", "CLAIMED", "QUEUE", "COST"];
    let row = vec![
        cell(status.items),
        cell(status.done),
        cell(status.failed),
        cell(status.gone),
        cell(status.left),
        cell(status.claimed),
        status.queue,
        status.cost.map(|cost| format!("{cost:.4}")).unwrap_or_default(),
    ];
    output::table(&columns, &[row])?;
    Ok(ExitCode::SUCCESS)
}

async fn errors(api: &Api, name: &str, is_json: bool) -> anyhow::Result<ExitCode> {
    let fallen = batch::errors(api, name).await?;
    if is_json {
        for one in &fallen {
            output::json(&serde_json::to_value(one)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = fallen
        .into_iter()
        .map(|one| {
            let failure = one.failure;
            let message: String = failure.message.chars().take(120).collect();
            vec![one.id, failure.class, failure.attempts.to_string(), message]
        })
        .collect();
    output::table(&["ID", "ERROR", "ATTEMPTS", "MESSAGE"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(is_json: bool, data: &Value, text: &str) -> anyhow::Result<ExitCode> {
    if is_json {
        output::json(data)?;
    } else {
        output::line(text)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Server {
    fn api(&self) -> anyhow::Result<Api> {
        let wrong = || Usage(format!("--server {}: expected http(s)://HOST:PORT", self.url));
        if !matches!(self.url.scheme_str(), Some("http" | "https")) {
            return Err(wrong().into());
        }
        let token = match (&self.token_file, std::env::var(VARIABLE)) {
            (Some(file), _) => Token::File(file.clone()),
            (None, Ok(text)) if !text.is_empty() => Token::Text(text),
            (None, _) => Token::None,
        };
        let client = Client::new(&self.url, &self.vhost, token, self.ca_file.as_deref())?;
        Ok(Api::new(client, self.url.to_string()))
    }
}

impl RunArgs {
    fn plan(&self, is_json: bool) -> anyhow::Result<Run> {
        let text = match &self.template_file {
            Some(path) => Some(
                fs::read_to_string(path)
                    .with_context(|| format!("reading the template {}", path.display()))?,
            ),
            None => self.template.clone(),
        };
        let template = text.as_deref().map(Template::parse).transpose()?;
        let recipe = Recipe {
            template,
            template_text: text,
            system: self.system.clone(),
            model: self.model.clone(),
            fields: self.fields.clone().unwrap_or_default(),
            endpoint: self.endpoint.clone(),
            keys: self.key.clone().map_or(Keys::Content, Keys::Column),
        };
        if let Some(name) = &self.name {
            batch::check_name(name)?;
        }
        let format = Format::of(&self.file, self.format)?;
        let output = self.out.clone().map(|path| {
            let format = Format::of(&path, self.out_format)?;
            Ok::<_, Usage>(Output { path, format, is_raw: self.csv_raw })
        });
        Ok(Run {
            input: Input { path: self.file.clone(), format, skips_bad: self.skip_bad },
            recipe,
            queue: self.to.clone(),
            priority: self.priority,
            name: self.name.clone(),
            output: output.transpose()?,
            is_json,
        })
    }

    fn told(&self, summary: &batch::Summary) -> String {
        let batch::Summary { name, queue, items, before, sent, done, failed, bad, seconds, .. } =
            summary;
        let mut parts =
            vec![format!("batch {name}: {items} items, {before} had a result, {sent} in {queue}")];
        if let Some(out) = &self.out {
            parts
                .push(format!("  {done} done, {failed} failed, {seconds:.1} s: {}", out.display()));
        }
        if *bad > 0 {
            parts.push(format!("  {bad} rows could not be used"));
        }
        if *failed > 0 {
            parts.push(format!("  `potager batch retry {name}` gives them another try"));
        }
        parts.join("\n")
    }
}

fn fields(text: &str) -> Result<Fields, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object: {error}"))
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("a path begins with /".to_owned()) }
}
