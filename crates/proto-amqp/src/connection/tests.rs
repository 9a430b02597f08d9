//! The state machine against its transcripts, cut everywhere, and against arbitrary bytes.

#![allow(clippy::string_slice, reason = "transcripts are ASCII")]

mod text;
mod transcript;

use std::{fs, path::PathBuf};

use transcript::{Cut, Player, steps};

use crate::Options;

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
