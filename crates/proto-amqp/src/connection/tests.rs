//! The state machine against its transcripts, cut everywhere, and against arbitrary bytes.

#![allow(clippy::string_slice, reason = "transcripts are ASCII")]

mod hostile;
mod login;
mod text;
mod transcript;

use std::{fs, path::PathBuf};

use proptest::{collection::vec, prelude::*};
use transcript::{Cut, Player, steps};
use wire::Close;

use super::Connection;
use crate::{
    Options, codec,
    table::{Kind, METHODS, Method},
};

/// Every transcript: its path and its text.
fn transcripts() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() > 5, "only {} transcripts in {}", files.len(), folder.display());
    files
}

fn options() -> Options {
    Options { version: "1.2.3".to_owned(), ..Options::default() }
}

#[test]
fn transcripts_come_out_as_recorded() {
    let is_recording = std::env::var_os("UPDATE").is_some();
    let mut differing = Vec::new();
    for (path, recorded) in transcripts() {
        let played = Player::new(&options()).play(&steps(&recorded), Cut::Whole);
        if played == recorded {
            continue;
        }
        if is_recording {
            fs::write(&path, played).unwrap();
        } else {
            let line = played.lines().zip(recorded.lines()).position(|(new, old)| new != old);
            let line = line.unwrap_or_else(|| recorded.lines().count().min(played.lines().count()));
            differing.push(format!(
                "{} line {}: recorded {:?}, now {:?}",
                path.display(),
                line + 1,
                recorded.lines().nth(line),
                played.lines().nth(line)
            ));
        }
    }
    assert!(differing.is_empty(), "UPDATE=1 records anew:\n{}", differing.join("\n"));
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    for (path, recorded) in transcripts() {
        let steps = steps(&recorded);
        let whole = Player::new(&options()).play(&steps, Cut::Whole);
        let longest = steps.iter().map(|step| step.input().len()).max().unwrap_or(0);
        for at in 0..longest.min(2_000) {
            let cut = Player::new(&options()).play(&steps, Cut::At(at));
            assert_eq!(cut, whole, "{} cut at byte {at} of each step", path.display());
        }
        let bytewise = Player::new(&options()).play(&steps, Cut::Bytewise);
        assert_eq!(bytewise, whole, "{} byte by byte", path.display());
    }
}

#[test]
fn an_idle_connection_is_small() {
    let channel = size_of::<super::channel::Channel>() + size_of::<usize>() * 4;
    let all = size_of::<Connection>() + size_of::<super::Login>() + channel;
    assert!(all <= 1024, "connection, login and one channel take {all} bytes");
}

/// Feeds input in one piece to a connection in business; what it answers is bounded by the test.
fn feed(input: &[u8]) -> (Player, Result<(), Close>) {
    let mut player = Player::open(&options(), 131_072);
    let result = player.feed(input, Cut::Whole);
    (player, result)
}

#[test]
fn a_million_empty_body_frames_cost_nothing() {
    let mut input = text::frame("1 basic.publish routing_key=q");
    input.extend(text::frame("1 header size=18"));
    let (mut player, result) = feed(&input);
    assert_eq!(result, Ok(()));
    let empty = text::frame("1 body \"\"").repeat(1_000);
    for _ in 0..1_000 {
        player.feed(&empty, Cut::Whole).unwrap();
    }
    assert!(player.out.bytes.is_empty() && player.out.requests.is_empty());
    player.feed(&text::frame("1 body eighteen-bytes-now"), Cut::Whole).unwrap();
    assert_eq!(player.out.requests.len(), 1);
}

#[test]
fn a_large_announcement_allocates_nothing_much() {
    let options = Options {
        limits: model::Limits { message_bytes_max: u32::MAX, ..model::Limits::default() },
        ..options()
    };
    let mut player = Player::open(&options, 131_072);
    let mut input = text::frame("1 basic.publish routing_key=q");
    input.extend(text::frame("1 header size=4294967295"));
    input.extend(text::frame("1 body abc"));
    player.feed(&input, Cut::Whole).unwrap();
    let capacity = player.connection.channels.get(1).unwrap().assembly.as_ref().unwrap();
    assert!(capacity.body.capacity() <= 512 * 1024, "{}", capacity.body.capacity());
}

