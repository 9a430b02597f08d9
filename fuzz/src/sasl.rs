//! Any login: mechanism and response chosen by the input. Never a panic, and who is asked about is
//! exactly who the response names, by the plainest possible reading of it.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use model::{Request, table};
use proto_amqp::table::Method;
use proto_amqp::{Connection, Options, codec};
use wire::{Connection as _, Outbox};

use crate::source::Source;

/// The first byte chooses the mechanism.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let mechanism: &[u8] = match source.below(5) {
        0 | 1 => b"PLAIN",
        2 | 3 => b"AMQPLAIN",
        _ => source.bytes(20),
    };
    let response = source.rest();
    let mut input = BytesMut::from(&codec::PROTOCOL_HEADER[..]);
    let start_ok =
        Method::ConnectionStartOk { client_properties: b"", mechanism, response, locale: b"en_US" };
    start_ok.put(&mut input, 0);
    let now = Instant::now();
    let mut connection = Connection::new(Arc::new(Options::default()), true, 7, now);
    let mut out = Outbox::new();
    let ended = connection.on_bytes(now, &mut input, &mut out).is_err();
    let mut asked = out.requests.iter().filter_map(|envelope| match &envelope.request {
        Request::Authenticate(credentials) => Some(credentials.user.clone()),
        _ => None,
    });
    // A frame before login may have 8 KiB; nothing is said about larger ones here.
    if input.len() > 4096 {
        return;
    }
    let expected = match mechanism {
        b"PLAIN" => plain(response),
        b"AMQPLAIN" => amqplain(response),
        _ => None,
    };
    assert_eq!(asked.next().as_deref(), expected, "mechanism {mechanism:?}");
    assert_eq!(ended, expected.is_none());
    assert!(asked.next().is_none(), "asked twice");
}

/// NUL, user, NUL, password: exactly two zeros, the first of them in front.
fn plain(response: &[u8]) -> Option<&[u8]> {
    let parts: Vec<&[u8]> = response.split(|byte| *byte == 0).collect();
    match parts[..] {
        [b"", user, _] => Some(user),
        _ => None,
    }
}

fn amqplain(response: &[u8]) -> Option<&[u8]> {
    table::check(response).ok()?;
    let text = |wanted: &[u8]| {
        let found = table::fields(response).find(|(name, _)| *name == wanted)?;
        found.1.as_text()
    };
    text(b"PASSWORD")?;
    text(b"LOGIN")
}
