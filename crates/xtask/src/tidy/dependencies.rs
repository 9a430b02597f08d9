//! Rules about crates from outside: how many, from where, why, and whether still in use.
//!
//! The reasons stand in a decision page whose table is read here. Not here: who may import a
//! guarded crate (`arrows`); licences and advisories (`deny.toml`, with cargo-deny).

use std::collections::BTreeSet;

use super::Finding;
use super::rust::has_word;
use super::tree::Tree;

/// Packages in the lock file, ours and all platforms' included.
const LOCKED_MAX: usize = 280;

/// The only place that packages come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates with an open advisory, without a maintainer, or that we decided against.
const UNWANTED: [&str; 17] = [
    "async-std",
    "atty",
    "backoff",
    "bincode",
    "dotenv",
    "figment",
    "fxhash",
    "instant",
    "native-tls",
    "openssl",
    "openssl-sys",
    "paste",
    "rustls-pemfile",
    "serde_cbor",
    "serde_yml",
    "structopt",
    "wasmtime",
];

/// The page that says why each direct dependency is here.
const REASONS: &str = "docs/decisions/0002-dependencies.md";

/// The lock file has outgrown its budget.
pub(super) fn lock_size(tree: &Tree) -> Vec<Finding> {
    let count = tree.locked.len();
    let what = format!("{count} packages, at most {LOCKED_MAX}");
    if count > LOCKED_MAX { vec![Finding::new("Cargo.lock", what)] } else { Vec::new() }
}

/// Packages from elsewhere than the registry, unwanted ones, and second versions.
pub(super) fn lock_contents(tree: &Tree) -> Vec<Finding> {
    let foreign = tree
        .locked
        .iter()
        .filter(|package| package.source.as_deref().is_some_and(|source| source != REGISTRY));
    let foreign = foreign.map(|package| {
        let from = package.source.as_deref().unwrap_or_default();
        Finding::new(&package.name, format!("{} comes from {from}", package.version))
    });
    let unwanted = tree.locked.iter().filter(|package| UNWANTED.contains(&package.name.as_str()));
    let unwanted = unwanted.map(|package| Finding::new(&package.name, "decided against"));
    let twice = tree.locked.windows(2).filter_map(|pair| match pair {
        [a, b] if a.name == b.name => {
            Some(Finding::new(&b.name, format!("twice, {} and {}", a.version, b.version)))
        }
        _ => None,
    });
    foreign.chain(unwanted).chain(twice).collect()
}

/// Direct dependencies without a line in the decision page, and lines without a dependency.
pub(super) fn reasons(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.file(REASONS) else {
        return vec![Finding::new(REASONS, "the page is missing")];
    };
    let reasoned: BTreeSet<&str> = page.text.lines().filter_map(reasoned_name).collect();
    let direct = tree.packages.iter().flat_map(|package| &package.dependencies);
    let direct = direct.filter(|dependency| !dependency.is_ours());
    let direct: BTreeSet<&str> = direct.map(|dependency| dependency.name.as_str()).collect();
    let missing = direct.difference(&reasoned);
    let missing = missing.map(|name| Finding::new(*name, format!("has no line in {REASONS}")));
    let stale = reasoned.difference(&direct);
    let stale = stale.map(|name| Finding::new(*name, format!("no longer used, see {REASONS}")));
    missing.chain(stale).collect()
}

/// Direct dependencies that no source of their crate names.
pub(super) fn unused(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in &tree.packages {
        let folder = format!("crates/{}/", package.name);
        let sources: Vec<_> =
            tree.rust_files().filter(|file| file.path.starts_with(&folder)).collect();
        for dependency in package.others() {
            let import = dependency.name.replace('-', "_");
            if !sources.iter().any(|file| has_word(&file.code, &import)) {
                let place = format!("{} -> {}", package.name, dependency.name);
                found.push(Finding::new(place, "no source names it"));
            }
        }
    }
    found
}

/// The crate that a row of the table speaks of: the word in back-ticks in its first cell.
fn reasoned_name(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("| `")?.split_once('`')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::super::tree::Locked;
    use super::*;
    use crate::metadata::{Dependency, Package};

    fn locked(name: &str, source: &str) -> Locked {
        let (name, version) = (name.to_owned(), "1.0.0".to_owned());
        Locked { name, version, source: Some(source.to_owned()) }
    }

    fn wire_with(dependency: &str, files: &[(&str, &str)]) -> Tree {
        let dependency = Dependency { name: dependency.to_owned(), ..Dependency::default() };
        let mut tree = Tree::planted(files);
        let dependencies = vec![dependency];
        tree.packages.push(Package { name: "wire".to_owned(), license: None, dependencies });
        tree
    }

    #[test]
    fn one_package_too_many_is_found() {
        let mut tree = Tree { locked: vec![locked("a", REGISTRY); LOCKED_MAX], ..Tree::default() };
        assert_eq!(lock_size(&tree), []);
        tree.locked.push(locked("b", REGISTRY));
        assert_eq!(lock_size(&tree).len(), 1);
    }

    #[test]
    fn a_package_from_elsewhere_or_unwanted_or_twice_is_found() {
        let mut tree = Tree::default();
        tree.locked.push(locked("bytes", REGISTRY));
        tree.locked.push(locked("bytes", "git+https://example.org/bytes"));
        tree.locked.push(locked("serde", REGISTRY));
        tree.locked.push(locked("bincode", REGISTRY));
        assert_eq!(lock_contents(&tree).len(), 3);
    }

    #[test]
    fn a_dependency_without_a_reason_and_a_reason_without_one_are_found() {
        let page = "| crate | why |\n|---|---|\n| `bytes` | cheap slices |\n";
        let tree = wire_with("bytes", &[(REASONS, page)]);
        assert_eq!(reasons(&tree), []);
        let tree = wire_with("smallvec", &[(REASONS, page)]);
        let found: Vec<_> = reasons(&tree).into_iter().map(|finding| finding.place).collect();
        assert_eq!(found, ["smallvec", "bytes"]);
        assert_eq!(reasons(&wire_with("bytes", &[])).len(), 1);
    }

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        let used = [("crates/wire/src/lib.rs", "use crc_fast::sum;\n")];
        assert_eq!(unused(&wire_with("crc-fast", &used)), []);
        let unnamed = [("crates/wire/src/lib.rs", "// crc_fast\n"), ("crates/net/x.rs", used[0].1)];
        assert_eq!(unused(&wire_with("crc-fast", &unnamed)).len(), 1);
    }
}
