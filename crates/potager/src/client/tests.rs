//! Tests of the client against a scripted peer: a listener on a free loopback port that plays a
//! server's side of the protocol. The real servers are met in the conformance suites.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;

use super::method::{self, Received};
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
        assert_eq!(&header, b"AMQP\0\0\x09\x01");
        self.say(0, id::CONNECTION_START, |f| {
            f.u8(0).u8(9).long(&[]).long(b"PLAIN").long(b"en_US")
        });
        let login = self.hear(id::CONNECTION_START_OK);
        assert!(login.payload.windows(12).any(|w| w == b"\0guest\0guest"));
        self.say(0, id::CONNECTION_TUNE, |f| f.u16(10).u32(4096).u16(60));
        let tuned = self.hear(id::CONNECTION_TUNE_OK);
        assert_eq!(&tuned.payload[4..], [0, 10, 0, 0, 16, 0, 0, 0], "no heartbeat, our limits");
        self.hear(id::CONNECTION_OPEN);
        self.say(0, id::CONNECTION_OPEN_OK, |f| f.u8(0));
        self.hear(id::CHANNEL_OPEN);
        self.say(1, id::CHANNEL_OPEN_OK, |f| f.u32(0));
    }

    fn next(&mut self) -> Received {
        loop {
            if let Some(received) = method::take(&mut self.input).unwrap() {
                return received;
            }
            let mut bytes = [0; 4096];
            let length = self.stream.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "the client hung up");
            self.input.extend_from_slice(&bytes[..length]);
        }
    }

    fn hear(&mut self, expected: id::Method) -> Received {
        let received = self.next();
        let heard = (u16::from(received.payload[1]), u16::from(received.payload[3]));
        assert_eq!(heard, expected);
        received
    }

    fn say(
        &mut self,
        channel: u16,
        method: id::Method,
        fill: impl for<'a> FnOnce(Frame<'a>) -> Frame<'a>,
    ) {
        let mut out = Vec::new();
        fill(Frame::method(&mut out, channel, method)).end().unwrap();
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
fn a_body_is_cut_into_frames_and_put_together_again() {
    let (address, playing) = peer(|peer| {
        peer.hear(id::BASIC_PUBLISH);
        let header = peer.next();
        assert_eq!(header.payload[4..12], 9000_u64.to_be_bytes());
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 9000 {
            let body = peer.next();
            assert_eq!(body.kind, id::BODY);
            sizes.push(body.payload.len());
        }
        assert_eq!(sizes, [4088, 4088, 824]);
        let deliver = |frame: Frame<'_>| -> () {
            frame.short("c").u64(7).u8(1).short("").short("q").end().unwrap();
        };
        let mut out = Vec::new();
        deliver(Frame::method(&mut out, 1, id::BASIC_DELIVER));
        content(&mut out, 1, &[], &[b'x'; 5000], 4096).unwrap();
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
        peer.hear(id::CONFIRM_SELECT);
        peer.say(1, id::CONFIRM_SELECT_OK, |f| f);
        for _ in 0..2 {
            peer.hear(id::BASIC_PUBLISH);
            peer.next();
        }
        peer.hear(id::TX_SELECT);
        peer.say(1, id::BASIC_ACK, |f| f.u64(2).u8(1));
        peer.say(1, id::TX_SELECT_OK, |f| f);
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
        peer.hear(id::QUEUE_DECLARE);
        peer.say(1, id::CHANNEL_CLOSE, |f| f.u16(404).short("NOT_FOUND - no queue").u32(0));
        peer.hear(id::CHANNEL_CLOSE_OK);
        peer.say(0, id::CONNECTION_CLOSE, |f| f.u16(320).short("CONNECTION_FORCED").u32(0));
        peer.hear(id::CONNECTION_CLOSE_OK);
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
fn a_name_that_does_not_fit_is_refused_and_sends_nothing() {
    let mut out = vec![1, 2, 3];
    let long = "x".repeat(256);
    let fault = Frame::method(&mut out, 1, id::QUEUE_DELETE).u16(0).short(&long).end();
    assert!(matches!(fault, Err(Fault::TooLong(_))));
    assert_eq!(out, [1, 2, 3]);
}
