//! Lines and commands, one by one and at random. What they do is tried in `connection/tests`.
//! Both directions are held against each other, and numbers against the original's answers.

#![allow(clippy::arithmetic_side_effects, reason = "what overflows fails the test")]
#![allow(clippy::string_slice, reason = "the strings are ASCII")]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::table::{Form, VERBS};

fn parse(line: &str) -> Result<Command<'_>, Fault> {
    Command::parse(line.as_bytes())
}

#[test]
fn a_line_ends_at_its_first_cr_lf() {
    let long = "x".repeat(300);
    for (input, expected) in [
        ("", Line::Partial(0)),
        ("a", Line::Partial(1)),
        ("a\r", Line::Partial(1)),
        ("a\r\n", Line::Whole(1)),
        ("\r\n", Line::Whole(0)),
        ("a\rb\r\r\nc\r\n", Line::Whole(4)),
        ("a\nb", Line::Partial(3)),
        (&long, Line::TooLong),
        (&format!("{}\r\n", &long[..222]), Line::Whole(222)),
        (&format!("{}\r\n", &long[..223]), Line::TooLong),
        (&long[..223], Line::Partial(223)),
        (&format!("delete-batch {long}"), Line::Partial(313)),
        (&format!("delete-batch {long}\r\n"), Line::Whole(313)),
        (&format!("delete-batch {}", long.repeat(100)), Line::TooLong),
    ] {
        assert_eq!(first_line(input.as_bytes(), 0), expected, "{input:?}");
    }
}

#[test]
fn what_was_seen_is_not_searched_again() {
    // The end that an earlier look would have found is passed over.
    assert_eq!(first_line(b"a\r\nb\r\n", 2), Line::Whole(4));
    assert_eq!(first_line(b"abc", 9), Line::Partial(3));
}

#[test]
fn the_longest_batch_fits_its_line() {
    let ids = vec![u64::MAX.to_string(); BATCH_MAX].join(" ");
    let line = format!("delete-batch {ids}\r\n");
    assert_eq!(first_line(line.as_bytes(), 0), Line::Whole(line.len() - 2));
    let Ok(Command::DeleteBatch(read)) = parse(line.trim_end()) else { panic!("{line}") };
    assert_eq!(read.count(), BATCH_MAX);
    assert_eq!(parse(&format!("delete-batch {}", "1 ".repeat(1001))), Err(Fault::BadFormat));
}

#[test]
fn numbers_are_read_as_the_original_reads_them() {
    for (line, expected) in [
        ("peek 0007", Ok(Command::Peek(7))),
        ("peek    7", Ok(Command::Peek(7))),
        ("peek 18446744073709551615", Ok(Command::Peek(u64::MAX))),
        ("kick 1x", Ok(Command::Kick(1))),
        ("kick \t+1rest", Ok(Command::Kick(1))),
        ("kick -1", Ok(Command::Kick(u32::MAX))),
        ("kick 4294967296", Ok(Command::Kick(0))),
        ("kick 4294967297", Ok(Command::Kick(1))),
        ("reserve-with-timeout 0x", Ok(Command::ReserveWithTimeout(0))),
        ("reserve-with-timeout 2147483647", Ok(Command::ReserveWithTimeout(2_147_483_647))),
        ("pause-tubea 1", Ok(Command::PauseTube { tube: b"a", delay_s: 1 })),
        ("release 1 2 3", Ok(Command::Release { id: 1, priority: 2, delay_s: 3 })),
    ] {
        assert_eq!(parse(line), expected, "{line}");
    }
}

#[test]
fn bad_forms_are_bad() {
    let long = format!("use {}", "a".repeat(201));
    for line in [
        // Hostile list 1, 5, 6, 8, 9, 10.
        "put 0 0 1 4294967296",
        "put 0 0 1 -1",
        "put 0 0 1",
        "put 4294967296 0 1 1",
        "put 0 4294967296 1 1",
        "put 0 0 4294967296 1",
        &long,
        "use -a",
        "use a b",
        "use \u{e4}",
        "use ",
        "watch  a",
        "reserve-with-timeout 2147483648",
        "reserve-with-timeout 4294967296",
        "reserve-with-timeout -1",
        "kick 18446744073709551616",
        "kick x",
        "kick --1",
        "kick - 1",
        "kick -+1",
        "pause-tube a 4294967296",
        "pause-tube a 1 ",
        "peek 18446744073709551616",
        "peek 1 ",
        "peek \t1",
        "peek +1",
        "release 1 2",
        "release 1 2 3 4",
        "bury 1",
        "stats ",
        "login a",
        "login  b",
        "login a ",
        "nonsense\0",
    ] {
        assert_eq!(parse(line), Err(Fault::BadFormat), "{line:?}");
    }
    assert_eq!(parse("kick"), Err(Fault::Unknown));
    // The numbers are good: what is behind them is judged later.
    let Ok(Command::Put(put)) = parse("put 0 0 1 1e3") else { panic!() };
    assert_eq!((put.body_bytes, put.tail), (1, Tail::Garbage));
}

