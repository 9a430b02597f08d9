//! Every argument and property error with the words the real server uses, and what good ones mean.

use bytes::Bytes;
use model::{
    Noun, Overflow, Publish, QueueKind, QueueOptions, Refusal,
    properties::{Builder, Properties, Property},
    table::{self, Value},
};

use super::*;

fn queue(arguments: &[(&str, Value<'_>)]) -> Result<QueueOptions, Failure> {
    queue_options(b"q", b"/", &fields(arguments))
}

fn fields(arguments: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in arguments {
        table::put_field(&mut content, name.as_bytes(), *value);
    }
    content
}

/// Source of the expected texts: observed, `RabbitMQ` 3.10.8.
#[test]
fn every_bad_queue_argument_is_named() {
    use Value::{Bool, Float, Int, Text};
    let not_integer = "\"expected integer, got longstr\"";
    for (argument, value, why) in [
        ("x-message-ttl", Int(-1), "{value_negative,-1}"),
        ("x-message-ttl", Text(b"abc"), not_integer),
        ("x-message-ttl", Float(1.5), "\"expected integer, got double\""),
        ("x-message-ttl", Bool(true), "\"expected integer, got bool\""),
        ("x-message-ttl", Int(1 << 62), "{value_too_large,4611686018427387904}"),
        ("x-message-ttl", Int(1 << 40), "{value_too_large,1099511627776}"),
        ("x-expires", Int(0), "{value_zero,0}"),
        ("x-expires", Int(-1), "{value_negative,-1}"),
        ("x-expires", Text(b"a"), not_integer),
        ("x-max-length", Int(-1), "{value_negative,-1}"),
        ("x-max-length", Text(b"a"), not_integer),
        ("x-max-length-bytes", Int(-1), "{value_negative,-1}"),
        ("x-max-length-bytes", Text(b"a"), not_integer),
        ("x-overflow", Text(b"foo"), "invalid_overflow"),
        ("x-overflow", Int(1), "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", Text(b"k"), "routing_key_but_no_dlx_defined"),
        ("x-dead-letter-routing-key", Int(1), "{unacceptable_type,signedint}"),
        ("x-max-priority", Int(256), "{max_value_exceeded,256}"),
        ("x-max-priority", Int(-1), "{value_negative,-1}"),
        ("x-max-priority", Text(b"a"), not_integer),
        ("x-queue-type", Text(b"foo"), "\"unsupported queue type 'foo'\""),
        ("x-queue-type", Int(1), "{unacceptable_type,signedint}"),
        ("x-single-active-consumer", Text(b"a"), "{unacceptable_type,longstr}"),
        ("x-single-active-consumer", Int(1), "{unacceptable_type,signedint}"),
        ("x-queue-mode", Int(1), "{unacceptable_type,signedint}"),
        ("x-queue-version", Text(b"a"), not_integer),
        ("x-delivery-limit", Text(b"a"), not_integer),
        ("x-delivery-limit", Int(-2), "{value_negative,-2}"),
    ] {
        let failure = queue(&[(argument, value)]).expect_err(argument);
        assert_eq!(failure.code, Code::PreconditionFailed, "{argument} {value:?}");
        let expected = format!("invalid arg '{argument}' for queue 'q' in vhost '/': {why}");
        assert_eq!(failure.text, expected, "{argument} {value:?}");
    }
    let failure = queue(&[("x-dead-letter-exchange", Int(1))]).unwrap_err();
    assert_eq!(
        failure.text,
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
    );
    let failure = queue(&[("x-queue-type", Text(b"stream"))]).unwrap_err();
    assert!(failure.text.ends_with("streams are not available over AMQP 0-9-1"));
}

#[test]
fn good_queue_arguments_are_typed() {
    use Value::{Bool, Int, Text, Uint};
    let options = queue(&[
        ("x-message-ttl", Uint(0)),
        ("x-expires", Int(1 << 32)),
        ("x-max-length", Int(5)),
        ("x-max-length-bytes", Int(6)),
        ("x-overflow", Text(b"reject-publish-dlx")),
        ("x-dead-letter-exchange", Text(b"")),
        ("x-dead-letter-routing-key", Text(b"k")),
        ("x-max-priority", Int(255)),
        ("x-delivery-limit", Int(3)),
        ("x-single-active-consumer", Bool(true)),
        ("x-queue-type", Text(b"quorum")),
        ("x-queue-mode", Text(b"lazy")),
        ("x-queue-version", Int(2)),
        ("x-queue-leader-locator", Text(b"balanced")),
        ("x-quorum-initial-group-size", Int(3)),
        ("x-of-my-own", Text(b"anything")),
    ]);
    let expected = QueueOptions {
        kind: QueueKind::Quorum,
        message_ttl_ms: Some(0),
        expires_ms: Some(1 << 32),
        length_max: Some(5),
        bytes_max: Some(6),
        overflow: Overflow::RejectPublishDeadLetter,
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some(Bytes::from_static(b"k")),
        delivery_max: Some(3),
        priority_max: 255,
        is_single_active_consumer: true,
    };
    assert_eq!(options, Ok(expected));
    let unlimited = queue(&[("x-delivery-limit", Int(-1))]).unwrap();
    assert_eq!(unlimited.delivery_max, None);
}

#[test]
fn exchange_types_are_known_or_refused() {
    let spec = |kind: &[u8], arguments: &[(&str, Value<'_>)]| {
        exchange_spec(b"x", b"/", kind, &fields(arguments))
    };
    for kind in ["direct", "fanout", "topic", "headers", "x-consistent-hash"] {
        assert!(!spec(kind.as_bytes(), &[]).unwrap().is_delayed, "{kind}");
    }
    let failure = spec(b"foo", &[]).unwrap_err();
    let told = (failure.code, failure.text.as_str());
    assert_eq!(told, (Code::PreconditionFailed, "unknown exchange type 'foo'"));
    let delayed = spec(b"x-delayed-message", &[("x-delayed-type", Value::Text(b"topic"))]);
    let delayed = delayed.unwrap();
    assert!(delayed.is_delayed && delayed.kind == model::ExchangeKind::Topic);
    for bad in [&[][..], &[("x-delayed-type", Value::Text(b"foo"))]] {
        assert_eq!(spec(b"x-delayed-message", bad).unwrap_err().code, Code::PreconditionFailed);
    }
    let failure = spec(b"direct", &[("alternate-exchange", Value::Int(1))]).unwrap_err();
    assert_eq!(
        failure.text,
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
    );
}

#[test]
fn consumer_priorities_are_clamped_numbers() {
    let priority = |value| consumer_priority(b"q", b"/", &fields(&[("x-priority", value)]));
    assert_eq!(priority(Value::Int(-7)), Ok(-7));
    assert_eq!(priority(Value::Int(i64::MAX)), Ok(i32::MAX));
    assert_eq!(consumer_priority(b"q", b"/", b""), Ok(0));
    let failure = priority(Value::Text(b"a")).unwrap_err();
    assert!(failure.text.contains("x-priority"), "{}", failure.text);
}

fn read(properties: Bytes) -> Result<(Publish, bool), Failure> {
    let mut publish = Publish { properties, ..Publish::default() };
    read_properties(&mut publish, Some(b"guest")).map(|is_reply| (publish, is_reply))
}

#[test]
fn expirations_are_read_as_the_real_server_does() {
    let with = |text: &str| {
        read(
            Builder::new()
                .with(Property::Expiration, Bytes::copy_from_slice(text.as_bytes()))
                .build(),
        )
        .map(|(publish, _)| publish.options.expiration_ms)
    };
    assert_eq!(with("0"), Ok(Some(0)));
    assert_eq!(with("+5"), Ok(Some(5)));
    assert_eq!(with("-0"), Ok(Some(0)));
    for (text, why) in [
        ("", "no_integer"),
        ("abc", "no_integer"),
        (" 5", "no_integer"),
        ("-", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("1.5", "{leftover_string,\".5\"}"),
        ("1099511627776", "{value_too_large,1099511627776}"),
        ("99999999999999999999", "{value_too_large,99999999999999999999}"),
    ] {
        let failure = with(text).unwrap_err();
        assert_eq!(failure.text, format!("invalid expiration '{text}': {why}"));
    }
}

#[test]
fn headers_that_the_broker_obeys_are_read() {
    let mut cc = Vec::new();
    table::put_value(&mut cc, Value::Text(b"one"));
    table::put_value(&mut cc, Value::Int(5));
    let mut bcc = Vec::new();
    table::put_value(&mut bcc, Value::Text(b"two"));
    let headers = fields(&[
        ("CC", Value::Array(&cc)),
        ("keep", Value::Text(b"me")),
        ("BCC", Value::Array(&bcc)),
        ("x-delay", Value::Int(5_000)),
    ]);
    let list = Builder::new()
        .with(Property::Headers, headers)
        .with(Property::Priority, vec![9])
        .with(Property::ReplyTo, REPLY_TO)
        .with(Property::UserId, &b"guest"[..]);
    let (publish, is_reply) = read(list.build()).unwrap();
    assert!(is_reply);
    let options = &publish.options;
    assert_eq!(options.priority, 9);
    assert_eq!(options.delay_ms, Some(5_000));
    assert!(options.has_headers);
    assert_eq!(**options.extra_keys.as_ref().unwrap(), [&b"one"[..], b"two"]);
    let stored = Properties::parse(&publish.properties).unwrap();
    assert_eq!(stored.header(b"BCC"), None);
    assert_eq!(stored.header(b"keep"), Some(Value::Text(b"me")));
    assert_eq!(stored.get(Property::UserId), Some(&b"guest"[..]));
}

#[test]
fn odd_delays_mean_none_or_the_longest() {
    let delay = |value| {
        let list = Builder::new().with(Property::Headers, fields(&[("x-delay", value)]));
        read(list.build()).unwrap().0.options.delay_ms
    };
    assert_eq!(delay(Value::Text(b"250")), Some(250));
    assert_eq!(delay(Value::Int(1 << 32)), Some(0xFFFF_FFFF));
    for none in [Value::Int(0), Value::Int(-5), Value::Text(b"soon"), Value::Void] {
        assert_eq!(delay(none), None, "{none:?}");
    }
}

#[test]
fn ten_thousand_carbon_copies_are_refused() {
    let mut keys = Vec::new();
    for _ in 0..10_000 {
        table::put_value(&mut keys, Value::Text(b"k"));
    }
    let list = Builder::new().with(Property::Headers, fields(&[("CC", Value::Array(&keys))]));
    let failure = read(list.build()).unwrap_err();
    assert_eq!(failure.code, Code::SyntaxError, "the table itself has too many entries");
    let mut keys = Vec::new();
    for _ in 0..2_000 {
        table::put_value(&mut keys, Value::Text(b"k"));
    }
    let list = Builder::new().with(Property::Headers, fields(&[("BCC", Value::Array(&keys))]));
    assert_eq!(read(list.build()).unwrap_err().code, Code::PreconditionFailed);
}

#[test]
fn a_delivery_count_is_shown_once() {
    let headers = fields(&[("x-delivery-count", Value::Int(1)), ("a", Value::Bool(true))]);
    let old = Builder::new().with(Property::Headers, headers).build();
    let shown = with_delivery_count(&old, 7);
    let list = Properties::parse(&shown).unwrap();
    let headers: Vec<_> = table::fields(list.headers().unwrap()).collect();
    assert_eq!(
        headers,
        [(&b"x-delivery-count"[..], Value::Int(7)), (&b"a"[..], Value::Bool(true))]
    );
    let list = with_delivery_count(b"", 1);
    assert!(Properties::parse(&list).unwrap().header(b"x-delivery-count").is_some());
}

#[test]
fn every_refusal_has_a_code_and_words() {
    let queue = || Bytes::from_static(b"q");
    let name = queue;
    for (given, code, text) in [
        (
            Refusal::NotFound { noun: Noun::Exchange, name: name() },
            Code::NotFound,
            "no exchange 'q' in vhost '/'",
        ),
        (
            Refusal::NotFound { noun: Noun::Vhost, name: name() },
            Code::NotAllowed,
            "vhost q not found",
        ),
        (
            Refusal::InUse { noun: Noun::Queue, name: name() },
            Code::PreconditionFailed,
            "queue 'q' in vhost '/' in use",
        ),
        (
            Refusal::NotEmpty { queue: queue() },
            Code::PreconditionFailed,
            "queue 'q' in vhost '/' not empty",
        ),
        (
            Refusal::ExclusiveConsumer { queue: queue() },
            Code::AccessRefused,
            "queue 'q' in vhost '/' in exclusive use",
        ),
        (Refusal::UnknownDelivery { tag: 5 }, Code::PreconditionFailed, "unknown delivery tag 5"),
        (Refusal::AccessRefused { reason: "no".to_owned() }, Code::AccessRefused, "no"),
        (
            Refusal::LimitReached { limit: "queues".to_owned() },
            Code::PreconditionFailed,
            "limit reached in vhost '/': queues",
        ),
        (Refusal::Unavailable { reason: "disk" }, Code::PreconditionFailed, "disk"),
        (Refusal::NotOpen, Code::ChannelError, "expected 'channel.open'"),
    ] {
        let failure = refusal(&given, b"/");
        assert_eq!((failure.code, failure.text.as_str()), (code, text), "{given:?}");
    }
}

#[test]
fn made_names_differ_and_hide_their_seed() {
    let (mut one, mut other) = (Names::new(1), Names::new(2));
    let made = [one.next("amq.gen-"), one.next("amq.gen-"), other.next("amq.gen-")];
    assert!(made.iter().all(|name| name.starts_with(b"amq.gen-") && name.len() == 30));
    assert!(made[0] != made[1] && made[0] != made[2] && made[1] != made[2]);
}

#[test]
fn names_lose_line_breaks_and_texts_lose_control_characters() {
    assert_eq!(without_line_breaks(b"a\r\nb"), &b"ab"[..]);
    assert_eq!(printable(b"a\x1b[31m\0\xFF"), "a?[31m?\u{FFFD}");
}
