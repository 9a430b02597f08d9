//! `potager bench`: the command line of the load generator.
//! Not here: the load itself (`crate::bench`). Called by `main`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;

use crate::bench::{self, Plan, SCENARIOS, beanstalk};
use crate::client::Address;
use crate::exit::Usage;
use crate::output;

/// The end of the help.
pub(crate) const EXAMPLE: &str = "\
Example:
  potager bench amqp --url amqp://guest:guest@127.0.0.1:5672 --scenario confirm-1000";

const AMQP_EXAMPLE: &str = "\
Example:
  potager bench amqp --scenario confirm-1000 --seconds 20 --json
Scenarios (`--scenario list` explains them; other flags change the scenario):
  confirm-200 confirm-1000 sync-1 sync-64 transient idle-connections queues backlog storm";

const BEANSTALK_EXAMPLE: &str = "\
Example:
  potager bench beanstalk --addr 127.0.0.1:11300 --pipeline 100 --seconds 5
  potager bench beanstalk --fill 1000000 --pipeline 1000 --tube backlog

A job that is counted was put, reserved and deleted. Without --pipeline each answer is waited for.";

/// Measure a server from outside
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(Debug, Subcommand)]
enum Protocol {
    /// Any AMQP 0-9-1 server: throughput, latency, processor time and memory
    #[command(after_help = AMQP_EXAMPLE)]
    Amqp(Box<AmqpArgs>),
    /// Any beanstalkd server: put, reserve, delete
    #[command(after_help = BEANSTALK_EXAMPLE)]
    Beanstalk(BeanstalkArgs),
}

