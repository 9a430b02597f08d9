//! What a client may send behind a whole login, as any bytes or as frames made of the method table:
//! the connection machine must not panic, must ask and write the same wherever the input is cut,
//! and must write whole frames of known methods.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use model::properties::{Builder, Property};
use model::table::{self, Value};
use model::{Delivery, Event, MessageRef, Reply, Request};
use proto_amqp::table::{Kind, METHODS, Method};
use proto_amqp::{Connection, Options, codec};
use wire::{Close, Connection as _, Outbox};

use crate::source::Source;

/// Protocol header, start-ok with PLAIN guest/guest, tune-ok, open "/", channel.open 1.
const LOGIN: &[u8] = b"AMQP\x00\x00\x09\x01\
\x01\x00\x00\x00\x00\x00\x24\x00\x0a\x00\x0b\x00\x00\x00\x00\x05PLAIN\
\x00\x00\x00\x0c\x00guest\x00guest\x05en_US\xce\
\x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x1f\x07\xff\x00\x02\x00\x00\x00\x3c\xce\
\x01\x00\x00\x00\x00\x00\x08\x00\x0a\x00\x28\x01/\x00\x00\xce\
\x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x0a\x00\xce";

/// Frame-max of the login above is the default.
const FRAME_MAX: u32 = 131_072;

/// Frames of one input.
const FRAMES_MAX: usize = 64;

/// Where to cut, then whether the rest is bytes or choices, then the rest.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let (cut, is_raw) = (usize::from(source.u8()), source.below(4) == 0);
    let made;
    let rest = if is_raw {
        source.rest()
    } else {
        made = frames(&mut source);
        &made[..]
    };
    let now = Instant::now();
    let cut = cut * rest.len() / 256;
    let whole = play(now, &[rest], false);
    let parts = play(now, &[&rest[..cut], &rest[cut..]], false);
    assert!(whole == parts, "cut at {cut} of {rest:?}");
    let (written, _) = play(now, &[rest], true);
    check_output(&written);
}

/// Frames as the table of methods would have them, with content where some belongs.
fn frames(source: &mut Source<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    for _ in 0..FRAMES_MAX {
        if source.is_empty() {
            break;
        }
        let entry = &METHODS[source.below(METHODS.len())];
        let channel = match source.below(16) {
            0 => source.u16(),
            choice => u16::from(entry.class != 10 && choice > 1) + u16::from(choice == 2),
        };
        codec::put_frame(&mut out, codec::METHOD, channel, |out| {
            out.put_u16(entry.class);
            out.put_u16(entry.method);
            arguments(source, entry.arguments, out);
        });
        if entry.has_content && source.below(8) != 0 {
            let (properties, body) = (properties(source), source.bytes(32));
            codec::put_content(&mut out, channel, &properties, body, 4096);
        }
    }
    out
}

fn arguments(source: &mut Source<'_>, list: &[(&str, Kind)], out: &mut BytesMut) {
    let mut last = None;
    for (_, kind) in list {
        match kind {
            // Neighbouring bits share an octet; no method has more than eight in a row.
            Kind::bit if last == Some(Kind::bit) => {}
            Kind::bit | Kind::octet => out.put_u8(source.u8()),
            Kind::short => out.put_u16(source.u16()),
            Kind::long => out.put_u32(source.u32()),
            Kind::longlong => out.put_u64(u64::from(source.u8())),
            Kind::shortstr if source.is() => codec::put_short(out, b"q"),
            Kind::shortstr => codec::put_short(out, source.bytes(40)),
            Kind::longstr => {
                let bytes = source.bytes(40);
                out.put_u32(u32::try_from(bytes.len()).unwrap_or(0));
                out.put_slice(bytes);
            }
            Kind::table => {
                let content = table(source);
                out.put_u32(u32::try_from(content.len()).unwrap_or(0));
                out.put_slice(&content);
            }
        }
        last = Some(*kind);
    }
}

/// A table of arguments that mean something, or any bytes.
fn table(source: &mut Source<'_>) -> Vec<u8> {
    const NAMES: [&[u8]; 14] = [
        b"x-message-ttl",
        b"x-expires",
        b"x-max-length",
        b"x-max-length-bytes",
        b"x-overflow",
        b"x-dead-letter-exchange",
        b"x-dead-letter-routing-key",
        b"x-max-priority",
        b"x-queue-type",
        b"x-delivery-limit",
        b"x-match",
        b"alternate-exchange",
        b"x-priority",
        b"CC",
    ];
    if source.below(8) == 0 {
        return source.bytes(64).to_vec();
    }
    let mut out = Vec::new();
    for _ in 0..source.below(3) {
        let name = source.pick(&NAMES);
        let value = match source.below(7) {
            0 | 1 => Value::Int(i64::from(source.u16()) - 3),
            2 => Value::Text(source.pick(&[&b"quorum"[..], b"reject-publish", b"any", b"", b"x"])),
            3 => Value::Text(source.bytes(20)),
            4 => Value::Bool(source.is()),
            5 => Value::Array(b"S\x00\x00\x00\x01k"),
            _ => Value::Void,
        };
        table::put_field(&mut out, name, value);
    }
    out
}

