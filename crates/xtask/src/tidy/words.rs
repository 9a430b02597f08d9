//! Rules about words: nothing unfinished, no unbounded channel, nothing but the product.
//!
//! The words looked for are put together from halves, so that this file does not contain them.
//! Not here: forbidden names of files and modules (`files`).

use super::Finding;
use super::rust::{has_word, is_word};
use super::tree::{SourceFile, Tree};

/// Marks of unfinished work.
const LEFTOVERS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("unimpl", "emented!"),
    concat!("to", "do!"),
];

/// Channels without a limit, as they are written in code.
const UNBOUNDED: [&str; 6] = [
    concat!("unbounded", "_channel"),
    concat!("Unbounded", "Sender"),
    concat!("Unbounded", "Receiver"),
    concat!("unbounded", "("),
    concat!("std::sync::mpsc::", "channel"),
    concat!("mpsc::", "channel()"),
];

/// Text about how a file came to be, and paths of one machine, in lower case.
const FOREIGN: [&str; 7] = [
    concat!("assis", "tant"),
    concat!("assis", "tants"),
    concat!("clau", "de"),
    concat!("anthro", "pic"),
    concat!("/wo", "rk/main"),
    concat!("/wo", "rk/shared"),
    concat!("/wo", "rk/."),
];

/// Foreign outside of Rust only: the model has a noun Session, and code may point at one.
const FOREIGN_IN_PAGES: &str = concat!("this ", "session");

/// Source, scripts and settings that still say they are not finished.
pub(super) fn leftovers(tree: &Tree) -> Vec<Finding> {
    let is_code = |file: &&SourceFile| {
        let (_, kind) = file.path.rsplit_once('.').unwrap_or_default();
        matches!(kind, "rs" | "py" | "sh" | "toml") || file.path == ".ci/run"
    };
    let files = tree.files.iter().filter(is_code);
    find_lines(files, |line| {
        LEFTOVERS
            .iter()
            .find(|word| has_bordered(line, word))
            .map(|word| format!("`{word}`: finish it, or write an issue"))
    })
}

/// Channels that can grow without end.
pub(super) fn endless_channels(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust_files() {
        for (at, line) in file.code.lines().enumerate() {
            if let Some(word) = UNBOUNDED.iter().find(|word| has_bordered(line, word)) {
                let what = format!("line {}: `{word}`: every queue has a limit", at + 1);
                found.push(Finding::new(&file.path, what));
            }
        }
    }
    found
}

/// Files that speak of something other than the product.
pub(super) fn foreign_text(tree: &Tree) -> Vec<Finding> {
    let files = tree.files.iter().filter(|file| file.path != "Cargo.lock");
    let (rust, pages): (Vec<_>, Vec<_>) = files.partition(|file| file.is_rust());
    let wrong = |words: &[&str], line: &str| {
        let line = line.to_lowercase();
        let word = words.iter().find(|word| has_bordered(&line, word))?;
        Some(format!("`{word}`: the repository speaks of the product only"))
    };
    let all = [&FOREIGN[..], &[FOREIGN_IN_PAGES]].concat();
    let mut found = find_lines(rust.into_iter(), |line| wrong(&FOREIGN, line));
    found.extend(find_lines(pages.into_iter(), |line| wrong(&all, line)));
    found
}

fn find_lines<'a>(
    files: impl Iterator<Item = &'a SourceFile>,
    wrong: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(what) = wrong(line) {
                found.push(Finding::new(&file.path, format!("line {}: {what}", at + 1)));
            }
        }
    }
    found
}

/// Like `has_word`, also for a text that begins or ends with a sign: `name(`, `/path/`.
///
/// A path counts only from the root of a file system: nothing of a path may stand before it.
fn has_bordered(line: &str, text: &str) -> bool {
    if text.chars().all(is_word) {
        return has_word(line, text);
    }
    line.match_indices(text).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        let after = line.get(at + text.len()..).and_then(|tail| tail.chars().next());
        let is_path = text.starts_with('/');
        let is_joined = |c: char| is_word(c) || (is_path && ".-~}/".contains(c));
        let ends_in_word = text.chars().next_back().is_some_and(is_word);
        !(before.is_some_and(is_joined) || ends_in_word && after.is_some_and(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> usize {
        check(&Tree::planted(&[(path, text)])).len()
    }

    #[test]
    fn unfinished_work_is_found() {
        for word in LEFTOVERS {
            assert_eq!(found_in(leftovers, "a.rs", &format!("// {word}: later\n")), 1, "{word}");
            assert_eq!(found_in(leftovers, "a.py", &format!("# {word}\n")), 1, "{word}");
        }
        assert_eq!(found_in(leftovers, "a.sh", "mktemp run-XXXXXX\n"), 0);
        assert_eq!(found_in(leftovers, "a.md", "TODOS\n"), 0);
    }

    #[test]
    fn an_unbounded_channel_is_found_in_code_only() {
        let made = [
            "let (a, b) = tokio::sync::mpsc::unbounded_channel();",
            "fn f(a: UnboundedSender<u8>) {}",
            "use std::sync::mpsc::channel;",
            "let (a, b) = mpsc::channel();",
            "let (a, b) = crossbeam_channel::unbounded();",
        ];
        for line in made {
            assert_eq!(found_in(endless_channels, "a.rs", line), 1, "{line}");
        }
        let fine = [
            "let (a, b) = mpsc::channel(64);",
            "let (a, b) = std::sync::mpsc::sync_channel(64);",
            "frame.channel();",
            "// never an unbounded_channel",
        ];
        for line in fine {
            assert_eq!(found_in(endless_channels, "a.rs", line), 0, "{line}");
        }
    }

    #[test]
    fn text_about_anything_but_the_product_is_found() {
        for word in FOREIGN {
            let planted = format!("Written in {}\n", word.to_uppercase());
            assert_eq!(found_in(foreign_text, "README.md", &planted), 1, "{word}");
        }
        let page = format!("written in {FOREIGN_IN_PAGES}");
        assert_eq!(found_in(foreign_text, "README.md", &page), 1);
        assert_eq!(found_in(foreign_text, "a.rs", &page), 0);
        let fine = [
            "a session ends",
            "conformance/.work/x",
            "./work/x",
            "homework/",
            "{root}/work/x",
            "/work/v1/x",
        ];
        for line in fine {
            assert_eq!(found_in(foreign_text, "README.md", line), 0, "{line}");
        }
    }
}