#[test]
fn a_transaction_is_bounded() {
    let limits =
        model::Limits { commit_bytes_max: 100_000, commit_ops_max: 50, ..model::Limits::default() };
    let options = Options { limits, ..options() };
    for (frames, most) in [
        (vec!["1 basic.ack delivery_tag=1"], 50),
        (vec!["1 basic.publish routing_key=q", "1 header size=20000", "body"], 4),
    ] {
        let mut player = Player::open(&options, 131_072);
        player.feed(&text::frame("1 tx.select"), Cut::Whole).unwrap();
        player.out.requests.clear();
        let body = format!("1 body {}", "x".repeat(20_000));
        let step: Vec<u8> = frames
            .iter()
            .flat_map(|frame| text::frame(if *frame == "body" { &body } else { frame }))
            .collect();
        for _ in 0..most {
            player.feed(&step, Cut::Whole).unwrap();
            assert!(player.out.requests.is_empty());
        }
        player.feed(&step, Cut::Whole).unwrap();
        assert_eq!(player.out.requests.len(), 1, "the channel closes");
    }
}

#[test]
fn decoding_stops_when_the_outbox_is_full() {
    let acks = text::frame("1 basic.ack delivery_tag=1").repeat(10_000);
    let (mut player, result) = feed(&acks);
    assert_eq!(result, Ok(()));
    assert_eq!(player.out.requests.len(), wire::OUTBOX_REQUESTS_MAX);
    player.out.requests.clear();
    player.feed(&[], Cut::Whole).unwrap();
    assert_eq!(player.out.requests.len(), wire::OUTBOX_REQUESTS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), at in 0_usize..300) {
        let mut stranger = Player::new(&options());
        drop(stranger.feed(&bytes, Cut::At(at)));
        let mut greeted = b"AMQP\0\0\x09\x01".to_vec();
        greeted.extend_from_slice(&bytes);
        drop(Player::new(&options()).feed(&greeted, Cut::At(at)));
        drop(feed(&bytes));
    }

    #[test]
    fn arbitrary_frames_never_panic_and_cuts_change_nothing(
        frames in vec((0_u8..10, 0_u16..3, vec(any::<u8>(), 0..40), 0_usize..80), 1..12),
        at in 0_usize..200,
    ) {
        let mut input = bytes::BytesMut::new();
        for (kind, channel, payload, method) in &frames {
            let kind = if *kind > 4 { codec::METHOD } else { *kind };
            codec::put_frame(&mut input, kind, *channel, |out| {
                if let (codec::METHOD, Some(entry)) = (kind, METHODS.get(*method)) {
                    out.extend_from_slice(&entry.class.to_be_bytes());
                    out.extend_from_slice(&entry.method.to_be_bytes());
                }
                if kind == codec::HEADER {
                    out.extend_from_slice(&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                }
                out.extend_from_slice(payload);
            });
        }
        let run = |cut| {
            let mut player = Player::open(&options(), 131_072);
            let end = player.feed(&input, cut);
            let requests: Vec<_> =
                player.out.requests.iter().map(|envelope| format!("{envelope:?}")).collect();
            (end, player.out.bytes.to_vec(), requests)
        };
        let whole = run(Cut::Whole);
        prop_assert_eq!(&run(Cut::At(at)), &whole);
        prop_assert_eq!(&run(Cut::Bytewise), &whole);
    }

    #[test]
    fn both_codecs_agree_on_every_method(
        index in 0..METHODS.len(),
        numbers in vec(any::<u64>(), 9),
        texts in vec("[ -!#-\\[\\]-~]{0,40}", 9),
    ) {
        let entry = &METHODS[index];
        let values: Vec<String> = entry.arguments.iter().enumerate().map(|(at, (_, kind))| {
            let number = numbers[at];
            match kind {
                Kind::octet => (number & 0xFF).to_string(),
                Kind::short => (number & 0xFFFF).to_string(),
                Kind::long => (number & 0xFFFF_FFFF).to_string(),
                Kind::longlong => number.to_string(),
                Kind::bit => (number & 1 == 1).to_string(),
                Kind::shortstr | Kind::longstr => texts[at].clone(),
                Kind::table => format!("{{n=l:{} t=S:\"x\" f=F:{{b=t:true}}}}", number >> 1),
            }
        }).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let expected = text::payload(entry, &values);
        let method = Method::parse(&expected).unwrap();
        prop_assert_eq!(method.name(), entry.name);
        let mut frame = bytes::BytesMut::new();
        method.put(&mut frame, 7);
        let head = codec::peek(&frame, 131_072).unwrap().unwrap();
        prop_assert_eq!((head.kind, head.channel), (codec::METHOD, 7));
        prop_assert_eq!(head.payload(&frame), &expected[..]);
        for cut in 0..expected.len() {
            prop_assert!(Method::parse(&expected[..cut]).is_err());
        }
    }
}
