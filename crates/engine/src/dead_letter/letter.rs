//! What a dead letter says: the `x-death` headers, and which key it is published with. Where it
//! goes is the parent's business.
//!
//! `x-death` is an array of tables, newest first, one per queue and reason: `count`, `reason`,
//! `queue`, `time` (of the first), `exchange`, `routing-keys`, `original-expiration` if there was
//! one. A job that workers tried has `x-attempts`, ours: what became of each try.
//! `x-first-death-*` stay as first set, `x-last-death-*` follow. `expiration` is removed.
//! Source: `RabbitMQ` "Dead Letter Exchanges"; observed, `RabbitMQ` 3.13.

use bytes::Bytes;
use model::properties::{Builder, Properties, Property};
use model::table::{self, Value, put_field, put_value};
use model::{Attempt, AttemptEnd, MessageRef};

use super::Reason;

/// How a message died.
#[derive(Debug)]
pub(super) struct Death<'a> {
    pub queue: &'a [u8],
    pub reason: Reason,
    /// Since 1970.
    pub seconds: u64,
    /// `x-dead-letter-routing-key`.
    pub new_key: Option<&'a Bytes>,
    /// What workers made of it.
    pub attempts: &'a [Attempt],
}

/// The rewritten message, without its body.
#[derive(Debug)]
pub(super) struct Letter {
    pub routing_key: Bytes,
    /// CC, unless a new routing key replaces all.
    pub extra_keys: Vec<Bytes>,
    pub properties: Bytes,
    /// Where it died, newest first, and whether by rejection.
    deaths: Vec<(Bytes, bool)>,
}

impl Letter {
    /// Rewrites a message. A property list that does not read is kept as it is.
    pub(super) fn write(death: &Death<'_>, message: &MessageRef<'_>) -> Self {
        let Ok(list) = Properties::parse(message.properties) else {
            return Self {
                routing_key: owned(death.new_key.map_or(message.routing_key, |key| key)),
                extra_keys: Vec::new(),
                properties: owned(message.properties),
                deaths: vec![(owned(death.queue), death.reason == Reason::Rejected)],
            };
        };
        let headers = list.headers().unwrap_or_default();
        let keys = texts(table::find(headers, b"CC"));
        let (array, deaths) = death.chronicle(headers, message, &list, &keys);
        let table = death.headers(headers, message, &array);
        let properties =
            Builder::from_list(&list).without(Property::Expiration).with(Property::Headers, table);
        Self {
            routing_key: owned(death.new_key.map_or(message.routing_key, |key| key)),
            extra_keys: if death.new_key.is_some() { Vec::new() } else { keys },
            properties: properties.build(),
            deaths,
        }
    }

    /// Whether the message came back to this queue without a rejection since it died there.
    pub(super) fn is_cycle(&self, queue: &[u8]) -> bool {
        let found = self.deaths.iter().position(|(name, _)| name == queue);
        found.is_some_and(|at| self.deaths.iter().take(at + 1).all(|(_, rejected)| !rejected))
    }
}

