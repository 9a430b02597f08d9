//! Bad inputs that are too large or too many for a transcript, each with what must come of it.

use bytes::BufMut as _;
use model::table::{self, Value};

use super::{
    options, text,
    transcript::{Cut, Player},
};
use crate::codec;

/// A `queue.declare` on channel 1 with these arguments (raw table content).
fn declare(arguments: &[u8]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    codec::put_frame(&mut out, codec::METHOD, 1, |out| {
        out.put_slice(&[0, 50, 0, 10, 0, 0, 1, b'q', 0]);
        out.put_u32(u32::try_from(arguments.len()).unwrap());
        out.put_slice(arguments);
    });
    out.to_vec()
}

/// A field that holds `depth` tables or arrays, each in the one before.
fn nested(depth: usize, is_array: bool) -> Vec<u8> {
    let mut content = Vec::new();
    for _ in 0..depth {
        let mut outer = Vec::new();
        if is_array {
            table::put_value(&mut outer, Value::Array(&content));
        } else {
            table::put_field(&mut outer, b"k", Value::Table(&content));
        }
        content = outer;
    }
    let mut field = Vec::new();
    let value = if is_array { Value::Array(&content) } else { Value::Table(&content) };
    table::put_field(&mut field, b"deep", value);
    field
}

fn many_keys(count: usize) -> Vec<u8> {
    let mut content = Vec::new();
    for _ in 0..count {
        table::put_field(&mut content, b"k", Value::Void);
    }
    content
}

/// What came of `input` on a connection in business: its last line.
fn outcome(input: &[u8]) -> String {
    let mut player = Player::open(&options(), 131_072);
    let end = player.feed(input, Cut::Whole);
    let requests = player.out.requests.iter();
    let mut lines: Vec<_> = requests.map(|asked| format!("asked {:?}", asked.request)).collect();
    lines.extend(text::lines(&player.out.bytes));
    if let Err(close) = end {
        lines.push(format!("end {close}"));
    }
    lines.pop().unwrap_or_else(|| "nothing".to_owned())
}

#[test]
fn tables_out_of_bounds_are_syntax_errors() {
    for (what, arguments, expected) in [
        ("tables 33 deep", nested(33, false), "deeper than 32 levels"),
        ("arrays 2,000 deep", nested(2_000, true), "deeper than 32 levels"),
        ("5,000 keys", many_keys(5_000), "more than 4096 entries"),
        ("a length past the end", b"\x01kS\xff\xff\xff\xffabc".to_vec(), "ends inside a value"),
        ("a name past the end", b"\xffk".to_vec(), "ends inside a value"),
        ("no value", b"\x01k".to_vec(), "ends inside a value"),
        ("an unknown tag", b"\x01kZ".to_vec(), "unknown type 0x5a"),
    ] {
        let mut player = Player::open(&options(), 131_072);
        player.feed(&declare(&arguments), Cut::Whole).unwrap();
        let told = text::lines(&player.out.bytes).pop().unwrap();
        assert!(told.contains("reply_code=502"), "{what}: {told}");
        assert!(told.contains(expected), "{what}: {told}");
    }
}

#[test]
fn odd_but_legal_tables_are_taken() {
    let mut odd = Vec::new();
    table::put_field(&mut odd, b"twice", Value::Int(1));
    table::put_field(&mut odd, b"twice", Value::Float(f64::NAN));
    table::put_field(&mut odd, b"", Value::Timestamp(1 << 63));
    table::put_field(&mut odd, b"\xff\0\x1b[", Value::Decimal(255, -1));
    for (what, arguments) in
        [("odd values", odd), ("31 levels", nested(31, false)), ("4,096 keys", many_keys(4_096))]
    {
        let told = outcome(&declare(&arguments));
        assert!(told.contains("asked DeclareQueue"), "{what}: {told}");
    }
}

#[test]
fn any_255_bytes_are_a_name() {
    for letter in ["\\x00", "\\x1b", "\\xe2\\x80\\xae", "\\xff"] {
        let name: String = letter.repeat(255 / letter.len().div_euclid(4).max(1));
        let told = outcome(&text::frame(&format!("1 queue.delete queue=\"{name}\"")));
        assert!(told.contains("asked DeleteQueue"), "{letter}: {told}");
    }
}

