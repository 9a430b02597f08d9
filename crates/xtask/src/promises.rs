//! `cargo x promises`: which tests prove which promise, written into `PROMISES.md`.
//!
//! A test names what it proves in its comment or docstring, in a line of its own that begins with
//! the tag [`TAG`] and lists ids. The page has one heading per promise, and under it a list
//! between two marks, which this command writes. Not here: the rule that page and tests agree
//! (`tidy::promises`), which uses what is here. Called by `main` and `fix`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};

use crate::tidy::source_texts;
use crate::workspace::{Workspace, has_extension};

/// The page, in the root.
pub(crate) const PAGE: &str = "PROMISES.md";
/// Begins the line in which a test says what it proves.
const TAG: &str = concat!("Promise", ":");
/// Stand around the list of tests of one promise.
const MARKS: (&str, &str) = ("<!-- proofs -->", "<!-- end of proofs -->");

/// One test, or a whole file of them, that says it proves a promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proof {
    /// `P7`.
    pub(crate) promise: String,
    /// The file, relative to the root.
    pub(crate) path: String,
    /// The function; `None` when the head of the file says it for all of them.
    pub(crate) name: Option<String>,
}

/// Writes the lists anew; `Ok(true)` also when nothing changed.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("reading {PAGE}"))?;
    let files = source_texts(workspace)?;
    let files = files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    let fresh = filled(&page, &proofs(files));
    if fresh != page {
        fs::write(&path, fresh).with_context(|| format!("writing {PAGE}"))?;
        println!("{PAGE} written");
    }
    Ok(true)
}

/// Every proof that these files tell of, sorted.
pub(crate) fn proofs<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeSet<Proof> {
    let mut found = BTreeSet::new();
    for (path, text) in files.filter(|(path, _)| is_code(path)) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(ids) = tagged(line) else { continue };
            let name = name_of(path, &lines, at);
            found.extend(ids.map(|promise| Proof {
                promise: promise.to_owned(),
                path: path.to_owned(),
                name: name.clone(),
            }));
        }
    }
    found
}

/// The ids of the promises that the page makes, in its order.
pub(crate) fn promised(page: &str) -> Vec<&str> {
    page.lines().filter_map(heading).collect()
}

/// The page with the lists of tests as they should be.
pub(crate) fn filled(page: &str, proofs: &BTreeSet<Proof>) -> String {
    let mut fresh = String::new();
    let mut promise = None;
    let mut is_old_list = false;
    for line in page.lines() {
        promise = heading(line).or(promise);
        if line == MARKS.0 {
            is_old_list = true;
            let list = promise.map(|id| list(id, proofs)).unwrap_or_default();
            fresh.push_str(line);
            fresh.push('\n');
            fresh.push_str(&list);
        } else if line == MARKS.1 {
            is_old_list = false;
        }
        if !is_old_list {
            fresh.push_str(line);
            fresh.push('\n');
        }
    }
    fresh
}

fn is_code(path: &str) -> bool {
    has_extension(path, "rs") || has_extension(path, "py")
}

/// `P7` of `## P7. What is promised`.
fn heading(line: &str) -> Option<&str> {
    let (id, _) = line.strip_prefix("## ")?.split_once('.')?;
    is_id(id).then_some(id)
}