impl Death<'_> {
    /// The new `x-death` array, and what it says for the cycle rule.
    fn chronicle(
        &self,
        headers: &[u8],
        message: &MessageRef<'_>,
        list: &Properties<'_>,
        keys: &[Bytes],
    ) -> (Vec<u8>, Vec<(Bytes, bool)>) {
        let mut others = Vec::new();
        let mut deaths = vec![(owned(self.queue), self.reason == Reason::Rejected)];
        let mut first = None;
        for past in tables(table::find(headers, b"x-death")) {
            let text = |name: &[u8]| table::find(past, name).and_then(|value| value.as_text());
            let (queue, reason) = (text(b"queue"), text(b"reason"));
            if queue == Some(self.queue) && reason == Some(self.reason.word()) {
                first = first.or_else(|| Some(counted_again(past)));
                continue;
            }
            put_value(&mut others, Value::Table(past));
            deaths.push((owned(queue.unwrap_or_default()), reason == Some(b"rejected")));
        }
        let entry = first.unwrap_or_else(|| self.entry(message, list, keys));
        let mut array = Vec::with_capacity(entry.len() + others.len() + 8);
        put_value(&mut array, Value::Table(&entry));
        array.extend_from_slice(&others);
        (array, deaths)
    }

    /// The first entry for this queue and reason.
    fn entry(&self, message: &MessageRef<'_>, list: &Properties<'_>, keys: &[Bytes]) -> Vec<u8> {
        let mut all_keys = Vec::new();
        put_value(&mut all_keys, Value::Text(message.routing_key));
        for key in keys {
            put_value(&mut all_keys, Value::Text(key));
        }
        let mut entry = Vec::new();
        put_field(&mut entry, b"count", Value::Int(1));
        put_field(&mut entry, b"reason", Value::Text(self.reason.word()));
        put_field(&mut entry, b"queue", Value::Text(self.queue));
        put_field(&mut entry, b"time", Value::Timestamp(self.seconds));
        put_field(&mut entry, b"exchange", Value::Text(message.exchange));
        put_field(&mut entry, b"routing-keys", Value::Array(&all_keys));
        if let Some(expiration) = list.get(Property::Expiration) {
            put_field(&mut entry, b"original-expiration", Value::Text(expiration));
        }
        entry
    }

    /// The whole new header table.
    fn headers(&self, old: &[u8], message: &MessageRef<'_>, array: &[u8]) -> Vec<u8> {
        let mut table = Vec::with_capacity(old.len() + array.len() + 256);
        put_field(&mut table, b"x-death", Value::Array(array));
        let facts: [(&[u8], &[u8]); 3] = [
            (b"reason", self.reason.word()),
            (b"queue", self.queue),
            (b"exchange", message.exchange),
        ];
        for (name, value) in facts {
            let first = [b"x-first-death-", name].concat();
            if table::find(old, &first).is_none() {
                put_field(&mut table, &first, Value::Text(value));
            }
            put_field(&mut table, &[b"x-last-death-", name].concat(), Value::Text(value));
        }
        let attempts = self.attempts();
        if !attempts.is_empty() {
            put_field(&mut table, b"x-attempts", Value::Array(&attempts));
        }
        for (name, raw) in raw_fields(old) {
            let is_replaced = name == b"x-death"
                || (name == b"x-attempts" && !attempts.is_empty())
                || name.starts_with(b"x-last-death-")
                || (name == b"CC" && self.new_key.is_some());
            if !is_replaced {
                table.extend_from_slice(raw);
            }
        }
        table
    }

    /// Content of the `x-attempts` array: a table for each attempt of a worker, oldest first.
    fn attempts(&self) -> Vec<u8> {
        let mut array = Vec::new();
        for attempt in self.attempts {
            let end = match attempt.end {
                AttemptEnd::Failed => "failed",
                AttemptEnd::Released => "released",
                AttemptEnd::Expired => "expired",
                AttemptEnd::Lost => "lost",
            };
            let mut entry = Vec::new();
            put_field(&mut entry, b"worker", Value::Text(&attempt.worker));
            put_field(&mut entry, b"end", Value::Text(end.as_bytes()));
            put_field(&mut entry, b"time", Value::Timestamp(attempt.at.0 / 1000));
            if attempt.end == AttemptEnd::Failed {
                put_field(&mut entry, b"class", Value::Text(&attempt.failure.class));
                put_field(&mut entry, b"message", Value::Text(&attempt.failure.message));
            }
            put_value(&mut array, Value::Table(&entry));
        }
        array
    }
}

/// A past entry with its count raised; everything else stays as it was.
fn counted_again(past: &[u8]) -> Vec<u8> {
    let count = table::find(past, b"count").and_then(|value| value.as_integer()).unwrap_or(1);
    let mut entry = Vec::with_capacity(past.len());
    put_field(&mut entry, b"count", Value::Int(count.saturating_add(1)));
    for (name, raw) in raw_fields(past) {
        if name != b"count" {
            entry.extend_from_slice(raw);
        }
    }
    entry
}

/// The entries of a table with their exact bytes, so that copying changes no type.
fn raw_fields(content: &[u8]) -> Vec<(&[u8], &[u8])> {
    let names: Vec<&[u8]> = table::fields(content).map(|(name, _)| name).collect();
    let start = content.as_ptr().addr();
    // A name stands one byte, its length, behind the start of its entry.
    let at = |name: &[u8]| name.as_ptr().addr() - start - 1;
    let ends = names.iter().skip(1).map(|name| at(name)).chain([content.len()]);
    let pairs = names.iter().zip(ends);
    pairs.filter_map(|(name, end)| Some((*name, content.get(at(name)..end)?))).collect()
}

/// The tables in an array, other items left out.
fn tables(value: Option<Value<'_>>) -> impl Iterator<Item = &[u8]> {
    let content = if let Some(Value::Array(content)) = value { content } else { &[] };
    table::items(content)
        .filter_map(|item| if let Value::Table(it) = item { Some(it) } else { None })
}

/// The strings in an array.
fn texts(value: Option<Value<'_>>) -> Vec<Bytes> {
    let content = if let Some(Value::Array(content)) = value { content } else { &[] };
    table::items(content).filter_map(|item| item.as_text().map(owned)).collect()
}

fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
