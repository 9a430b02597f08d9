//! Rules about files as such: every head says what lives there, no forbidden name, licences.
//!
//! Not here: what a file may contain (`words`, `lints`) and how long it may be (`sizes`).

use super::Finding;
use super::rust::has_word;
use super::tree::{SourceFile, Tree};

/// Names that say nothing about what lives in a place, and so collect everything.
const EMPTY_NAMES: [&str; 9] =
    ["common", "util", "utils", "base", "shared", "helpers", "types", "misc", "manager"];

/// A one-line head must say at least this much.
const HEAD_CHARS_MIN: usize = 80;

/// The texts a checkout must carry, with a phrase that proves each is the right one.
const LICENCES: [(&str, &str); 2] = [
    ("LICENSE-MIT", "Permission is hereby granted, free of charge"),
    ("LICENSE-APACHE", "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"),
];

/// The licence expression of every crate.
const LICENCE: &str = "MIT OR Apache-2.0";

/// Rust files that do not begin by saying what lives there.
pub(super) fn heads(tree: &Tree) -> Vec<Finding> {
    let what = "no head: begin with `//!` lines on what lives here, what does not, who calls it";
    tree.rust_files()
        .filter(|file| !has_head(&file.text))
        .map(|file| Finding::new(&file.path, what))
        .collect()
}

/// Crates, folders, files and modules with a name that says nothing.
pub(super) fn names(tree: &Tree) -> Vec<Finding> {
    let is_empty = |name: &str| EMPTY_NAMES.contains(&name);
    let crates = tree.packages.iter().map(|package| package.name.as_str());
    let crates = crates.filter(|name| is_empty(name)).map(str::to_owned);
    let files = tree.rust_files().filter(|file| {
        let path = file.path.strip_suffix(".rs").unwrap_or(&file.path);
        path.split('/').any(is_empty) || declared_modules(file).any(is_empty)
    });
    let places = crates.chain(files.map(|file| file.path.clone()));
    places.map(|place| Finding::new(place, "a name that says nothing: name the noun")).collect()
}

/// Licence texts and expressions that are missing or wrong.
pub(super) fn licences(tree: &Tree) -> Vec<Finding> {
    let texts = LICENCES.iter().filter_map(|(path, phrase)| {
        let is_there = tree.file(path).is_some_and(|file| file.text.contains(phrase));
        (!is_there).then(|| Finding::new(*path, "the licence text is missing"))
    });
    let crates = tree.packages.iter().filter(|package| package.license.as_deref() != Some(LICENCE));
    let crates =
        crates.map(|package| Finding::new(&package.name, "wants `license.workspace = true`"));
    texts.chain(crates).collect()
}

fn has_head(text: &str) -> bool {
    let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let told = head.iter().filter(|line| !line.trim().is_empty()).count();
    let chars: usize = head.iter().map(|line| line.trim().chars().count()).sum();
    told >= 2 || chars >= HEAD_CHARS_MIN
}

fn declared_modules(file: &SourceFile) -> impl Iterator<Item = &str> {
    file.code.lines().filter(|line| has_word(line, "mod")).filter_map(|line| {
        let (_, name) = line.split_once("mod ")?;
        name.split([' ', ';', '{']).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    #[test]
    fn a_file_without_a_head_is_found() {
        let told = "//! The reader: bytes in, frames out.\n//! Not here: sockets.\n\nfn x() {}\n";
        let terse = "//! Codec.\nfn x() {}\n";
        let late = "use std::fs;\n//! A head\n//! that comes too late\n";
        let tree = Tree::planted(&[("a.rs", told), ("b.rs", terse), ("c.rs", late), ("d.rs", "")]);
        let found: Vec<_> = heads(&tree).into_iter().map(|finding| finding.place).collect();
        assert_eq!(found, ["b.rs", "c.rs", "d.rs"]);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        let mut tree = Tree::planted(&[
            ("crates/wire/src/utils/frame.rs", ""),
            ("crates/wire/src/types.rs", ""),
            ("crates/wire/src/lib.rs", "mod reader;\npub(crate) mod helpers {\n}\n"),
            ("crates/wire/src/database.rs", "// mod misc;\n"),
        ]);
        tree.packages.push(Package { name: "common".to_owned(), ..Package::default() });
        assert_eq!(names(&tree).len(), 4, "{:?}", names(&tree));
    }

    #[test]
    fn a_missing_licence_is_found() {
        let mut tree = Tree::planted(&[("LICENSE-MIT", ""), ("LICENSE-APACHE", LICENCES[1].1)]);
        tree.packages.push(Package { name: "wire".to_owned(), ..Package::default() });
        let found: Vec<_> = licences(&tree).into_iter().map(|finding| finding.place).collect();
        assert_eq!(found, ["LICENSE-MIT", "wire"]);
    }
}
