//! `cargo x tidy`: the house's rules as checks over the checkout.
//!
//! Lives here: the list of rules, the verdict, the command. Each rule is a pure function from a
//! [`Tree`] to its findings, so that a test can plant a violation in memory. Exceptions stand in
//! one list, `exceptions`. Called by `main`, by `verify`, and once per rule by `cargo test`.

mod arrows;
mod dependencies;
mod exceptions;
mod files;
mod lints;
mod pages;
mod promises;
mod rust;
mod sizes;
#[cfg(test)]
mod tests;
mod tree;
mod words;

use anyhow::Result;

use crate::workspace::Workspace;
use exceptions::{EXCEPTIONS, Exception};
use tree::Tree;

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// What an exception would name: a path, `path#function`, or an arrow `a -> b`.
    place: String,
    /// What is wrong there and, where it is not plain, what to do instead.
    what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

/// A named check.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

/// Every rule of the house.
const RULES: &[Rule] = &[
    Rule { name: "arrows", check: arrows::between_ours },
    Rule { name: "guards", check: arrows::to_guarded },
    Rule { name: "lock_size", check: dependencies::lock_size },
    Rule { name: "lock_contents", check: dependencies::lock_contents },
    Rule { name: "reasons", check: dependencies::reasons },
    Rule { name: "unused_dependencies", check: dependencies::unused },
    Rule { name: "file_size", check: sizes::files },
    Rule { name: "function_size", check: sizes::functions },
    Rule { name: "line_length", check: sizes::lines },
    Rule { name: "heads", check: files::heads },
    Rule { name: "names", check: files::names },
    Rule { name: "licences", check: files::licences },
    Rule { name: "leftovers", check: words::leftovers },
    Rule { name: "endless_channels", check: words::endless_channels },
    Rule { name: "foreign_text", check: words::foreign_text },
    Rule { name: "clippy_files", check: lints::clippy_files },
    Rule { name: "engine_bans", check: lints::engine_bans },
    Rule { name: "codec_lint", check: lints::codec_lint },
    Rule { name: "links", check: pages::links },
    Rule { name: "reachable_pages", check: pages::reachable },
    Rule { name: "promises", check: promises::agree },
];

/// Prints what breaks a rule; `Ok(false)` when something does.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let tree = Tree::read(workspace)?;
    for finding in sizes::large_files(&tree) {
        println!("note: {}: {}", finding.place, finding.what);
    }
    let verdict = judge(&tree, RULES, EXCEPTIONS);
    for (rule, finding) in &verdict {
        println!("{rule}: {}: {}", finding.place, finding.what);
    }
    println!("{} rules, {} findings", RULES.len(), verdict.len());
    Ok(verdict.is_empty())
}

/// Path and text of every text file of the checkout.
pub(crate) fn source_texts(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let tree = Tree::read(workspace)?;
    Ok(tree.files.into_iter().map(|file| (file.path, file.text)).collect())
}

/// What breaks a rule without being excepted, and every exception that excepts nothing.
fn judge(tree: &Tree, rules: &[Rule], exceptions: &[Exception]) -> Vec<(&'static str, Finding)> {
    let mut verdict = Vec::new();
    for rule in rules {
        let own: Vec<_> = exceptions.iter().filter(|known| known.rule == rule.name).collect();
        let findings = (rule.check)(tree);
        for known in &own {
            if !findings.iter().any(|finding| finding.place == known.place) {
                let what = format!("stale exception, nothing to except ({})", known.reason);
                verdict.push((rule.name, Finding::new(known.place, what)));
            }
        }
        let is_new = |finding: &Finding| own.iter().all(|known| known.place != finding.place);
        verdict.extend(findings.into_iter().filter(is_new).map(|finding| (rule.name, finding)));
    }
    verdict
}
