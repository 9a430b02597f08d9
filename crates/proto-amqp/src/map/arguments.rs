//! Argument tables of declarations, bindings and consumers -> the model's typed options.
//!
//! Every error names the argument in `RabbitMQ`'s own words. Unknown arguments are kept, never
//! refused. Numbers compare by value, whichever integer type carries them.
//! Source of texts and bounds: observed, `RabbitMQ` 3.10.8.
//!
//! Deviation(AMQP-016): of several faults in one method the one that shows without asking the
//! engine is named: arguments, properties and the user of a message before names that do not exist.

use bytes::Bytes;
use model::{
    ExchangeKind, ExchangeSpec, Overflow, QueueKind, QueueOptions,
    table::{self, Value},
};

use super::{Failure, name, precondition, printable};

/// Longest time any timer argument may ask for: ten years of 365 days in milliseconds.
const TIME_MS_MAX: u64 = 315_360_000_000;

/// Where an argument stands, for error texts.
#[derive(Clone, Copy)]
struct Place<'a> {
    noun: &'static str,
    name: &'a [u8],
    vhost: &'a [u8],
}

impl Place<'_> {
    /// `queue 'q' in vhost '/'`.
    fn printed(self) -> String {
        format!("{} '{}' in vhost '{}'", self.noun, printable(self.name), printable(self.vhost))
    }

    /// The usual complaint.
    fn invalid(self, argument: &str, why: &str) -> Failure {
        precondition(format!("invalid arg '{argument}' for {}: {why}", self.printed()))
    }

    fn unacceptable(self, argument: &str, value: &Value<'_>) -> Failure {
        self.invalid(argument, &format!("{{unacceptable_type,{}}}", kind_name(value)))
    }

    fn not_integer(self, argument: &str, value: &Value<'_>) -> Failure {
        self.invalid(argument, &format!("\"expected integer, got {}\"", kind_name(value)))
    }

    /// A number that may be zero.
    fn unsigned(self, argument: &str, value: &Value<'_>) -> Result<u64, Failure> {
        let number = value.as_integer().ok_or_else(|| self.not_integer(argument, value))?;
        u64::try_from(number)
            .map_err(|_| self.invalid(argument, &format!("{{value_negative,{number}}}")))
    }

    /// Milliseconds within what a timer can hold.
    fn time_ms(self, argument: &str, value: &Value<'_>) -> Result<u64, Failure> {
        let number = self.unsigned(argument, value)?;
        if number > TIME_MS_MAX {
            return Err(self.invalid(argument, &format!("{{value_too_large,{number}}}")));
        }
        Ok(number)
    }

    fn text<'v>(self, argument: &str, value: &Value<'v>) -> Result<&'v [u8], Failure> {
        value.as_text().ok_or_else(|| self.unacceptable(argument, value))
    }

    /// The name of an exchange: another wording for the same mistake.
    fn exchange_name(self, argument: &str, value: &Value<'_>) -> Result<Bytes, Failure> {
        let Some(text) = value.as_text() else {
            return Err(precondition(format!(
                "invalid type '{}' for arg '{argument}' in {}",
                kind_name(value),
                self.printed()
            )));
        };
        if text.len() > model::limits::NAME_BYTES_MAX {
            return Err(self.invalid(argument, "name is longer than 255 bytes"));
        }
        Ok(name(text))
    }
}

