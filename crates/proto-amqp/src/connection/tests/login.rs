//! Which mechanisms are offered to whom, and logins by certificate. The conversation around them
//! stands in `testdata/`.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use model::{Proof, Request};
use wire::{Close, Connection as _, Outbox};

use super::text;
use crate::{Connection, Options};

/// A door for clients with certificates that takes passwords from this machine only.
fn guarded() -> Options {
    Options { asks_certificates: true, takes_remote_passwords: false, ..Options::default() }
}

/// What the server says to the header, then to a login, and what it asks of the engine.
fn log_in(
    connection: Connection,
    mechanism: &str,
    response: &str,
) -> (String, Result<String, Close>, Vec<Request>) {
    let (mut connection, mut out) = (connection, Outbox::new());
    let mut say = |bytes: &[u8]| {
        let outcome = connection.on_bytes(Instant::now(), &mut BytesMut::from(bytes), &mut out);
        let said = String::from_utf8_lossy(&out.bytes.split()).into_owned();
        outcome.map(|()| said)
    };
    let start = say(b"AMQP\0\0\x09\x01").unwrap();
    let frame = format!(
        "0 connection.start-ok mechanism={mechanism} response=\"{response}\" \
         client_properties={{capabilities=F:{{authentication_failure_close=t:true}}}}"
    );
    let answer = say(&text::frame(&frame));
    (start, answer, out.requests.drain(..).map(|envelope| envelope.request).collect())
}

fn connection(options: Options, is_loopback: bool) -> Connection {
    Connection::new(Arc::new(options), is_loopback, 7, Instant::now())
}

#[test]
fn mechanisms_are_offered_where_they_may_be_used() {
    let offered = |options: Options, is_loopback| {
        let (start, ..) = log_in(connection(options, is_loopback), "PLAIN", "\\x00a\\x00b");
        ["PLAIN AMQPLAIN", "EXTERNAL"].map(|mechanism| start.contains(mechanism))
    };
    assert_eq!(offered(Options::default(), false), [true, false]);
    assert_eq!(offered(guarded(), true), [true, true]);
    assert_eq!(offered(guarded(), false), [false, true]);
    let plain = Options { takes_remote_passwords: false, ..Options::default() };
    assert_eq!(offered(plain.clone(), false), [false, false]);
    assert_eq!(offered(plain, true), [true, false]);
}

#[test]
fn a_certificate_says_who_it_is_whatever_the_client_says() {
    for response in ["", "root", "\\x00root\\x00secret"] {
        let connection = connection(guarded(), false).with_certificate_name(Bytes::from("ann"));
        let (_, answer, requests) = log_in(connection, "EXTERNAL", response);
        assert_eq!(answer.unwrap(), "", "the engine is asked first");
        let [Request::Authenticate(credentials)] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!((&credentials.user[..], credentials.is_loopback), (&b"ann"[..], false));
        assert_eq!(credentials.proof, Proof::Certificate);
    }
}

#[test]
fn without_a_certificate_external_is_refused() {
    let (_, answer, requests) = log_in(connection(guarded(), true), "EXTERNAL", "ann");
    let answer = answer.unwrap();
    assert!(answer.contains("ACCESS_REFUSED") && answer.contains("EXTERNAL"), "{answer}");
    assert!(requests.is_empty());
}

#[test]
fn external_is_unknown_where_clients_show_no_certificates() {
    let connection = connection(Options::default(), true).with_certificate_name(Bytes::from("ann"));
    let (_, answer, requests) = log_in(connection, "EXTERNAL", "");
    assert!(matches!(answer, Err(Close::Violation(_))), "{answer:?}");
    assert!(requests.is_empty());
}

#[test]
fn a_password_sent_where_it_may_not_be_is_refused_unread() {
    let (_, answer, requests) = log_in(connection(guarded(), false), "PLAIN", "\\x00a\\x00secret");
    assert!(answer.unwrap().contains("ACCESS_REFUSED"));
    assert!(requests.is_empty());
    let (_, _, requests) = log_in(connection(guarded(), true), "PLAIN", "\\x00a\\x00secret");
    assert_eq!(requests.len(), 1, "from this machine it may");
}
