//! The state machine against stories, cut everywhere, and against arbitrary input.

#![allow(clippy::string_slice, reason = "stories are ASCII")]

mod naive;
mod play;

use std::{fs, path::PathBuf};

use play::{Cut, play};

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

/// What we say otherwise on purpose, and what stands in its place in the stories.
const DIFFERENCES: [(&str, &str, &str); 3] = [
    // BEAN-001.
    ("unknown.txt", "A> GET / HTTP/1.1\\r\\n\nA< UNKNOWN_COMMAND\\r\\n\n", ""),
    ("unknown.txt", "A> Host: localhost\\r\\n\nA< UNKNOWN_COMMAND\\r\\n\n", ""),
    // BEAN-003.
    ("drain.txt", "current-producers: 2", "current-producers: 1"),
];

#[test]
fn the_original_would_have_said_the_same() {
    let differing: Vec<_> = stories("testdata/original")
        .into_iter()
        .filter_map(|(path, mut story)| {
            for (file, theirs, ours) in DIFFERENCES {
                if path.ends_with(file) {
                    assert!(story.contains(theirs), "{file} has no {theirs:?} any more");
                    story = story.replace(theirs, ours);
                }
            }
            let played = play(&story, Cut::Whole);
            (played != story).then(|| format!("{} {}", path.display(), difference(&played, &story)))
        })
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
