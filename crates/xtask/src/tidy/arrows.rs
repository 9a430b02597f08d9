//! Who may import whom: the two tables, and the rules that hold the crates to them.
//!
//! An arrow between crates of ours, or from one of ours to a guarded crate from outside, exists
//! only when a table here names it. A new line is a decision page first. Not here: whether an
//! outside crate is wanted at all (`dependencies`).

use super::Finding;
use super::tree::Tree;
use crate::metadata::{Dependency, Package};

/// What a crate of ours may import of ours.
enum May {
    /// These and no others; `proto-*` stands for every front door.
    Import(&'static [&'static str]),
    /// All but these.
    ImportAllBut(&'static [&'static str]),
}

/// One crate, or a family of them with a `*` at the end, and its arrows.
struct Room {
    name: &'static str,
    may: May,
}

const fn room(name: &'static str, imports: &'static [&'static str]) -> Room {
    Room { name, may: May::Import(imports) }
}

/// Every crate has a row; a crate without one fails.
const ROOMS: &[Room] = &[
    room("model", &[]),
    room("engine", &["model"]),
    room("journal", &["model"]),
    room("replica", &["model", "engine", "journal"]),
    room("wire", &["model"]),
    room("net", &["model", "wire"]),
    room("proto-*", &["model", "wire"]),
    room("gateway", &["model", "wire"]),
    room("console", &["model", "wire"]),
    room("worker", &[]),
    room("config", &["model"]),
    room("simulator", &["model", "engine", "journal", "replica", "wire", "proto-*"]),
    room("xtask", &[]),
    Room { name: "potager", may: May::ImportAllBut(&["simulator", "xtask"]) },
];

/// Outside crates that carry a runtime, a clock, a disk, randomness or a habit, and who may.
///
/// Tests may use them too where the row says `test`.
const GUARDED: &[(&str, &[&str])] = &[
    ("anyhow", &["potager", "xtask", "test"]),
    ("argon2", &["potager"]),
    ("blake2", &["journal", "potager"]),
    ("clap", &["potager", "xtask"]),
    ("clap_complete", &["potager"]),
    ("crc32c", &["journal", "worker"]),
    ("csv", &["potager"]),
    ("getrandom", &["potager", "worker"]),
    ("http-body-util", &["net", "potager", "worker"]),
    ("hyper", &["net", "potager", "worker"]),
    ("hyper-util", &["net", "potager", "worker"]),
    ("hyper-rustls", &["worker"]),
    ("mimalloc", &["potager"]),
    ("nvml-wrapper", &["worker"]),
    ("openraft", &["replica"]),
    ("parquet", &["potager"]),
    ("prometheus-client", &["potager"]),
    ("rand", &["potager", "test"]),
    ("rcgen", &["potager", "test"]),
    ("regex", &["engine"]),
    ("regex-lite", &["potager"]),
    ("rustix", &["journal", "net", "potager", "worker"]),
    ("rustls", &["net", "potager", "worker"]),
    ("serde", &["config", "gateway", "potager", "worker", "xtask"]),
    ("serde_json", &["gateway", "potager", "worker", "xtask", "test"]),
    ("shlex", &["worker"]),
    ("socket2", &["net"]),
    ("subtle", &["potager"]),
    ("tempfile", &["potager", "test"]),
    ("tokio", &["net", "potager", "worker"]),
    ("tokio-rustls", &["net", "potager"]),
    ("toml", &["config", "xtask"]),
    ("tower-service", &["worker"]),
    ("tracing-subscriber", &["potager"]),
    ("webpki-roots", &["worker"]),
    ("x509-cert", &["net"]),
];

/// Arrows between our crates that the first table does not have.
pub(super) fn between_ours(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in &tree.packages {
        let Some(room) = ROOMS.iter().find(|room| fits(room.name, &package.name)) else {
            let what = "a crate without a row: write the decision page, then the row in `arrows`";
            found.push(Finding::new(&package.name, what));
            continue;
        };
        let ours = package.others().filter(|dependency| dependency.is_ours());
        let wrong = ours.filter(|dependency| !is_allowed(&room.may, &dependency.name));
        found.extend(wrong.map(|dependency| {
            arrow(package, dependency, "no such arrow: turn it round, or write a decision page")
        }));
    }
    found
}

/// Arrows to guarded crates that the second table does not have.
pub(super) fn to_guarded(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in &tree.packages {
        for dependency in &package.dependencies {
            let guard = GUARDED.iter().find(|(name, _)| *name == dependency.name);
            if guard.is_some_and(|(_, who)| !is_admitted(who, package, dependency)) {
                found.push(arrow(package, dependency, "guarded: only the crates in `arrows` may"));
            }
        }
    }
    found
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |family| name.starts_with(family))
}

fn is_allowed(may: &May, name: &str) -> bool {
    match may {
        May::Import(names) => names.iter().any(|pattern| fits(pattern, name)),
        May::ImportAllBut(names) => !names.contains(&name),
    }
}

fn is_admitted(who: &[&str], package: &Package, dependency: &Dependency) -> bool {
    who.contains(&package.name.as_str()) || (dependency.is_dev() && who.contains(&"test"))
}

/// A test's own arrow is named apart, so that excepting it excepts no other.
fn arrow(package: &Package, dependency: &Dependency, what: &str) -> Finding {
    let by = if dependency.is_dev() { " (tests)" } else { "" };
    Finding::new(format!("{}{by} -> {}", package.name, dependency.name), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(name: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Tree {
        let dependency = |(name, kind, is_ours): &(&str, Option<&str>, bool)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
            path: is_ours.then(String::new),
        };
        let dependencies = dependencies.iter().map(dependency).collect();
        let package = Package { name: name.to_owned(), license: None, dependencies };
        Tree { packages: vec![package], ..Tree::default() }
    }

    fn places(found: Vec<Finding>) -> Vec<String> {
        found.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let tree = planted("engine", &[("model", None, true), ("journal", None, true)]);
        assert_eq!(places(between_ours(&tree)), ["engine -> journal"]);
        let tree = planted("proto-amqp", &[("wire", None, true), ("proto-kafka", None, true)]);
        assert_eq!(places(between_ours(&tree)), ["proto-amqp -> proto-kafka"]);
        let tree = planted("potager", &[("proto-amqp", None, true), ("xtask", None, true)]);
        assert_eq!(places(between_ours(&tree)), ["potager -> xtask"]);
    }

    #[test]
    fn an_arrow_of_a_test_is_found_and_named_apart() {
        let tree = planted("journal", &[("engine", Some("dev"), true)]);
        assert_eq!(places(between_ours(&tree)), ["journal (tests) -> engine"]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(places(between_ours(&planted("scheduler", &[]))), ["scheduler"]);
    }

    #[test]
    fn a_guarded_crate_is_found_in_the_wrong_hands() {
        let tree = planted("engine", &[("tokio", None, false), ("bytes", None, false)]);
        assert_eq!(places(to_guarded(&tree)), ["engine -> tokio"]);
        assert_eq!(places(to_guarded(&planted("net", &[("tokio", None, false)]))), [""; 0]);
    }

    #[test]
    fn a_guard_may_let_tests_through() {
        let tests_only = planted("journal", &[("tempfile", Some("dev"), false)]);
        assert_eq!(places(to_guarded(&tests_only)), [""; 0]);
        let production = planted("journal", &[("tempfile", None, false)]);
        assert_eq!(places(to_guarded(&production)), ["journal -> tempfile"]);
    }
}
