//! The state machine against stories, cut everywhere, and against arbitrary input.
//!
//! Rooms: `play` (clients, fake time, stories), `naive` (their engine), `hostile` (what nobody who
//! means well would send, and limits). Lines alone are tried in `codec/tests`.

#![allow(clippy::string_slice, reason = "stories are ASCII")]
#![allow(clippy::wildcard_enum_match_arm, reason = "the naive engine is asked little")]

mod hostile;
mod naive;
mod play;

use std::{fs, path::PathBuf};

use play::{Cut, Garden, play};
use proptest::{collection::vec, prelude::*};

use crate::{Options, table::VERBS};

/// Stories of our own, and those that were recorded from the original: path and text.
fn stories(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap()))
        .filter(|(_, story)| !story.lines().any(|line| line == "accident"))
        .collect();
    files.sort();
    files
}

/// The first line in which two texts differ.
fn difference(played: &str, recorded: &str) -> String {
    let line = played.lines().zip(recorded.lines()).position(|(new, old)| new != old);
    let line = line.unwrap_or_else(|| recorded.lines().count().min(played.lines().count()));
    let [now, then] = [played, recorded].map(|text| text.lines().nth(line));
    format!("line {}: recorded {then:?}, now {now:?}", line + 1)
}

#[test]
fn the_original_would_have_said_the_same() {
    let recorded = stories("testdata/original");
    assert!(recorded.len() > 25, "only {} stories", recorded.len());
    let differing: Vec<_> = recorded
        .into_iter()
        .filter_map(|(path, story)| {
            let played = play(&story, Cut::Whole);
            (played != story).then(|| format!("{} {}", path.display(), difference(&played, &story)))
        })
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn our_own_stories_come_out_as_recorded() {
    let is_recording = std::env::var_os("UPDATE").is_some();
    let ours = stories("testdata");
    assert!(ours.len() > 5, "only {} stories", ours.len());
    let mut differing = Vec::new();
    for (path, recorded) in ours {
        let played = play(&recorded, Cut::Whole);
        if played == recorded {
            continue;
        }
        if is_recording {
            fs::write(&path, played).unwrap();
        } else {
            differing.push(format!("{} {}", path.display(), difference(&played, &recorded)));
        }
    }
    assert!(differing.is_empty(), "UPDATE=1 records anew:\n{}", differing.join("\n"));
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    for (path, recorded) in stories("testdata").into_iter().chain(stories("testdata/original")) {
        let whole = play(&recorded, Cut::Whole);
        // Long sleeps are slow byte by byte, and say nothing about cuts.
        let longest = recorded.lines().map(str::len).max().unwrap_or(0);
        let is_slow = recorded.lines().any(|line| line.starts_with("sleep"));
        for at in 0..if is_slow { 3 } else { longest.min(120) } {
            let cut = play(&recorded, Cut::At(at));
            assert_eq!(cut, whole, "{} cut at byte {at} of each step", path.display());
        }
        for cut in [Cut::Bytewise, Cut::BytewiseThenEngine] {
            assert_eq!(play(&recorded, cut), whole, "{} {cut:?}", path.display());
        }
    }
}

/// Commands that mean something to one another.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let id = || 1_u64..8;
    let fixed = prop::sample::select(vec![
        "reserve-with-timeout 0",
        "reserve",
        "peek-ready",
        "peek-delayed",
        "peek-buried",
        "kick 2",
        "list-tubes",
        "list-tube-used",
        "list-tubes-watched",
        "use a",
        "use default",
        "watch a",
        "watch b",
        "ignore a",
        "ignore default",
        "ignore b",
        "stats-tube a",
        "stats-tube default",
        "reserve-batch 2",
        "delete-batch 1 2 3",
        "nonsense",
        "reserve 1",
        "",
        "use a\0",
        "pause-tube a 0",
        "put 0 0 60 70000",
        "put 0 0 60 1 x",
        "login u open sesame",
    ]);
    let about = prop::sample::select(vec![
        "delete",
        "bury",
        "touch",
        "peek",
        "stats-job",
        "kick-job",
        "reserve-job",
        "release",
    ]);
    let with_line = |text: String| format!("{text}\r\n").into_bytes();
    prop_oneof![
        fixed.prop_map(move |text| with_line(text.to_owned())),
        (about, id()).prop_map(move |(verb, id)| with_line(match verb {
            "bury" => format!("bury {id} 3"),
            "release" => format!("release {id} 2 0"),
            verb => format!("{verb} {id}"),
        })),
        (0_u32..3, vec(any::<u8>(), 0..9), any::<bool>()).prop_map(|(rank, body, is_cut)| {
            let mut bytes = format!("put {rank} 0 60 {}\r\n", body.len()).into_bytes();
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(if is_cut { b"\r" } else { b"\r\n" });
            bytes
        }),
    ]
}

/// What a client gets for `input` and then the end, and how it ends.
fn outcome(input: &[u8], cut: Cut) -> (String, String) {
    let mut garden = Garden::new(Options::default());
    garden.send('A', input, cut);
    garden.half_close('A');
    let client = garden.client('A');
    (client.received.escape_ascii().to_string(), format!("{:?}", client.end))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_conversation_ends_in_good_order_however_it_is_cut(
        commands in vec(command(), 0..25),
        at in 0_usize..300,
    ) {
        let input = commands.concat();
        let whole = outcome(&input, Cut::Whole);
        prop_assert_eq!(&whole.1, "Some(Done)");
        for cut in [Cut::At(at), Cut::Bytewise, Cut::BytewiseThenEngine] {
            prop_assert_eq!(&outcome(&input, cut), &whole, "{:?}", cut);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_cuts_change_nothing(
        pieces in vec((0..VERBS.len(), "[ 0-9a-z]{0,12}", vec(any::<u8>(), 0..20)), 0..8),
        at in 0_usize..300,
    ) {
        let mut input = Vec::new();
        for (verb, words, bytes) in pieces {
            input.extend_from_slice(VERBS[verb].prefix.as_bytes());
            input.extend_from_slice(words.as_bytes());
            input.extend_from_slice(b"\r\n");
            input.extend_from_slice(&bytes);
        }
        let whole = outcome(&input, Cut::Whole);
        prop_assert_eq!(&outcome(&input, Cut::At(at)), &whole);
        prop_assert_eq!(&outcome(&input, Cut::BytewiseThenEngine), &whole);
    }
}