#[test]
fn frames_around_the_limit() {
    let mut fits = bytes::BytesMut::new();
    codec::put_frame(&mut fits, codec::BODY, 1, |out| out.put_bytes(0, 131_064));
    assert!(outcome(&fits).contains("reply_code=505"), "a whole frame, but out of place");
    let mut too_large = bytes::BytesMut::new();
    codec::put_frame(&mut too_large, codec::BODY, 1, |out| out.put_bytes(0, 131_065));
    assert!(outcome(&too_large).contains("reply_code=501"));
    // Only the head has come: refused before a byte of it is buffered.
    assert!(outcome(&too_large[..7]).contains("reply_code=501"));
    for kind in [0, 4, 9, 255] {
        let mut unknown = bytes::BytesMut::new();
        codec::put_frame(&mut unknown, kind, 1, |out| out.put_slice(b"abc"));
        assert!(outcome(&unknown).contains("reply_code=501"), "type {kind}");
    }
}

#[test]
fn tuning_is_bounded_on_both_sides() {
    for (channels, frame, heartbeat, is_taken) in [
        (2047, 131_072, 0, true),
        (1, 4_096, 1, true),
        (2047, 131_073, 0, false),
        (2047, u32::MAX, 0, false),
        (2047, 4_095, 0, false),
        (2047, 7, 0, false),
        (2047, 1, 0, false),
        (2047, 0, 0, false),
        (0, 131_072, 0, false),
        (65_535, 131_072, 0, false),
    ] {
        let mut player = Player::tuning(&options());
        let line = format!(
            "0 connection.tune-ok channel_max={channels} frame_max={frame} heartbeat={heartbeat}"
        );
        player.feed(&text::frame(&line), Cut::Whole).unwrap();
        let told = text::lines(&player.out.bytes);
        assert_eq!(told.is_empty(), is_taken, "{line}: {told:?}");
        assert!(is_taken || told[0].contains("reply_code=530"), "{told:?}");
    }
}

#[test]
fn a_stranger_cannot_make_us_buffer() {
    let mut player = Player::new(&options());
    player.feed(b"AMQP\0\0\x09\x01", Cut::Whole).unwrap();
    // Well-formed frames for nobody, until the stranger's allowance is used up.
    let heartbeat = text::frame("heartbeat").repeat(100);
    let fed = (0..1_000).take_while(|_| player.feed(&heartbeat, Cut::Whole).is_ok()).count();
    assert_eq!(fed, 65_528 / heartbeat.len());
}

#[test]
fn a_flood_of_one_message_is_ten_thousand_messages() {
    let mut one = text::frame("1 basic.publish exchange=x routing_key=k");
    one.extend(text::frame("1 header size=3 properties=100002"));
    one.extend(text::frame("1 body abc"));
    let mut player = Player::open(&options(), 131_072);
    player.feed(&one.repeat(10_000), Cut::Whole).unwrap();
    let mut taken = 0;
    while !player.out.requests.is_empty() {
        taken += player.out.requests.len();
        player.out.requests.clear();
        player.feed(&[], Cut::Whole).unwrap();
    }
    assert_eq!(taken, 10_000);
}

#[test]
fn every_channel_can_be_open_and_no_more() {
    let mut player = Player::open(&options(), 131_072);
    for number in 2..=2047 {
        let open = text::frame(&format!("{number} channel.open"));
        player.feed(&open, Cut::Whole).unwrap();
    }
    assert_eq!(player.out.requests.len(), 2046);
    player.feed(&text::frame("2048 channel.open"), Cut::Whole).unwrap();
    let told = text::lines(&player.out.bytes).pop().unwrap();
    assert!(told.contains("reply_code=504"), "{told}");
}

#[test]
fn consumers_of_a_channel_are_limited() {
    let mut player = Player::open(&options(), 131_072);
    let consume = text::frame("1 basic.consume queue=q");
    for _ in 0..1024 {
        player.feed(&consume, Cut::Whole).unwrap();
    }
    assert!(player.out.bytes.is_empty());
    player.feed(&consume, Cut::Whole).unwrap();
    let told = text::lines(&player.out.bytes).pop().unwrap();
    assert!(told.contains("reply_code=530"), "{told}");
}