/// The Erlang broker's word for the type of a value.
pub(super) fn kind_name(value: &Value<'_>) -> &'static str {
    match *value {
        Value::Bool(_) => "bool",
        Value::Int(number) if i32::try_from(number).is_ok() => "signedint",
        Value::Int(_) => "long",
        Value::Uint(_) => "unsignedint",
        Value::Float(_) => "double",
        Value::Decimal(..) => "decimal",
        Value::Text(_) => "longstr",
        Value::Bytes(_) => "binary",
        Value::Array(_) => "array",
        Value::Timestamp(_) => "timestamp",
        Value::Table(_) => "table",
        Value::Void => "void",
    }
}

/// Reads the arguments of `queue.declare`.
///
/// Deviation(AMQP-001): arguments that belong to one queue type are accepted for the other, and a
/// quorum queue may be exclusive, transient or auto-delete: both types are the one durable queue.
pub(crate) fn queue_options(
    queue: &[u8],
    vhost: &[u8],
    arguments: &[u8],
) -> Result<QueueOptions, Failure> {
    let place = Place { noun: "queue", name: queue, vhost };
    let mut options = QueueOptions::default();
    for (argument, value) in table::fields(arguments) {
        queue_option(&mut options, place, argument, &value)?;
    }
    if options.dead_letter_routing_key.is_some() && options.dead_letter_exchange.is_none() {
        return Err(place.invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
    }
    Ok(options)
}

/// Reads one argument of a queue into `options`; unknown ones are left alone.
fn queue_option(
    options: &mut QueueOptions,
    place: Place<'_>,
    argument: &[u8],
    value: &Value<'_>,
) -> Result<(), Failure> {
    match argument {
        b"x-message-ttl" => {
            options.message_ttl_ms = Some(place.time_ms("x-message-ttl", value)?);
        }
        b"x-expires" => {
            let expires_ms = place.time_ms("x-expires", value)?;
            if expires_ms == 0 {
                return Err(place.invalid("x-expires", "{value_zero,0}"));
            }
            options.expires_ms = Some(expires_ms);
        }
        b"x-max-length" => options.length_max = Some(place.unsigned("x-max-length", value)?),
        b"x-max-length-bytes" => {
            options.bytes_max = Some(place.unsigned("x-max-length-bytes", value)?);
        }
        b"x-overflow" => options.overflow = overflow(place, value)?,
        b"x-dead-letter-exchange" => {
            let exchange = place.exchange_name("x-dead-letter-exchange", value)?;
            options.dead_letter_exchange = Some(exchange);
        }
        b"x-dead-letter-routing-key" => {
            let key = place.text("x-dead-letter-routing-key", value)?;
            options.dead_letter_routing_key = Some(name(key));
        }
        b"x-max-priority" => {
            let number = place.unsigned("x-max-priority", value)?;
            options.priority_max = u8::try_from(number).map_err(|_| {
                place.invalid("x-max-priority", &format!("{{max_value_exceeded,{number}}}"))
            })?;
        }
        b"x-delivery-limit" => options.delivery_max = delivery_max(place, value)?,
        b"x-single-active-consumer" => {
            let &Value::Bool(is) = value else {
                return Err(place.unacceptable("x-single-active-consumer", value));
            };
            options.is_single_active_consumer = is;
        }
        b"x-queue-type" => options.kind = queue_kind(place, value)?,
        _ => check_ignored(place, argument, value)?,
    }
    Ok(())
}

fn overflow(place: Place<'_>, value: &Value<'_>) -> Result<Overflow, Failure> {
    match place.text("x-overflow", value)? {
        b"drop-head" => Ok(Overflow::DropHead),
        b"reject-publish" => Ok(Overflow::RejectPublish),
        b"reject-publish-dlx" => Ok(Overflow::RejectPublishDeadLetter),
        _ => Err(place.invalid("x-overflow", "invalid_overflow")),
    }
}

fn queue_kind(place: Place<'_>, value: &Value<'_>) -> Result<QueueKind, Failure> {
    match place.text("x-queue-type", value)? {
        b"classic" => Ok(QueueKind::Classic),
        b"quorum" => Ok(QueueKind::Quorum),
        // Deviation(AMQP-002): streams are not queues here; the declaration is refused.
        b"stream" => {
            Err(place.invalid("x-queue-type", "streams are not available over AMQP 0-9-1"))
        }
        other => Err(place.invalid(
            "x-queue-type",
            &format!("\"unsupported queue type '{}'\"", printable(other)),
        )),
    }
}

/// `-1` means without limit, as not declared; larger numbers than we count are the largest.
fn delivery_max(place: Place<'_>, value: &Value<'_>) -> Result<Option<u32>, Failure> {
    if value.as_integer() == Some(-1) {
        return Ok(None);
    }
    let number = place.unsigned("x-delivery-limit", value)?;
    Ok(Some(u32::try_from(number).unwrap_or(u32::MAX)))
}

/// Arguments that mean nothing here but whose types are checked, so that a typing error shows
/// itself as it does elsewhere.
///
/// Deviation(AMQP-012): the words that these arguments may carry elsewhere (`x-queue-mode`,
/// `x-queue-version`, `x-dead-letter-strategy` ...) are neither checked nor obeyed.
fn check_ignored(place: Place<'_>, argument: &[u8], value: &Value<'_>) -> Result<(), Failure> {
    let word = match argument {
        b"x-queue-mode" => "x-queue-mode",
        b"x-queue-master-locator" => "x-queue-master-locator",
        b"x-queue-leader-locator" => "x-queue-leader-locator",
        b"x-dead-letter-strategy" => "x-dead-letter-strategy",
        b"x-max-age" => "x-max-age",
        b"x-queue-version" => return place.unsigned("x-queue-version", value).map(|_| ()),
        b"x-max-in-memory-length" => {
            return place.unsigned("x-max-in-memory-length", value).map(|_| ());
        }
        b"x-max-in-memory-bytes" => {
            return place.unsigned("x-max-in-memory-bytes", value).map(|_| ());
        }
        b"x-quorum-initial-group-size" => {
            return place.unsigned("x-quorum-initial-group-size", value).map(|_| ());
        }
        _ => return Ok(()),
    };
    place.text(word, value).map(|_| ())
}

/// What `exchange.declare` asks for. `kind` is its type argument.
pub(crate) fn exchange_spec(
    exchange: &[u8],
    vhost: &[u8],
    kind: &[u8],
    arguments: &[u8],
) -> Result<ExchangeSpec, Failure> {
    let place = Place { noun: "exchange", name: exchange, vhost };
    let mut alternate = None;
    let mut delayed_kind = None;
    for (argument, value) in table::fields(arguments) {
        match argument {
            b"alternate-exchange" => {
                alternate = Some(place.exchange_name("alternate-exchange", &value)?);
            }
            b"x-delayed-type" => delayed_kind = Some(place.text("x-delayed-type", &value)?),
            b"hash-header" | b"hash-property" => {
                place.text("hash-header", &value)?;
            }
            _ => {}
        }
    }
    let is_delayed = kind == b"x-delayed-message";
    let routing = if is_delayed { delayed_kind.unwrap_or_default() } else { kind };
    let Some(kind) = exchange_kind(routing) else {
        if is_delayed {
            return Err(place.invalid("x-delayed-type", "unknown or missing exchange type"));
        }
        // Source: RabbitMQ 4 and the clients' suites; 3.10 closes the connection with 503.
        return Err(precondition(format!("unknown exchange type '{}'", printable(kind))));
    };
    Ok(ExchangeSpec {
        kind,
        is_durable: false,
        is_auto_delete: false,
        is_internal: false,
        is_delayed,
        alternate,
        arguments: name(arguments),
    })
}

fn exchange_kind(word: &[u8]) -> Option<ExchangeKind> {
    match word {
        b"direct" => Some(ExchangeKind::Direct),
        b"fanout" => Some(ExchangeKind::Fanout),
        b"topic" => Some(ExchangeKind::Topic),
        b"headers" => Some(ExchangeKind::Headers),
        b"x-consistent-hash" => Some(ExchangeKind::ConsistentHash),
        _ => None,
    }
}

/// Exchanges that are there without anybody having declared them.
pub(crate) fn is_predeclared_exchange(name: &[u8]) -> bool {
    matches!(name, b"amq.direct" | b"amq.fanout" | b"amq.topic" | b"amq.headers" | b"amq.match")
}

/// Checks the arguments of a binding.
///
/// Deviation(AMQP-003): `x-match` is checked for every exchange, not only for headers exchanges:
/// the door does not know which type an exchange has.
pub(crate) fn check_binding(arguments: &[u8]) -> Result<(), Failure> {
    match table::find(arguments, b"x-match") {
        None | Some(Value::Text(b"all" | b"any" | b"all-with-x" | b"any-with-x")) => Ok(()),
        Some(Value::Text(other)) => Err(precondition(format!(
            "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
            printable(other)
        ))),
        Some(value) => Err(precondition(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            kind_name(&value),
            value.as_integer().map_or_else(|| "..".to_owned(), |number| number.to_string())
        ))),
    }
}

/// `x-priority` of `basic.consume`.
pub(crate) fn consumer_priority(
    queue: &[u8],
    vhost: &[u8],
    arguments: &[u8],
) -> Result<i32, Failure> {
    let place = Place { noun: "queue", name: queue, vhost };
    let Some(value) = table::find(arguments, b"x-priority") else { return Ok(0) };
    let number = value.as_integer().ok_or_else(|| place.not_integer("x-priority", &value))?;
    let clamped = number.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
    Ok(i32::try_from(clamped).unwrap_or(0))
}
