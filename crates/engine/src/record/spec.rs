//! How declarations are written: queues, exchanges, bindings. Called for their records and by
//! snapshots; which record they stand in is the parent's table.

use bytes::Bytes;
use model::{
    Binding, DestinationKind, ExchangeKind, ExchangeSpec, Overflow, QueueKind, QueueOptions,
    QueueSpec,
};

use super::{put_text, take_text, take_u8};
use crate::fifo::{put_varint, take_varint};

fn put_optional_text(out: &mut Vec<u8>, text: Option<&Bytes>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

/// `u8` claims (bit 0 durable, 1 exclusive, 2 auto-delete, 3 quorum, 4 single active consumer,
/// 5 for jobs),
/// `u8` overflow, `u8` highest priority, then optional varints (a claim byte, then the number):
/// message ttl, expiry, length, bytes, delivery limit; then optional texts: dead-letter exchange,
/// dead-letter routing key; then the arguments.
pub(crate) fn put_queue_spec(out: &mut Vec<u8>, spec: &QueueSpec) {
    let options = &spec.options;
    let claims = [
        spec.is_durable,
        spec.is_exclusive,
        spec.is_auto_delete,
        options.kind == QueueKind::Quorum,
        options.is_single_active_consumer,
        options.kind == QueueKind::Jobs,
    ];
    out.push(pack(&claims));
    out.push(match options.overflow {
        Overflow::DropHead => 0,
        Overflow::RejectPublish => 1,
        Overflow::RejectPublishDeadLetter => 2,
    });
    out.push(options.priority_max);
    let numbers = [
        options.message_ttl_ms,
        options.expires_ms,
        options.length_max,
        options.bytes_max,
        options.delivery_max.map(u64::from),
    ];
    for number in numbers {
        out.push(u8::from(number.is_some()));
        if let Some(number) = number {
            put_varint(out, number);
        }
    }
    put_optional_text(out, options.dead_letter_exchange.as_ref());
    put_optional_text(out, options.dead_letter_routing_key.as_ref());
    put_text(out, &spec.arguments);
}

pub(crate) fn take_queue_spec(rest: &mut &[u8]) -> Option<QueueSpec> {
    let claims = take_u8(rest)?;
    let overflow = match take_u8(rest)? {
        0 => Overflow::DropHead,
        1 => Overflow::RejectPublish,
        2 => Overflow::RejectPublishDeadLetter,
        _ => return None,
    };
    let options = QueueOptions {
        kind: match claims & 0b10_1000 {
            0 => QueueKind::Classic,
            8 => QueueKind::Quorum,
            _ => QueueKind::Jobs,
        },
        overflow,
        priority_max: take_u8(rest)?,
        message_ttl_ms: take_optional_number(rest)?,
        expires_ms: take_optional_number(rest)?,
        length_max: take_optional_number(rest)?,
        bytes_max: take_optional_number(rest)?,
        delivery_max: match take_optional_number(rest)? {
            Some(number) => Some(u32::try_from(number).ok()?),
            None => None,
        },
        dead_letter_exchange: take_optional_text(rest)?,
        dead_letter_routing_key: take_optional_text(rest)?,
        is_single_active_consumer: claims & 16 != 0,
    };
    Some(QueueSpec {
        is_durable: claims & 1 != 0,
        is_exclusive: claims & 2 != 0,
        is_auto_delete: claims & 4 != 0,
        options,
        arguments: take_text(rest)?,
    })
}

/// `u8` kind, `u8` claims (bit 0 durable, 1 auto-delete, 2 internal, 3 delayed), optional text:
/// alternate exchange; then the arguments.
pub(crate) fn put_exchange_spec(out: &mut Vec<u8>, spec: &ExchangeSpec) {
    out.push(match spec.kind {
        ExchangeKind::Direct => 0,
        ExchangeKind::Fanout => 1,
        ExchangeKind::Topic => 2,
        ExchangeKind::Headers => 3,
        ExchangeKind::ConsistentHash => 4,
    });
    out.push(pack(&[spec.is_durable, spec.is_auto_delete, spec.is_internal, spec.is_delayed]));
    put_optional_text(out, spec.alternate.as_ref());
    put_text(out, &spec.arguments);
}

pub(crate) fn take_exchange_spec(rest: &mut &[u8]) -> Option<ExchangeSpec> {
    let kind = match take_u8(rest)? {
        0 => ExchangeKind::Direct,
        1 => ExchangeKind::Fanout,
        2 => ExchangeKind::Topic,
        3 => ExchangeKind::Headers,
        4 => ExchangeKind::ConsistentHash,
        _ => return None,
    };
    let claims = take_u8(rest)?;
    Some(ExchangeSpec {
        kind,
        is_durable: claims & 1 != 0,
        is_auto_delete: claims & 2 != 0,
        is_internal: claims & 4 != 0,
        is_delayed: claims & 8 != 0,
        alternate: take_optional_text(rest)?,
        arguments: take_text(rest)?,
    })
}

/// `u8` 0 to a queue or 1 to an exchange, then texts: source, destination, key, arguments.
pub(crate) fn put_binding(out: &mut Vec<u8>, binding: &Binding) {
    out.push(match binding.kind {
        DestinationKind::Queue => 0,
        DestinationKind::Exchange => 1,
    });
    for text in [&binding.source, &binding.destination, &binding.routing_key, &binding.arguments] {
        put_text(out, text);
    }
}

pub(crate) fn take_binding(rest: &mut &[u8]) -> Option<Binding> {
    let kind = match take_u8(rest)? {
        0 => DestinationKind::Queue,
        1 => DestinationKind::Exchange,
        _ => return None,
    };
    Some(Binding {
        kind,
        source: take_text(rest)?,
        destination: take_text(rest)?,
        routing_key: take_text(rest)?,
        arguments: take_text(rest)?,
    })
}

fn pack(claims: &[bool]) -> u8 {
    claims.iter().rev().fold(0, |byte, claim| byte << 1 | u8::from(*claim))
}

#[allow(clippy::option_option, reason = "outer: the bytes read; inner: the value is there")]
fn take_optional_text(rest: &mut &[u8]) -> Option<Option<Bytes>> {
    match take_u8(rest)? {
        0 => Some(None),
        1 => take_text(rest).map(Some),
        _ => None,
    }
}

#[allow(clippy::option_option, reason = "outer: the bytes read; inner: the value is there")]
fn take_optional_number(rest: &mut &[u8]) -> Option<Option<u64>> {
    match take_u8(rest)? {
        0 => Some(None),
        1 => take_varint(rest).map(Some),
        _ => None,
    }
}
