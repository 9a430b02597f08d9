//! `potager get QUEUE`: messages of a queue of any AMQP server, put back unless `--ack`. The
//! protocol is `crate::client`'s.

use std::{path::PathBuf, process::ExitCode};

use base64ct::{Base64, Encoding};
use indicatif::ProgressBar;
use model::{Properties, properties::Property};
use serde_json::{Value, json};

use super::amqp::{self, URL_HELP};
use crate::{
    client::{Address, Delivery},
    output,
};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager get hello                  looks at the first message and puts it back
  potager get hello --count 100 --ack --json > taken.jsonl

Messages that are put back keep their place and are marked as redelivered.";

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Queue
    pub(super) queue: String,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 1)]
    pub(super) count: u64,
    /// Take them out of the queue; each leaves it once it is printed
    #[arg(long)]
    pub(super) ack: bool,
    /// The server
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672", help = URL_HELP)]
    pub(super) url: Address,
    /// PEM file with the authority that signs an amqps:// server; else those of the system
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Print one JSON object a line; bodies that are no text in base64
    #[arg(long)]
    pub(super) json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut client = amqp::connect(&args.url.trusting(args.ca_file.as_ref()))?;
    let progress =
        if args.count > 1 { ProgressBar::new(args.count) } else { ProgressBar::hidden() };
    let mut count = 0;
    while count < args.count {
        let Some(delivery) = client.get(&args.queue, false)? else { break };
        progress.suspend(|| show(args, &delivery))?;
        if args.ack {
            client.ack(delivery.tag, false);
        }
        count += 1;
        progress.inc(1);
    }
    progress.finish_and_clear();
    // What was not acknowledged returns to its place when the connection ends.
    client.close();
    if count == 0 {
        output::note(&format!("queue '{}' is empty", output::printable(&args.queue)));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Args, delivery: &Delivery) -> Result<(), output::Closed> {
    if args.json {
        return output::json(&as_json(delivery));
    }
    output::line(&String::from_utf8_lossy(&delivery.body))
}

fn as_json(delivery: &Delivery) -> Value {
    let properties = Properties::parse(&delivery.properties).unwrap_or_default();
    let text = |property| properties.get(property).map(String::from_utf8_lossy);
    let mut object = json!({
        "exchange": delivery.exchange,
        "routing_key": delivery.routing_key,
        "redelivered": delivery.is_redelivered,
        "content_type": text(Property::ContentType),
        "correlation_id": text(Property::CorrelationId),
        "reply_to": text(Property::ReplyTo),
        "delivery_mode": properties.delivery_mode(),
        "priority": properties.priority(),
    });
    let (field, body) = match std::str::from_utf8(&delivery.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", Base64::encode_string(&delivery.body)),
    };
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null());
        fields.insert(field.to_owned(), body.into());
    }
    object
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::properties::Builder;

    use super::*;

    fn delivery(body: &'static [u8]) -> Delivery {
        Delivery {
            tag: 1,
            is_redelivered: true,
            exchange: String::new(),
            routing_key: "q".into(),
            properties: Builder::new().with(Property::DeliveryMode, &[2_u8][..]).build(),
            body: Bytes::from_static(body),
        }
    }

    #[test]
    fn a_text_body_is_text_and_others_are_base64() {
        let shown = as_json(&delivery("käse".as_bytes()));
        assert_eq!(shown["body"], "käse");
        assert_eq!(shown["delivery_mode"], 2);
        assert!(shown.get("priority").is_none(), "absent properties are left out");
        let shown = as_json(&delivery(b"\xff\x00"));
        assert_eq!(shown["body_base64"], "/wA=");
        assert!(shown.get("body").is_none());
    }
}
