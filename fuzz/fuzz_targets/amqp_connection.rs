//! Any bytes a client may send, behind a whole login, cut in two at a place that the input picks:
//! the connection machine must not panic, and must ask and write the same for every cut.

#![no_main]

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use model::{Reply, Request};
use proto_amqp::{Connection, Options};
use wire::{Connection as _, Outbox};

/// Protocol header, start-ok with PLAIN guest/guest, tune-ok, open "/", channel.open 1.
const LOGIN: &[u8] = b"AMQP\x00\x00\x09\x01\
\x01\x00\x00\x00\x00\x00\x24\x00\x0a\x00\x0b\x00\x00\x00\x00\x05PLAIN\
\x00\x00\x00\x0c\x00guest\x00guest\x05en_US\xce\
\x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x1f\x07\xff\x00\x02\x00\x00\x00\x3c\xce\
\x01\x00\x00\x00\x00\x00\x08\x00\x0a\x00\x28\x01/\x00\x00\xce\
\x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x0a\x00\xce";

fuzz_target!(|data: &[u8]| {
    let Some((cut, rest)) = data.split_first() else { return };
    let now = Instant::now();
    let cut = usize::from(*cut) * rest.len() / 256;
    let whole = play(now, &[rest]);
    let parts = play(now, &[&rest[..cut], &rest[cut..]]);
    assert_eq!(whole, parts, "cut at {cut}");
});

/// Feeds the login and then the pieces; returns what was written and how much was asked.
fn play(now: Instant, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    let mut connection = Connection::new(Arc::new(Options::default()), true, 7, now);
    let (mut written, mut asked) = (Vec::new(), 0);
    let mut input = BytesMut::new();
    for piece in std::iter::once(&LOGIN).chain(pieces) {
        input.extend_from_slice(piece);
        loop {
            let before = input.len();
            let mut out = Outbox::new();
            let outcome = connection.on_bytes(now, &mut input, &mut out);
            asked += out.requests.len();
            let mut failed = outcome.is_err();
            for envelope in out.requests.drain(..) {
                let reply = match envelope.request {
                    Request::Authenticate(_) => Reply::Authenticated { tags: Default::default() },
                    Request::OpenVhost(_) | Request::OpenChannel { .. } => Reply::Done,
                    _ => continue,
                };
                let to = (envelope.channel, envelope.ticket);
                let mut more = Outbox::new();
                failed |= connection.on_reply(now, to, reply, &mut more).is_err();
                out.bytes.extend_from_slice(&more.bytes);
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
    (written, asked)
}
