//! `potager publish ...`: messages from arguments, a file or standard input to an exchange or a
//! queue of any AMQP server, each confirmed before it counts. The protocol is `crate::client`'s.

use std::{
    io::{BufRead, BufReader, IsTerminal},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use model::properties::{Builder, Property};
use serde_json::json;

use super::amqp::{self, URL_HELP};
use crate::{
    client::{Address, Client, Event, Message, QueueSpec},
    output,
};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager publish --declare --queue hello 'first message'
  seq 1000 | potager publish --queue hello              one message a line
  potager publish --exchange logs --key app.error --file report.json

Exits 0 when every message is confirmed and was taken by a queue, 1 otherwise.";

/// Publishes without an answer at a time.
const WINDOW: usize = 1000;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest line that is one message.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Arguments of `publish`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("to").required(true).args(["queue", "exchange"]))]
pub(crate) struct Args {
    /// Messages; without them they come from --file, or line by line from standard input
    #[arg(conflicts_with = "file")]
    messages: Vec<String>,
    /// Into this queue
    #[arg(long, short)]
    queue: Option<String>,
    /// To this exchange
    #[arg(long, short, conflicts_with = "queue")]
    exchange: Option<String>,
    /// Routing key
    #[arg(long, short, default_value = "", conflicts_with = "queue")]
    key: String,
    /// This whole file is one message
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// Make the queue if it is not there: durable, no arguments
    #[arg(long, requires = "queue")]
    declare: bool,
    /// Do not ask for the messages to survive a restart
    #[arg(long)]
    transient: bool,
    /// Content type, e.g. application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The server
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672", help = URL_HELP)]
    url: Address,
    /// PEM file with the authority that signs an amqps:// server; else those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

/// What became of the messages.
#[derive(Debug, Default)]
struct Counts {
    published: u64,
    confirmed: u64,
    refused: u64,
    returned: u64,
    /// The server's words for the first one that came back.
    reason: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut client = amqp::connect(&args.url.trusting(args.ca_file.as_ref()))?;
    if let (true, Some(queue)) = (args.declare, &args.queue) {
        client.declare_queue(&QueueSpec {
            name: queue,
            is_durable: true,
            ..QueueSpec::default()
        })?;
    }
    client.confirm_select()?;
    let mut publisher =
        Publisher { args, client, properties: properties(args), progress: bar(args) };
    let mut counts = Counts::default();
    publisher.publish_all(&mut counts)?;
    publisher.progress.finish_and_clear();
    let held_back = held_back(&publisher.client);
    publisher.client.close();
    report(args, &counts, &held_back)
}

/// A bar when the number is known, a count otherwise; only on a terminal.
fn bar(args: &Args) -> ProgressBar {
    match args.messages.len() {
        0 => ProgressBar::no_length(),
        count => ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX)),
    }
}

fn properties(args: &Args) -> Bytes {
    let mut list = Builder::new();
    if !args.transient {
        list = list.with(Property::DeliveryMode, &[2_u8][..]);
    }
    if let Some(kind) = &args.content_type {
        list = list.with(Property::ContentType, kind.clone());
    }
    list.build()
}

struct Publisher<'a> {
    args: &'a Args,
    client: Client,
    properties: Bytes,
    progress: ProgressBar,
}

impl Publisher<'_> {
    fn publish_all(&mut self, counts: &mut Counts) -> anyhow::Result<()> {
        if let Some(path) = &self.args.file {
            let body = std::fs::read(path)
                .with_context(|| format!("cannot read the message file {}", path.display()))?;
            self.publish(&body, counts)?;
        } else if self.args.messages.is_empty() {
            self.publish_lines(counts)?;
        } else {
            for message in &self.args.messages {
                self.publish(message.as_bytes(), counts)?;
            }
        }
        while counts.confirmed + counts.refused < counts.published {
            self.answer(counts)?;
        }
        Ok(())
    }

    fn publish_lines(&mut self, counts: &mut Counts) -> anyhow::Result<()> {
        if std::io::stdin().is_terminal() {
            output::note("one message a line; Ctrl-D ends");
        }
        let mut input = BufReader::new(std::io::stdin());
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = std::io::Read::take(&mut input, LINE_BYTES_MAX);
            if limited.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let body = line.strip_suffix(b"\n").unwrap_or(&line);
            self.publish(body, counts)?;
            if input.buffer().is_empty() {
                // Whoever types waits for each line; a pipe is read in large pieces.
                self.client.flush()?;
            }
        }
    }

    fn publish(&mut self, body: &[u8], counts: &mut Counts) -> anyhow::Result<()> {
        while self.client.unconfirmed() >= WINDOW {
            self.answer(counts)?;
        }
        let routing_key = self.args.queue.as_deref().unwrap_or(&self.args.key);
        self.client.publish(&Message {
            exchange: self.args.exchange.as_deref().unwrap_or(""),
            routing_key,
            is_mandatory: true,
            properties: &self.properties,
            body,
        })?;
        counts.published += 1;
        Ok(())
    }

    fn answer(&mut self, counts: &mut Counts) -> anyhow::Result<()> {
        match self.client.next_event(PATIENCE)? {
            None => bail!(
                "no confirm within {PATIENCE:?}; {} of {} messages are confirmed, the others may \
                 or may not be there{}",
                counts.confirmed,
                counts.published,
                held_back(&self.client)
            ),
            Some(Event::Confirm { is_ack, .. }) => {
                counts.confirmed += u64::from(is_ack);
                counts.refused += u64::from(!is_ack);
                self.progress.inc(1);
            }
            Some(Event::Returned { code, text }) => {
                counts.returned += 1;
                counts.reason.get_or_insert_with(|| format!("{code} {text}"));
            }
            Some(Event::Delivery(_) | Event::Cancelled) => {}
        }
        Ok(())
    }
}

/// What the server says about publishers in general, to be put behind a sentence.
fn held_back(client: &Client) -> String {
    client.held_back().map_or_else(String::new, |reason| {
        format!("; the server holds publishers back: {reason} (see its log and alarms)")
    })
}

fn report(args: &Args, counts: &Counts, held_back: &str) -> anyhow::Result<ExitCode> {
    if args.json {
        output::json(&json!({
            "published": counts.published,
            "confirmed": counts.confirmed,
            "refused": counts.refused,
            "unroutable": counts.returned,
        }))?;
    } else {
        output::note(&format!("{} of {} confirmed", counts.confirmed, counts.published));
    }
    if counts.returned > 0 {
        let lost = counts.returned;
        let next = match &args.queue {
            Some(_) => "make it with --declare, or see `potager queues`",
            None => "bind a queue to the exchange with this key",
        };
        let reason = counts.reason.as_deref().unwrap_or_default();
        bail!("{lost} of them found no queue and are gone ({reason}); {next}");
    }
    if counts.refused > 0 {
        let why = if held_back.is_empty() { ": the queue is full" } else { held_back };
        bail!("{} were refused{why}", counts.refused);
    }
    Ok(ExitCode::SUCCESS)
}