fn is_id(text: &str) -> bool {
    let number = text.strip_prefix('P').unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The ids that a line lists behind the tag, when it holds nothing else.
fn tagged(line: &str) -> Option<impl Iterator<Item = &str>> {
    let text = line.trim_start_matches([' ', '/', '!', '#', '"']);
    let ids = text.strip_prefix(TAG)?.trim().trim_end_matches(['"', '.']);
    Some(ids.split(',').map(str::trim))
}

/// The function that the tag at this line belongs to.
fn name_of(path: &str, lines: &[&str], at: usize) -> Option<String> {
    let line = lines.get(at)?;
    let is_python = has_extension(path, "py");
    let is_of_file = if is_python { !line.starts_with([' ', '#']) } else { !is_outer_doc(line) };
    if is_of_file {
        return None;
    }
    let (before, behind) = lines.split_at(at);
    // A docstring stands in its function, every other comment above it.
    let is_inside = is_python && !line.trim_start().starts_with('#');
    if is_inside {
        before.iter().rev().find_map(|line| function(line))
    } else {
        behind.iter().find_map(|line| function(line))
    }
}

/// `/// text` or `// text`, not `//! text`.
fn is_outer_doc(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") && !line.starts_with("//!")
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<String> {
    let line = line.trim_start();
    let rest = ["fn ", "pub fn ", "pub(crate) fn ", "async fn ", "def ", "async def "]
        .iter()
        .find_map(|word| line.strip_prefix(word))?;
    rest.split(['(', '<']).next().map(str::to_owned)
}

/// The list of one promise: a line per file.
fn list(promise: &str, proofs: &BTreeSet<Proof>) -> String {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for proof in proofs.iter().filter(|proof| proof.promise == promise) {
        files.entry(&proof.path).or_default().extend(proof.name.as_deref());
    }
    let mut list = String::new();
    for (path, names) in files {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() { "all of it".to_owned() } else { names.join(", ") };
        let short = path.trim_start_matches("crates/");
        list.extend(["* [", short, "](", path, "): ", &names, "\n"]);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, text: &str) -> Vec<(String, Option<String>)> {
        let text = text.replace('@', TAG);
        let found = proofs(std::iter::once((path, text.as_str())));
        found.into_iter().map(|proof| (proof.promise, proof.name)).collect()
    }

    fn some(id: &str, name: &str) -> (String, Option<String>) {
        (id.to_owned(), Some(name.to_owned()))
    }

    #[test]
    fn a_rust_test_names_its_promises() {
        let text = "/// Shows it.\n/// @ P1, P12.\n#[test]\nfn nothing_is_lost() {}\n";
        assert_eq!(
            told("crates/a/src/x.rs", text),
            [some("P1", "nothing_is_lost"), some("P12", "nothing_is_lost")]
        );
        assert_eq!(told("crates/a/x.rs", "//! Head.\n//! @ P2.\n"), [("P2".to_owned(), None)]);
    }

    #[test]
    fn a_python_test_names_its_promises() {
        let text = "\"\"\"Head.\n\n@ P3\n\"\"\"\n\ndef test_a():\n    \"\"\"@ P1.\"\"\"\n\n\
                    # @ P2\ndef test_b():\n    pass\n";
        let mut found = told("chaos/x.py", text);
        found.sort();
        assert_eq!(found, [some("P1", "test_a"), some("P2", "test_b"), ("P3".to_owned(), None)]);
    }

    #[test]
    fn words_in_a_sentence_are_no_tag() {
        assert_eq!(told("crates/a/x.rs", "// see the @ P1 above\nlet x = \"no @ P1\";\n"), []);
        assert_eq!(told("README.md", "@ P1\n"), []);
    }

    #[test]
    fn the_lists_are_written_between_their_marks() {
        let page = "# P\n\n## P1. One\n\nText.\n\n<!-- proofs -->\nold\n<!-- end of proofs -->\n\
                    \n## Not promised\n\nMore.\n";
        let proofs = ["b", "a"].map(|name| Proof {
            promise: "P1".to_owned(),
            path: "crates/x/y.rs".to_owned(),
            name: Some(name.to_owned()),
        });
        let fresh = filled(page, &BTreeSet::from(proofs));
        let list = "<!-- proofs -->\n* [x/y.rs](crates/x/y.rs): `a`, `b`\n<!-- end of proofs -->\n";
        assert_eq!(fresh, page.replace("<!-- proofs -->\nold\n<!-- end of proofs -->\n", list));
        assert_eq!(promised(page), ["P1"]);
    }
}