fn properties(source: &mut Source<'_>) -> Bytes {
    let headers = table(source);
    if source.below(8) == 0 {
        return Bytes::copy_from_slice(source.bytes(64));
    }
    Builder::new()
        .with(Property::Headers, headers)
        .with(
            Property::Expiration,
            source.pick(&[&b"100"[..], b"-1", b"", b"18446744073709551616"]),
        )
        .with(Property::UserId, source.pick(&[&b"guest"[..], b"mallory"]))
        .build()
}

/// Feeds the login and then the pieces; returns what was written and how much was asked. With
/// `answers_all` every request is answered; answers race with input that follows, so what is
/// written then depends on the cut.
fn play(now: Instant, pieces: &[&[u8]], answers_all: bool) -> (Vec<u8>, usize) {
    let mut connection = Connection::new(Arc::new(Options::default()), true, 7, now);
    let (mut written, mut asked) = (Vec::new(), 0);
    let mut input = BytesMut::new();
    for (number, piece) in std::iter::once(&LOGIN).chain(pieces).enumerate() {
        let is_login = number == 0;
        input.extend_from_slice(piece);
        loop {
            let before = input.len();
            let mut out = Outbox::new();
            let mut failed = connection.on_bytes(now, &mut input, &mut out).is_err();
            asked += out.requests.len();
            for envelope in std::mem::take(&mut out.requests) {
                if !failed && (is_login || answers_all) {
                    let to = (envelope.channel, envelope.ticket);
                    failed = answer(&mut connection, now, to, envelope.request, &mut out).is_err();
                }
            }
            if !failed {
                connection.on_batch_end(&mut out);
            }
            written.extend_from_slice(&out.bytes);
            if failed {
                return (written, asked);
            }
            if input.is_empty() || input.len() == before {
                break;
            }
        }
    }
    let mut out = Outbox::new();
    if answers_all && connection.on_deadline(now, &mut out).is_ok() {
        let _ = connection.on_event(now, Event::Shutdown("stop"), &mut out);
        written.extend_from_slice(&out.bytes);
    }
    (written, asked)
}

/// An engine that says yes to everything and has a message for everybody.
fn answer(
    connection: &mut Connection,
    now: Instant,
    (channel, ticket): (u16, model::Ticket),
    request: Request,
    out: &mut Outbox,
) -> Result<(), Close> {
    let to = (channel, ticket);
    let reply = match request {
        Request::Authenticate(_) => Reply::Authenticated { tags: Bytes::new() },
        Request::DeclareQueue(declare) => {
            Reply::Queue { name: declare.name, ready: 1, consumers: 2 }
        }
        Request::LookupQueue(name) => Reply::Queue { name, ready: 1, consumers: 2 },
        Request::DeleteQueue { .. } | Request::PurgeQueue(_) => Reply::Deleted { messages: 3 },
        Request::Publish(publish) => {
            let wants_confirm = publish.options.wants_confirm;
            if publish.options.is_mandatory {
                connection.on_reply(now, to, Reply::Unroutable(Box::new(publish)), out)?;
            }
            if !wants_confirm {
                return Ok(());
            }
            Reply::Published { count: 1 }
        }
        Request::Get { no_ack, .. } => {
            if no_ack {
                return connection.on_reply(now, to, Reply::Empty, out);
            }
            let delivery = delivery(channel);
            return connection.on_event(now, Event::Got { ticket, delivery, ready: 7 }, out);
        }
        Request::Consume(consume) => {
            connection.on_reply(now, to, Reply::Done, out)?;
            let event = Event::Deliver { consumer: consume.id, delivery: delivery(channel) };
            return connection.on_event(now, event, out);
        }
        Request::Ack { .. } | Request::Release { .. } => return Ok(()),
        _ => Reply::Done,
    };
    connection.on_reply(now, to, reply, out)
}

fn delivery(channel: u16) -> Delivery<'static> {
    let message = MessageRef {
        exchange: b"x",
        routing_key: b"key",
        properties: b"\x10\x00\x02",
        body: b"body",
    };
    Delivery { channel, tag: 1, is_redelivered: false, returns: Some(1), job: None, message }
}

/// Everything that was written is frames with methods of the table in them.
fn check_output(mut written: &[u8]) {
    while !written.is_empty() {
        if let Some(rest) = written.strip_prefix(&codec::PROTOCOL_HEADER) {
            written = rest;
            continue;
        }
        let head = codec::peek(written, FRAME_MAX).expect("a frame").expect("a whole frame");
        if head.kind == codec::METHOD {
            let method = Method::parse(head.payload(written));
            assert!(method.is_ok(), "{method:?}");
        }
        written = &written[head.total()..];
    }
}
