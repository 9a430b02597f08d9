//! Tests of the client against a scripted peer: a listener on a free loopback port that plays a
//! server's side of the protocol. The real servers are met in the conformance suites.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_amqp::codec;
use proto_amqp::table::Method;

use super::link::{Received, take};
use super::*;

/// Plays a server after the handshake; returns the address to connect to.
fn peer(script: impl FnOnce(&mut Peer) + Send + 'static) -> (Address, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("amqp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let playing = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut peer = Peer { stream, input: BytesMut::new() };
        peer.shake_hands();
        script(&mut peer);
    });
    (address, playing)
}

struct Peer {
    stream: TcpStream,
    input: BytesMut,
}

impl Peer {
    fn shake_hands(&mut self) {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).unwrap();
        assert_eq!(header, codec::PROTOCOL_HEADER);
        self.say(
            0,
            &Method::ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: &[],
                mechanisms: b"PLAIN",
                locales: b"en_US",
            },
        );
        let login = self.hear("connection.start-ok");
        let Method::ConnectionStartOk { response, .. } = Method::parse(&login).unwrap() else {
            panic!("{login:?}");
        };
        assert_eq!(response, b"\0guest\0guest");
        self.say(0, &Method::ConnectionTune { channel_max: 10, frame_max: 4096, heartbeat: 60 });
        let tuned = self.hear("connection.tune-ok");
        let expected = Method::ConnectionTuneOk { channel_max: 10, frame_max: 4096, heartbeat: 0 };
        assert_eq!(Method::parse(&tuned).unwrap(), expected);
        self.hear("connection.open");
        self.say(0, &Method::ConnectionOpenOk { known_hosts: &[] });
        self.hear("channel.open");
        self.say(1, &Method::ChannelOpenOk { channel_id: &[] });
    }

    fn next(&mut self) -> Received {
        loop {
            if let Some(received) = take(&mut self.input, 4096).unwrap() {
                return received;
            }
            let mut bytes = [0; 4096];
            let length = self.stream.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "the client hung up");
            self.input.extend_from_slice(&bytes[..length]);
        }
    }

    fn hear(&mut self, expected: &str) -> Bytes {
        let received = self.next();
        assert_eq!(Method::parse(&received.payload).unwrap().name(), expected);
        received.payload
    }

    fn say(&mut self, channel: u16, method: &Method<'_>) {
        let mut out = BytesMut::new();
        method.put(&mut out, channel);
        self.stream.write_all(&out).unwrap();
    }
}

