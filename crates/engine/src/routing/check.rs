//! What may be declared, deleted, bound and unbound: every refusal of routing. Changes nothing;
//! the engine asks here before it writes a record. The changes stand in `change`.

use bytes::Bytes;
use model::{Binding, DestinationKind, ExchangeKind, ExchangeSpec, Noun, Refusal};

use super::exchange::Exchange;
use super::{Router, hash, headers};

/// The answer to a declaration that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// An equal one is there: nothing to do, nothing to log.
    Exists,
    /// To be created.
    New,
}

impl Router {
    /// Whether an exchange may be declared so.
    ///
    /// Compared are type, durable, auto-delete, internal and alternate exchange, in this order;
    /// other arguments are kept but not compared. Source: observed, RabbitMQ 3.10.8.
    ///
    /// # Errors
    /// `AccessRefused` for the default exchange and new `amq.` names, `Inequivalent` when another
    /// one is there.
    pub(crate) fn check_declare(
        &self,
        name: &Bytes,
        spec: &ExchangeSpec,
    ) -> Result<Declared, Refusal> {
        check_not_default(name)?;
        let Some(exchange) = self.exchange(name) else {
            if name.starts_with(b"amq.") {
                let reason =
                    format!("exchange name '{}' contains reserved prefix 'amq.*'", printed(name));
                return Err(Refusal::AccessRefused { reason });
            }
            return Ok(Declared::New);
        };
        match difference(spec, exchange.spec()) {
            None => Ok(Declared::Exists),
            Some((argument, received, current)) => Err(Refusal::Inequivalent {
                noun: Noun::Exchange,
                name: name.clone(),
                argument,
                received,
                current,
            }),
        }
    }

    /// Whether an exchange may be deleted; `Ok(None)` when there is nothing to delete.
    ///
    /// # Errors
    /// `AccessRefused` for exchanges that are always there and `amq.` names, `InUse` when
    /// `if_unused` and bindings leave from it.
    pub(crate) fn check_delete(
        &self,
        name: &Bytes,
        if_unused: bool,
    ) -> Result<Option<&Exchange>, Refusal> {
        check_not_default(name)?;
        if name.starts_with(b"amq.") {
            let reason = format!("deletion of system exchange '{}' not allowed", printed(name));
            return Err(Refusal::AccessRefused { reason });
        }
        let Some(exchange) = self.exchange(name) else { return Ok(None) };
        if if_unused && self.has_bindings_from(name) {
            return Err(Refusal::InUse { noun: Noun::Exchange, name: name.clone() });
        }
        Ok(Some(exchange))
    }

    /// Whether a binding may be added; `Exists` when it is there already.
    ///
    /// # Errors
    /// `AccessRefused` when an end is the default exchange, `NotFound` for a missing end (the
    /// source first),
    /// `Inequivalent` for an `x-match` or a weight that says nothing.
    pub(crate) fn check_bind(&self, binding: &Binding) -> Result<Declared, Refusal> {
        check_ends(binding)?;
        let source = self
            .exchange(&binding.source)
            .ok_or_else(|| not_found(Noun::Exchange, &binding.source))?;
        match binding.kind {
            DestinationKind::Queue => {
                self.queue(&binding.destination)
                    .ok_or_else(|| not_found(Noun::Queue, &binding.destination))?;
            }
            DestinationKind::Exchange => {
                self.exchange(&binding.destination)
                    .ok_or_else(|| not_found(Noun::Exchange, &binding.destination))?;
            }
        }
        check_rule(source.spec().kind, binding)?;
        let is_there = self.bindings.contains(binding);
        Ok(if is_there { Declared::Exists } else { Declared::New })
    }

    /// Whether a binding may be removed, and whether it is there at all.
    ///
    /// # Errors
    /// `AccessRefused` when an end is the default exchange. Missing things are no error.
    pub(crate) fn check_unbind(&self, binding: &Binding) -> Result<bool, Refusal> {
        check_ends(binding)?;
        Ok(self.bindings.contains(binding))
    }
}

fn check_ends(binding: &Binding) -> Result<(), Refusal> {
    check_not_default(&binding.source)?;
    match binding.kind {
        DestinationKind::Queue => Ok(()),
        DestinationKind::Exchange => check_not_default(&binding.destination),
    }
}

fn check_not_default(name: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() {
        let reason = String::from("operation not permitted on the default exchange");
        return Err(Refusal::AccessRefused { reason });
    }
    Ok(())
}

/// What a headers or hash exchange asks of its bindings.
fn check_rule(kind: ExchangeKind, binding: &Binding) -> Result<(), Refusal> {
    let (argument, received, current) = match kind {
        ExchangeKind::Headers if headers::mode(&binding.arguments).is_none() => {
            let value = model::table::find(&binding.arguments, b"x-match");
            let text = value.and_then(|value| value.as_text()).unwrap_or(b"(no string)");
            ("x-match", printed(text), headers::MODES.to_owned())
        }
        ExchangeKind::ConsistentHash if hash::weight(&binding.routing_key).is_none() => {
            let weights = format!("a weight from 1 to {}", hash::WEIGHT_MAX);
            ("routing_key", printed(&binding.routing_key), weights)
        }
        ExchangeKind::Headers
        | ExchangeKind::ConsistentHash
        | ExchangeKind::Direct
        | ExchangeKind::Fanout
        | ExchangeKind::Topic => return Ok(()),
    };
    let name = binding.source.clone();
    Err(Refusal::Inequivalent { noun: Noun::Binding, name, argument, received, current })
}

/// The first field that differs: its name, as received, as it is.
fn difference(
    received: &ExchangeSpec,
    current: &ExchangeSpec,
) -> Option<(&'static str, String, String)> {
    let kind = ("type", type_name(received), type_name(current));
    let delayed = ("x-delayed-type", kind_name(received.kind), kind_name(current.kind));
    let alternate = |spec: &ExchangeSpec| {
        spec.alternate.as_ref().map_or_else(|| String::from("none"), |name| printed(name))
    };
    let flags = [
        ("durable", received.is_durable, current.is_durable),
        ("auto_delete", received.is_auto_delete, current.is_auto_delete),
        ("internal", received.is_internal, current.is_internal),
    ];
    let names = [kind, delayed].map(|(name, a, b)| (name, a.to_owned(), b.to_owned()));
    let flags = flags.map(|(name, a, b)| (name, a.to_string(), b.to_string()));
    let last = ("alternate-exchange", alternate(received), alternate(current));
    let is_alternate_equal = received.alternate == current.alternate;
    names
        .into_iter()
        .chain(flags)
        .find(|(_, a, b)| a != b)
        .or_else(|| (!is_alternate_equal).then_some(last))
}

/// The type as a client names it.
const fn type_name(spec: &ExchangeSpec) -> &'static str {
    if spec.is_delayed { "x-delayed-message" } else { kind_name(spec.kind) }
}

const fn kind_name(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Headers => "headers",
        ExchangeKind::ConsistentHash => "x-consistent-hash",
    }
}

fn not_found(noun: Noun, name: &Bytes) -> Refusal {
    Refusal::NotFound { noun, name: name.clone() }
}

fn printed(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
