//! `potager work ...`: the dial-out worker on the command line: its arguments, its signals. The
//! worker itself is the crate `worker`; what is shown of it stands in `show`.

mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use config::{LogFormat, Logging};
use hyper::Uri;
use tokio::signal::unix::{Signal, SignalKind, signal};
use worker::{
    Concurrency, EndingPlan, Fault, HttpPlan, Limits, Plan, Policy, SpoolPlan, Stop, Token, Work,
    Worker,
};

use crate::{exit::Usage, logging};
use show::Show;

pub(crate) const EXAMPLE: &str = "\
Example:
  potager work --server https://jobs.example --token-file token --queue prompts \\
               --http http://127.0.0.1:8000 --http http://127.0.0.1:8001
  potager work --server http://127.0.0.1:15672 --queue images --exec './convert --fast'

SIGTERM or Ctrl-C ends it in order, a second one at once.";

/// The token, for scripts.
const VARIABLE: &str = "POTAGER_TOKEN";
/// Levels of the log, as in `logging.level`.
const LEVEL_VARIABLE: &str = "POTAGER_LOGGING_LEVEL";

/// Arguments of `work`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["http", "exec", "exec_lines"]))]
pub(crate) struct Args {
    /// The server's HTTP door; port 443 or 80 unless named
    #[arg(long, value_name = "URL")]
    server: Uri,
    /// File with the token, read anew for each call; or $`POTAGER_TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the authority of the server's certificate; else the system's
    #[arg(long, alias = "ca", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Virtual host of the queues
    #[arg(long, default_value = "/")]
    vhost: String,
    /// Take items from this queue; may be repeated
    #[arg(long, short, required = true)]
    queue: Vec<String>,
    /// Name of this worker; else one for this machine
    #[arg(long)]
    name: Option<String>,
    /// Post items to this model server; may be repeated
    #[arg(long, value_name = "URL")]
    http: Vec<Uri>,
    /// Where an item goes that names no path, if the server's URL has none
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    http_path: String,
    /// What a probe of a model server asks for; else /health, then /v1/models
    #[arg(long, value_name = "PATH")]
    health_path: Option<String>,
    /// Run this for each item: body on standard input, result on standard output
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Run this once and speak JSON lines with it, one in, one out
    #[arg(long, value_name = "CMD")]
    exec_lines: Option<String>,
    /// Items at a time, for each model server or in all; auto finds out
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = concurrency)]
    concurrency: Concurrency,
    /// Seconds that items stay ours without a renewal
    #[arg(long, value_name = "S", default_value_t = 60)]
    lease: u64,
    /// Seconds after which a process is asked to end
    #[arg(long, value_name = "S", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    soft_limit: Option<u64>,
    /// Seconds after which an item is stopped and fails
    #[arg(long, value_name = "S", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    hard_limit: Option<u64>,
    /// Which of two results of one key stays
    #[arg(long, value_name = "first|last", default_value = "first", value_parser = policy)]
    policy: Policy,
    /// Folder where results wait while the server is away
    #[arg(long, value_name = "DIR", default_value = "potager-spool")]
    spool: PathBuf,
    /// MiB in it above which nothing more is claimed
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    spool_max: u64,
    /// Seconds that running items get at the end; then they go back
    #[arg(long, value_name = "S", default_value_t = 30)]
    drain_seconds: u64,
    /// End in order once this file is there
    #[arg(long, value_name = "PATH")]
    drain_file: Option<PathBuf>,
    /// End in order after so many seconds without an item
    #[arg(long, value_name = "S")]
    exit_idle: Option<u64>,
    /// What this machine costs an hour, for the figures
    #[arg(long, value_name = "X")]
    price_per_hour: Option<f64>,
    /// Seconds between two reports
    #[arg(long, value_name = "S", default_value_t = 10,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    status_seconds: u64,
    /// Print reports as JSON lines on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plan = plan(args, std::env::var(VARIABLE).ok())?;
    let mut show = Show::new(args.json);
    start_logging(&show)?;
    if plan.server.scheme_str() == Some("http") && !is_loopback(&plan.server) {
        tracing::warn!(
            "http:// sends the token and all items in the clear; use https:// outside of trials"
        );
    }
    let worker = Worker::open(plan).map_err(explain)?;
    show.start(&worker)?;
    // One thread: the worker waits, and what it runs are other processes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let last = runtime.block_on(async {
        let stop = Stop::new();
        let _listening = tokio::spawn(press_on_signals(
            stop.clone(),
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ));
        Box::pin(worker.run(&stop, |snapshot| show.status(snapshot))).await.map_err(explain)
    })?;
    show.end(&last)?;
    Ok(ExitCode::SUCCESS)
}