#[test]
fn addresses_read_as_other_clients_read_them() {
    for (text, host, port, login, vhost) in [
        ("amqp://", "localhost", 5672, "guest:guest", "/"),
        ("amqp://h:1", "h", 1, "guest:guest", "/"),
        ("amqp://u:p%40q@h/%2F", "h", 5672, "u:p@q", "/"),
        ("amqp://u:p@[::1]:99/team", "::1", 99, "u:p", "team"),
        ("amqp://h/", "h", 5672, "guest:guest", "/"),
    ] {
        let address: Address = text.parse().unwrap();
        let Address { user, password, .. } = &address;
        assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
        assert_eq!(format!("{user}:{password}"), login, "{text}");
        assert_eq!(address.vhost, vhost, "{text}");
        assert!(!format!("{address:?}").contains("p@q"), "a password is never shown");
    }
    for text in ["http://h", "amqp://h:99999", "amqp://h:x", "amqp://h/%zz", "amqp://h/%2"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}

#[test]
fn tls_has_a_port_of_its_own() {
    let address: Address = "amqps://h/x".parse().unwrap();
    assert_eq!((address.port, address.has_tls), (5671, true));
    assert_eq!(format!("{address:?}"), "amqps://guest@h:5671/x");
    let address: Address = "amqp://h:5671".parse().unwrap();
    assert!(!address.has_tls, "the scheme decides, not the port");
}

/// Promise: P20.
#[test]
fn no_fault_of_an_address_repeats_its_password() {
    for text in ["http://u:hidden@h", "u:hidden@h", "amqp://u:hidden%z@h", "amqp://u:hidden/x@h"] {
        let fault = text.parse::<Address>().unwrap_err();
        assert!(!fault.to_string().contains("hidden"), "{text}: {fault}");
        assert!(!format!("{fault:?}").contains("hidden"), "{text}: {fault:?}");
    }
}

#[test]
fn a_body_is_cut_into_frames_and_put_together_again() {
    let (address, playing) = peer(|peer| {
        peer.hear("basic.publish");
        let header = peer.next();
        assert_eq!(header.payload[4..12], 9000_u64.to_be_bytes());
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 9000 {
            let body = peer.next();
            assert_eq!(body.kind, codec::BODY);
            sizes.push(body.payload.len());
        }
        assert_eq!(sizes, [4088, 4088, 824]);
        let mut out = BytesMut::new();
        let deliver = Method::BasicDeliver {
            consumer_tag: b"c",
            delivery_tag: 7,
            redelivered: true,
            exchange: &[],
            routing_key: b"q",
        };
        deliver.put(&mut out, 1);
        codec::put_content(&mut out, 1, &[], &[b'x'; 5000], 4096);
        peer.stream.write_all(&out).unwrap();
    });
    let mut client = Client::connect(&address).unwrap();
    let message = Message { routing_key: "q", body: &[b'x'; 9000], ..Message::default() };
    client.publish(&message).unwrap();
    let Some(Event::Delivery(delivery)) = client.next_event(Duration::from_secs(5)).unwrap() else {
        panic!("no delivery");
    };
    assert_eq!((delivery.tag, delivery.is_redelivered), (7, true));
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", "q"));
    assert_eq!(delivery.body, [b'x'; 5000][..]);
    playing.join().unwrap();
}

#[test]
fn an_event_that_comes_before_a_reply_is_kept() {
    let (address, playing) = peer(|peer| {
        peer.hear("confirm.select");
        peer.say(1, &Method::ConfirmSelectOk {});
        for _ in 0..2 {
            peer.hear("basic.publish");
            peer.next();
        }
        peer.hear("tx.select");
        peer.say(1, &Method::BasicAck { delivery_tag: 2, multiple: true });
        peer.say(1, &Method::TxSelectOk {});
    });
    let mut client = Client::connect(&address).unwrap();
    client.confirm_select().unwrap();
    assert_eq!(client.publish(&Message::default()).unwrap(), 1);
    assert_eq!(client.publish(&Message::default()).unwrap(), 2);
    assert_eq!(client.unconfirmed(), 2);
    client.tx_select().unwrap();
    assert_eq!(client.unconfirmed(), 0);
    for expected in [1, 2] {
        let event = client.next_event(Duration::ZERO).unwrap();
        assert!(
            matches!(event, Some(Event::Confirm { number, is_ack: true }) if number == expected),
            "{event:?}"
        );
    }
    playing.join().unwrap();
}

#[test]
fn what_the_server_says_at_the_end_reaches_the_caller() {
    let (address, playing) = peer(|peer| {
        peer.hear("queue.declare");
        let (class, method, text) = (0, 0, b"NOT_FOUND - no queue");
        peer.say(1, &Method::ChannelClose { reply_code: 404, reply_text: text, class, method });
        peer.hear("channel.close-ok");
        let reply_text = b"CONNECTION_FORCED";
        peer.say(0, &Method::ConnectionClose { reply_code: 320, reply_text, class, method });
        peer.hear("connection.close-ok");
    });
    let mut client = Client::connect(&address).unwrap();
    let passive = QueueSpec { name: "q", is_passive: true, ..QueueSpec::default() };
    let fault = client.declare_queue(&passive).unwrap_err();
    assert_eq!(fault.to_string(), "the server refused: 404 NOT_FOUND - no queue");
    let fault = client.next_event(Duration::from_secs(5)).unwrap_err();
    assert!(fault.is_disconnect(), "{fault}");
    let fault = client.next_event(Duration::from_secs(5)).unwrap_err();
    assert!(fault.is_disconnect(), "{fault}");
    playing.join().unwrap();
}

#[test]
fn a_name_that_does_not_fit_is_refused() {
    assert_eq!(link::name(&"x".repeat(255)).unwrap().len(), 255);
    assert!(matches!(link::name(&"x".repeat(256)), Err(Fault::TooLong(_))));
}

#[test]
fn a_message_is_fetched_past_other_events() {
    let (address, playing) = peer(|peer| {
        peer.hear("basic.get");
        let mut out = BytesMut::new();
        let (exchange, routing_key, message_count) = (&b""[..], &b"q"[..], 3);
        let (delivery_tag, redelivered) = (1, false);
        Method::BasicCancel { consumer_tag: b"c", nowait: true }.put(&mut out, 1);
        Method::BasicGetOk { delivery_tag, redelivered, exchange, routing_key, message_count }
            .put(&mut out, 1);
        codec::put_content(&mut out, 1, &[], b"body", 4096);
        peer.stream.write_all(&out).unwrap();
        peer.hear("basic.get");
        peer.say(1, &Method::BasicGetEmpty { cluster_id: &[] });
    });
    let mut client = Client::connect(&address).unwrap();
    let got = client.get("q", true).unwrap().unwrap();
    assert_eq!((got.tag, &got.body[..]), (1, &b"body"[..]));
    assert!(client.get("q", true).unwrap().is_none());
    assert!(matches!(client.next_event(Duration::ZERO).unwrap(), Some(Event::Cancelled)));
    playing.join().unwrap();
}