#[derive(Debug, clap::Args)]
struct BeanstalkArgs {
    /// The server: HOST:PORT or unix:PATH
    #[arg(long, default_value = "127.0.0.1:11300")]
    addr: beanstalk::Place,
    /// Connections that each put, reserve and delete
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// Commands sent before the first answer is read: so many puts, so many reserves, so many
    /// deletes
    #[arg(long, default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(beanstalk::PIPELINE_MAX)))]
    pipeline: u16,
    /// Bytes of a job's body
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Length of the measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Load before the measurement
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Tube; else one of its own, empty at the start
    #[arg(long)]
    tube: Option<String>,
    /// Process of the server, for its processor time and memory; else it is looked for by its port
    #[arg(long)]
    pid: Option<u32>,
    /// Only put so many jobs and leave them there
    #[arg(long, value_name = "JOBS")]
    fill: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag")]
struct AmqpArgs {
    /// The server; the processor time is shown when it runs on this machine
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672")]
    url: Address,
    /// A named scenario; `list` shows them
    #[arg(long, default_value = "confirm-200")]
    scenario: String,
    /// Bytes of a message body
    #[arg(long)]
    size: Option<usize>,
    /// Unconfirmed messages per publisher
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    window: Option<u32>,
    /// Connections that publish
    #[arg(long, value_parser = clap::value_parser!(u16).range(..=1000))]
    publishers: Option<u16>,
    /// Connections that consume
    #[arg(long, value_parser = clap::value_parser!(u16).range(..=1000))]
    consumers: Option<u16>,
    /// Queues that publishers and consumers are spread over
    #[arg(long)]
    queues: Option<u16>,
    /// Messages per second by the clock; latency counts from when a message was due
    #[arg(long)]
    rate: Option<u32>,
    /// Do not ask for confirms
    #[arg(long)]
    no_confirm: bool,
    /// Consume without acknowledgements
    #[arg(long)]
    auto_ack: bool,
    /// Transient queues and messages
    #[arg(long)]
    transient: bool,
    /// Declare quorum queues
    #[arg(long)]
    quorum: bool,
    /// Unacknowledged deliveries per consumer
    #[arg(long)]
    prefetch: Option<u16>,
    /// Length of the measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Load before the measurement
    #[arg(long, default_value_t = 2.0)]
    warm_up_seconds: f64,
    /// How many connections, queues or messages (idle-connections, queues, backlog, storm)
    #[arg(long)]
    count: Option<usize>,
    /// Leave the queues of `queues` in place
    #[arg(long)]
    keep: bool,
    /// Measure the disk below this folder as well: use the one of the server's data
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached, refuses, or goes away.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.protocol {
        Protocol::Amqp(args) => run_amqp(args),
        Protocol::Beanstalk(args) => run_beanstalk(args),
    }
}

fn run_beanstalk(args: &BeanstalkArgs) -> anyhow::Result<ExitCode> {
    let own = || format!("potager-bench-{}", std::process::id());
    let report = beanstalk::run(&beanstalk::Plan {
        place: args.addr.clone(),
        clients: args.clients,
        pipeline: args.pipeline,
        size_bytes: args.size,
        warm_up: seconds(args.warm_up_seconds)?,
        duration: seconds(args.seconds)?,
        tube: args.tube.clone().unwrap_or_else(own),
        pid: args.pid,
        fill: args.fill,
    })?;
    if args.json {
        output::json(&serde_json::to_value(&report)?)?;
    } else {
        output::line(report.text().trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_amqp(args: &AmqpArgs) -> anyhow::Result<ExitCode> {
    if args.scenario == "list" {
        for scenario in SCENARIOS {
            output::line(&format!("{:<18} {}", scenario.name, scenario.what))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let report = bench::run(&args.url, &plan(args)?)?;
    if args.json {
        output::json(&serde_json::to_value(&report)?)?;
    } else {
        output::line(report.text().trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &AmqpArgs) -> anyhow::Result<Plan> {
    let named = Plan::named(&args.scenario);
    let mut plan = named.ok_or_else(|| {
        Usage(format!("no scenario is called '{}': `--scenario list` shows them", args.scenario))
    })?;
    let set = |slot: &mut usize, value: Option<u16>| {
        *slot = value.map_or(*slot, usize::from);
    };
    set(&mut plan.publishers, args.publishers);
    set(&mut plan.consumers, args.consumers);
    set(&mut plan.queues, args.queues);
    plan.size_bytes = args.size.unwrap_or(plan.size_bytes).max(8);
    plan.window = args.window.map_or(Ok(plan.window), usize::try_from)?;
    plan.rate = args.rate.filter(|rate| *rate > 0);
    plan.is_confirmed &= !args.no_confirm;
    plan.is_auto_ack |= args.auto_ack;
    plan.is_durable &= !args.transient;
    plan.is_quorum = args.quorum;
    plan.prefetch = args.prefetch.unwrap_or(plan.prefetch);
    plan.duration = seconds(args.seconds)?;
    plan.warm_up = seconds(args.warm_up_seconds)?;
    plan.count = args.count.unwrap_or(plan.count);
    plan.is_kept = args.keep;
    plan.flush_dir.clone_from(&args.dir);
    Ok(plan)
}

fn seconds(value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("{value} is not a time"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn flags_change_the_scenario() {
        let words = "x amqp --scenario transient --size 1 --publishers 3 --rate 50 --seconds 0.5";
        let Cli { args } = Cli::parse_from(words.split(' '));
        let Protocol::Amqp(args) = args.protocol else { panic!("another protocol") };
        let plan = plan(&args).unwrap();
        assert_eq!((plan.size_bytes, plan.publishers, plan.rate), (8, 3, Some(50)));
        assert!(!plan.is_confirmed && plan.is_auto_ack && !plan.is_durable);
        assert_eq!(plan.duration, Duration::from_millis(500));
    }

    #[test]
    fn an_unknown_scenario_says_where_the_list_is() {
        let Cli { args } = Cli::parse_from(["x", "amqp", "--scenario", "nope"]);
        let Protocol::Amqp(args) = args.protocol else { panic!("another protocol") };
        assert!(plan(&args).unwrap_err().to_string().contains("--scenario list"));
    }
}
