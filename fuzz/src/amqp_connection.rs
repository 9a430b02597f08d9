//! Any bytes a client may send, behind a whole login: the connection machine must not panic, must
//! ask and write the same wherever the input is cut, and must write whole frames of known methods.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use model::{Delivery, Event, MessageRef, Reply, Request};
use proto_amqp::table::Method;
use proto_amqp::{Connection, Options, codec};
use wire::{Close, Connection as _, Outbox};

/// Protocol header, start-ok with PLAIN guest/guest, tune-ok, open "/", channel.open 1.
const LOGIN: &[u8] = b"AMQP\x00\x00\x09\x01\
\x01\x00\x00\x00\x00\x00\x24\x00\x0a\x00\x0b\x00\x00\x00\x00\x05PLAIN\
\x00\x00\x00\x0c\x00guest\x00guest\x05en_US\xce\
\x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x1f\x07\xff\x00\x02\x00\x00\x00\x3c\xce\
\x01\x00\x00\x00\x00\x00\x08\x00\x0a\x00\x28\x01/\x00\x00\xce\
\x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x0a\x00\xce";

/// Frame-max of the login above is the default.
const FRAME_MAX: u32 = 131_072;

/// The first byte says where to cut the rest.
pub fn run(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let now = Instant::now();
    let cut = usize::from(*cut) * rest.len() / 256;
    let whole = play(now, &[rest], false);
    let parts = play(now, &[&rest[..cut], &rest[cut..]], false);
    assert_eq!(whole, parts, "cut at {cut}");
    let (written, _) = play(now, &[rest], true);
    check_output(&written);
}

/// Feeds the login and then the pieces; returns what was written and how much was asked. With
/// `answers_all` every request is answered; answers race with input that follows, so what is
/// written then depends on the cut.
fn play(now: Instant, pieces: &[&[u8]], answers_all: bool) -> (Vec<u8>, usize) {
    let mut connection = Connection::new(Arc::new(Options::default()), true, 7, now);
    let (mut written, mut asked) = (Vec::new(), 0);
    let mut input = BytesMut::new();
    for piece in std::iter::once(&LOGIN).chain(pieces) {
        input.extend_from_slice(piece);
        loop {
            let before = input.len();
            let mut out = Outbox::new();
            let mut failed = connection.on_bytes(now, &mut input, &mut out).is_err();
            asked += out.requests.len();
            for envelope in std::mem::take(&mut out.requests) {
                let is_login = matches!(
                    envelope.request,
                    Request::Authenticate(_) | Request::OpenVhost(_) | Request::OpenChannel { .. }
                );
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
    Delivery { channel, tag: 1, is_redelivered: false, returns: Some(1), message }
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