async fn press_on_signals(stop: Stop, mut terminate: Signal, mut interrupt: Signal) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.press();
    }
}

/// A wrong plan is a mistake on the command line.
fn explain(fault: Fault) -> anyhow::Error {
    if let Fault::Plan(text) = fault { Usage(text).into() } else { fault.into() }
}

fn start_logging(show: &Show) -> anyhow::Result<()> {
    let usual = if show.has_bar() { "warn" } else { "info" };
    let level = std::env::var(LEVEL_VARIABLE).unwrap_or_else(|_| usual.to_owned());
    let format = if show.is_json() { LogFormat::Json } else { LogFormat::Text };
    logging::start(&Logging { format, level }).map(drop)
}

fn plan(args: &Args, token: Option<String>) -> Result<Plan, Usage> {
    let seconds = Duration::from_secs;
    let split = |text: &String| worker::split_command(text).map_err(|f| Usage(f.to_string()));
    let work = match (&args.exec, &args.exec_lines) {
        (Some(command), _) => Work::Exec(split(command)?),
        (None, Some(command)) => Work::Lines(split(command)?),
        (None, None) => Work::Http(HttpPlan {
            upstreams: args.http.clone(),
            health_path: args.health_path.clone(),
            path: args.http_path.clone(),
        }),
    };
    Ok(Plan {
        server: args.server.clone(),
        vhost: args.vhost.clone(),
        token: match (&args.token_file, token.filter(|token| !token.is_empty())) {
            (Some(file), _) => Token::File(file.clone()),
            (None, Some(text)) => Token::Text(text),
            (None, None) => Token::None,
        },
        ca_file: args.ca_file.clone(),
        queues: args.queue.clone(),
        name: args.name.clone(),
        work,
        concurrency: args.concurrency,
        lease: seconds(args.lease),
        limits: Limits { soft: args.soft_limit.map(seconds), hard: args.hard_limit.map(seconds) },
        policy: args.policy,
        spool: SpoolPlan {
            dir: args.spool.clone(),
            bytes_max: args.spool_max.saturating_mul(1 << 20),
        },
        ending: EndingPlan {
            drain: seconds(args.drain_seconds),
            drain_file: args.drain_file.clone(),
            idle: args.exit_idle.map(seconds),
        },
        price_per_hour: args.price_per_hour,
        status_every: seconds(args.status_seconds),
    })
}

fn is_loopback(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn concurrency(text: &str) -> Result<Concurrency, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Concurrency::Auto),
        (_, Ok(count)) if (1..=4096).contains(&count) => Ok(Concurrency::Fixed(count)),
        _ => Err("expected auto, or 1 to 4096".to_owned()),
    }
}

fn policy(text: &str) -> Result<Policy, String> {
    match text {
        "first" => Ok(Policy::First),
        "last" => Ok(Policy::Last),
        _ => Err("expected first or last".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(format!("work {line}").split(' ')).map(|cli| cli.args)
    }

    const LEAST: &str = "--server https://h --queue q";

    #[test]
    fn exactly_one_way_of_running_is_named() {
        assert!(parsed(LEAST).is_err());
        assert!(parsed(&format!("{LEAST} --exec a --http http://h")).is_err());
        let args = parsed(&format!("{LEAST} --http http://a --http http://b -q r")).unwrap();
        let plan = plan(&args, None).unwrap();
        assert!(matches!(&plan.work, Work::Http(http) if http.upstreams.len() == 2));
        assert_eq!(plan.queues, ["q", "r"]);
        assert!(plan.check().is_ok());
    }

    #[test]
    fn the_token_comes_from_the_file_or_the_environment() {
        let args = parsed(&format!("{LEAST} --exec cat")).unwrap();
        assert!(matches!(plan(&args, Some("t".into())).unwrap().token, Token::Text(_)));
        assert!(matches!(plan(&args, Some(String::new())).unwrap().token, Token::None));
        let args = parsed(&format!("{LEAST} --exec cat --token-file f")).unwrap();
        assert!(matches!(plan(&args, Some("t".into())).unwrap().token, Token::File(_)));
    }

    #[test]
    fn values_are_checked() {
        for wrong in ["--concurrency 0", "--policy best", "--hard-limit 0", "--status-seconds 0"] {
            assert!(parsed(&format!("{LEAST} --exec cat {wrong}")).is_err(), "{wrong}");
        }
        assert_eq!(concurrency("auto"), Ok(Concurrency::Auto));
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        let is = |text: &str| is_loopback(&text.parse().unwrap());
        assert!(is("http://127.0.0.1:1") && is("http://[::1]:1") && is("http://localhost"));
        assert!(!is("http://example.org"));
    }
}
