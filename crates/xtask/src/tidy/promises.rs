//! The rule that `PROMISES.md` and the tests agree, both ways.
//!
//! Not here: what a tag looks like and the lists on the page (`crate::promises`).

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;
use crate::promises::{self, PAGE, Proof};
use crate::workspace::has_extension;

/// Everything right in these folders is there to prove a promise, so each file must name one.
const PROOF_FOLDERS: [&str; 2] = ["crates/simulator/src/invariants/", "chaos/"];
/// What else stands there.
const NO_PROOFS: [&str; 3] = ["mod.rs", "tests.rs", "run.py"];
/// Bugs that are planted to break a promise, which each of them names.
const PLANTED: &str = "crates/simulator/planted/";

/// A promise without a test, a test of a promise that nobody made, a list out of date, a proof
/// that does not say of what.
pub(super) fn agree(tree: &Tree) -> Vec<Finding> {
    let texts = tree.files.iter().map(|file| (file.path.as_str(), file.text.as_str()));
    let proofs = promises::proofs(texts);
    let page = tree.file(PAGE).map(|page| page.text.as_str()).unwrap_or_default();
    let promised = promises::promised(page);
    let mut found: Vec<Finding> = promised
        .iter()
        .filter(|id| proofs.iter().all(|proof| proof.promise != **id))
        .map(|id| Finding::new(PAGE, format!("{id} has no test")))
        .collect();
    found.extend(proofs.iter().filter(|proof| !promised.contains(&proof.promise.as_str())).map(
        |proof| {
            let what = format!("names `{}`, which {PAGE} does not promise", proof.promise);
            Finding::new(&proof.path, what)
        },
    ));
    found.extend(silent(tree, &proofs));
    found.extend(planted(tree, &promised));
    if !page.is_empty() && promises::filled(page, &proofs) != page {
        found.push(Finding::new(PAGE, "out of date: `cargo x promises` writes its lists"));
    }
    found
}

fn silent(tree: &Tree, proofs: &BTreeSet<Proof>) -> Vec<Finding> {
    let is_proof = |path: &str| {
        let name = PROOF_FOLDERS.iter().find_map(|folder| path.strip_prefix(folder));
        name.is_some_and(|name| {
            let is_code = has_extension(name, "rs") || has_extension(name, "py");
            is_code && !name.contains('/') && !NO_PROOFS.contains(&name)
        })
    };
    let files = tree.files.iter().filter(|file| is_proof(&file.path));
    files
        .filter(|file| proofs.iter().all(|proof| proof.path != file.path))
        .map(|file| Finding::new(&file.path, "stands among the proofs and names no promise"))
        .collect()
}

/// Planted bugs that break what nobody promised.
fn planted(tree: &Tree, promised: &[&str]) -> Vec<Finding> {
    let files = tree.files.iter().filter(|file| file.path.starts_with(PLANTED));
    files
        .flat_map(|file| {
            let ids = file.text.lines().filter_map(|line| line.strip_prefix("promise = \""));
            let ids = ids.map(|rest| rest.trim_end().trim_end_matches('"'));
            ids.filter(|id| !promised.contains(id))
                .map(|id| Finding::new(&file.path, format!("breaks `{id}`, which is no promise")))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joined here so that this file names no promise itself.
    const TAG: &str = concat!("//", "! Promise", ":");

    fn judged(page: &str, files: &[(&str, &str)]) -> Vec<String> {
        let texts: Vec<_> =
            files.iter().map(|(path, text)| (*path, text.replace('@', TAG))).collect();
        let mut all = vec![(PAGE, page)];
        all.extend(texts.iter().map(|(path, text)| (*path, text.as_str())));
        agree(&Tree::planted(&all)).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_promise_without_a_test_is_found() {
        assert_eq!(judged("## P1. One\n", &[]), ["P1 has no test"]);
        assert_eq!(judged("## P1. One\n", &[("crates/a/x.rs", "@ P1.\n")]), [""; 0]);
    }

    #[test]
    fn a_test_of_a_promise_that_nobody_made_is_found() {
        let found = judged("## P1. One\n", &[("crates/a/x.rs", "@ P1, P2.\n")]);
        assert_eq!(found, ["names `P2`, which PROMISES.md does not promise"]);
    }

    #[test]
    fn a_proof_that_names_no_promise_is_found() {
        let found = judged("", &[("crates/simulator/src/invariants/order.rs", "//! Order.\n")]);
        assert_eq!(found, ["stands among the proofs and names no promise"]);
    }

    #[test]
    fn a_planted_bug_of_no_promise_is_found() {
        let bugs = "name = \"a\"\npromise = \"P1\"\n\nname = \"b\"\npromise = \"P9\"\n";
        let files = [("crates/simulator/planted/a.toml", bugs), ("crates/a/x.rs", "@ P1.\n")];
        assert_eq!(judged("## P1. One\n", &files), ["breaks `P9`, which is no promise"]);
    }

    #[test]
    fn a_list_out_of_date_is_found() {
        let page = "## P1. One\n<!-- proofs -->\n<!-- end of proofs -->\n";
        let found = judged(page, &[("crates/a/x.rs", "@ P1.\n")]);
        assert_eq!(found, ["out of date: `cargo x promises` writes its lists"]);
    }
}