#[test]
fn every_form_is_read_as_the_table_says() {
    for entry in &VERBS {
        let (good, bad): (&[&str], &[&str]) = match entry.form {
            Form::Nothing => (&[""], &[" ", "x", "1"]),
            Form::Anything => (&["", " x"], &[]),
            Form::Id => (&["1", " 1"], &["", "x", "1 2", "-1"]),
            Form::IdPriority => (&["1 2"], &["", "1", "1 2 3", "1 4294967296"]),
            Form::IdPriorityDelay => (&["1 2 3"], &["", "1 2", "1 2 x"]),
            Form::Tube => (&["a", "(a)"], &["", "a b", "-a", "a\t"]),
            Form::TubeSeconds => (&[" a 1", "a 1"], &["", " a", " 1", " a x"]),
            Form::Seconds => (&["1", "1 x"], &["", "x"]),
            Form::Bound => (&["1", "-1", "1x"], &["", "x"]),
            Form::Count => (&["1", "1000"], &["", "0", "1001", "1 "]),
            Form::Ids => (&["1", "1 2", "1 2 "], &["", "x", "1 x", "1x"]),
            Form::Job => (&["1 2 3 4", "1 2 3 4 grp:a"], &["", "1 2 3", "x"]),
            Form::Login => (&["a b", "a b c"], &["", "a", "a "]),
        };
        for (tail, is_good) in
            good.iter().map(|tail| (tail, true)).chain(bad.iter().map(|tail| (tail, false)))
        {
            let line = format!("{}{tail}", entry.prefix);
            let read = parse(&line);
            assert_eq!(read.is_ok(), is_good, "{line:?} {read:?}");
            if let Ok(read) = read {
                assert_eq!(read.verb(), entry.verb);
            }
        }
    }
}

#[test]
fn passwords_are_not_shown() {
    let Ok(command) = parse("login ada open sesame") else { panic!() };
    assert_eq!(command, Command::Login(Login { user: b"ada", password: b"open sesame" }));
    let shown = format!("{command:?}");
    assert!(!shown.contains("sesame") && !shown.contains(&format!("{:?}", b"sesame")), "{shown}");
}

const NAME: &str = "[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}";

fn ties() -> impl Strategy<Value = Tail> {
    let key = || proptest::option::of("[a-z0-9+/;.$_()]{1,9}".prop_map(Bytes::from));
    (key(), any::<u32>(), key(), key(), key(), 1..=u32::MAX).prop_map(
        |(idempotency, seconds, group, after_group, concurrency, count)| {
            let ties = Ties {
                idempotency_s: if idempotency.is_some() { seconds } else { 0 },
                idempotency,
                group,
                after_group,
                concurrency: concurrency.map(|key| (key, count)),
            };
            if ties == Ties::default() { Tail::Nothing } else { Tail::Ties(Box::new(ties)) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn commands_survive_the_wire(
        index in 0..VERBS.len(),
        id in any::<u64>(),
        numbers in any::<[u32; 4]>(),
        names in (NAME, "[!-~]{1,9}", "[ -~]{1,20}"),
        (tail, ids) in (ties(), vec(any::<u64>(), 1..20)),
    ) {
        let [priority, delay_s, ttr_s, body_bytes] = numbers;
        let tube = names.0.as_bytes();
        let ids = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        let command = match VERBS[index].verb {
            Verb::Put => Command::Put(Put { priority, delay_s, ttr_s, body_bytes, tail }),
            Verb::Peek => Command::Peek(id),
            Verb::PeekReady => Command::PeekReady,
            Verb::PeekDelayed => Command::PeekDelayed,
            Verb::PeekBuried => Command::PeekBuried,
            Verb::ReserveWithTimeout => Command::ReserveWithTimeout(delay_s >> 1),
            Verb::ReserveJob => Command::ReserveJob(id),
            Verb::ReserveBatch => Command::ReserveBatch(priority % 1000 + 1),
            Verb::Reserve => Command::Reserve,
            Verb::Delete => Command::Delete(id),
            Verb::Release => Command::Release { id, priority, delay_s },
            Verb::Bury => Command::Bury { id, priority },
            Verb::Kick => Command::Kick(priority),
            Verb::KickJob => Command::KickJob(id),
            Verb::Touch => Command::Touch(id),
            Verb::StatsJob => Command::StatsJob(id),
            Verb::StatsTube => Command::StatsTube(tube),
            Verb::Stats => Command::Stats,
            Verb::Use => Command::Use(tube),
            Verb::Watch => Command::Watch(tube),
            Verb::Ignore => Command::Ignore(tube),
            Verb::ListTubesWatched => Command::ListTubesWatched,
            Verb::ListTubeUsed => Command::ListTubeUsed,
            Verb::ListTubes => Command::ListTubes,
            Verb::Quit => Command::Quit,
            Verb::PauseTube => Command::PauseTube { tube, delay_s },
            Verb::DeleteBatch => Command::DeleteBatch(Ids(ids.as_bytes())),
            Verb::Login => Command::Login(Login {
                user: names.1.as_bytes(),
                password: names.2.as_bytes(),
            }),
        };
        let mut line = Vec::new();
        command.write(&mut line);
        let Line::Whole(end) = line_end(&line, 0) else { panic!("{line:?}") };
        prop_assert_eq!(end + 2, line.len());
        prop_assert_eq!(Command::parse(&line[..end]), Ok(command));
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them(number in any::<u64>(), shift in 0_u32..64) {
        let number = number >> shift;
        let mut out = Vec::new();
        put_number(&mut out, number);
        prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
    }

    #[test]
    fn arbitrary_lines_never_panic(
        index in 0..VERBS.len(),
        tail in "[ 0-9a-z:+\\-\t\\x00]{0,60}",
        bytes in vec(any::<u8>(), 0..300),
        seen in 0_usize..400,
    ) {
        drop(Command::parse(&bytes));
        drop(parse(&format!("{}{tail}", VERBS[index].prefix)));
        if let Line::Whole(end) = first_line(&bytes, seen) {
            prop_assert_eq!(&bytes[end..end + 2], b"\r\n");
            prop_assert!(end + 2 <= LINE_BYTES_MAX);
        }
    }
}
