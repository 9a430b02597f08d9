//! Headers exchanges: binding tables against message headers. Called by the matcher.
//!
//! Source: RabbitMQ documentation, AMQP 0-9-1 model, headers exchange; `x-match` with the two
//! `-with-x` forms since `RabbitMQ` 3.10.

use std::cmp::Ordering;

use bytes::Bytes;
use model::table::{Value, fields, find, put_field};

use super::target::Target;

/// What `x-match` may say.
pub(super) const MODES: &str = "all, any, all-with-x, any-with-x";

/// How many of a binding's headers a message must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// One is enough (else all).
    is_any: bool,
    /// Headers whose name begins with `x-` count too.
    with_x: bool,
}

/// Reads `x-match`; absent means `all`.
pub(super) fn mode(arguments: &[u8]) -> Option<Mode> {
    let Some(value) = find(arguments, b"x-match") else {
        return Some(Mode { is_any: false, with_x: false });
    };
    match value.as_text()? {
        b"all" => Some(Mode { is_any: false, with_x: false }),
        b"any" => Some(Mode { is_any: true, with_x: false }),
        b"all-with-x" => Some(Mode { is_any: false, with_x: true }),
        b"any-with-x" => Some(Mode { is_any: true, with_x: true }),
        _ => None,
    }
}

/// Bindings of one headers exchange.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    target: Target,
    /// As bound; tells rules apart.
    arguments: Bytes,
    mode: Mode,
    /// The headers that count, as a table sorted by name without repeats.
    pattern: Box<[u8]>,
}

impl Rules {
    /// Adds one binding whose arguments were checked with [`mode`].
    pub(super) fn add(&mut self, arguments: &Bytes, target: Target) {
        let Some(mode) = mode(arguments) else { return };
        let mut pattern = Vec::new();
        for (name, value) in sorted(arguments) {
            if name != b"x-match" && (mode.with_x || !name.starts_with(b"x-")) {
                put_field(&mut pattern, name, value);
            }
        }
        let pattern = pattern.into_boxed_slice();
        self.rules.push(Rule { target, arguments: arguments.clone(), mode, pattern });
    }

    /// Removes one binding.
    pub(super) fn remove(&mut self, arguments: &Bytes, target: Target) {
        let found = self
            .rules
            .iter()
            .position(|rule| rule.target == target && rule.arguments == *arguments);
        if let Some(at) = found {
            self.rules.swap_remove(at);
        }
    }

    /// Appends the targets of every binding that matches. Cost: one merge per binding.
    pub(super) fn find(&self, headers: &[u8], out: &mut Vec<Target>) {
        let headers = sorted(headers);
        out.extend(self.rules.iter().filter(|rule| rule.matches(&headers)).map(|rule| rule.target));
    }
}

impl Rule {
    fn matches(&self, headers: &[(&[u8], Value<'_>)]) -> bool {
        let mut rest = headers.iter();
        let mut ahead = rest.next();
        for (name, wanted) in fields(&self.pattern) {
            while ahead.is_some_and(|(found, _)| *found < name) {
                ahead = rest.next();
            }
            let is_match = ahead.is_some_and(|(found, value)| {
                found.cmp(&name) == Ordering::Equal && is_equal(wanted, *value)
            });
            if is_match == self.mode.is_any {
                return is_match;
            }
        }
        !self.mode.is_any
    }
}

/// A table's entries by name; of entries with one name the first counts.
fn sorted(table: &[u8]) -> Vec<(&[u8], Value<'_>)> {
    let mut entries: Vec<_> = fields(table).collect();
    entries.sort_by_key(|entry| entry.0);
    entries.dedup_by_key(|entry| entry.0);
    entries
}

/// Whether a message's value satisfies a binding's: no value asks only for presence, numbers
/// compare by value and strings by content, whichever type carries them; a boolean is no number.
/// Source: observed, RabbitMQ 3.10.8.
fn is_equal(wanted: Value<'_>, found: Value<'_>) -> bool {
    match (wanted, found) {
        (Value::Void, _) => true,
        (Value::Text(a) | Value::Bytes(a), Value::Text(b) | Value::Bytes(b)) => a == b,
        (Value::Float(float), other) | (other, Value::Float(float))
            if let Some(number) = whole(other) =>
        {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "too large saturates: no 64-bit number"
            )]
            let rounded = float as i128;
            float.fract() == 0.0 && rounded == number
        }
        (a, b) => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => a == b,
            (None | Some(_), None) | (None, Some(_)) => a == b,
        },
    }
}

/// The number of anything that carries a whole one.
fn whole(value: Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some(number.into()),
        Value::Uint(number) | Value::Timestamp(number) => Some(number.into()),
        Value::Bool(_)
        | Value::Float(_)
        | Value::Decimal(..)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Array(_)
        | Value::Table(_)
        | Value::Void => None,
    }
}

#[cfg(test)]
mod tests;
