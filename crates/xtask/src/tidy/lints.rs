//! Rules about the lint settings themselves: a crate's `clippy.toml`, the attribute in codecs.
//!
//! Clippy reads the nearest `clippy.toml` *instead of* the root's, so a crate's own must repeat
//! it. Not here: what the lints find (clippy says that).

use toml::{Table, Value};

use super::Finding;
use super::tree::Tree;

/// The settings that every crate's own must repeat.
const ROOT: &str = "clippy.toml";

/// The engine's own settings.
const ENGINE: &str = "crates/engine/clippy.toml";

/// What would let a clock, a disk, a thread, randomness or an unordered walk into the engine.
const ENGINE_BANS: [(&str, &[&str]); 2] = [
    (
        "disallowed-types",
        &[
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::time::Instant",
            "std::time::SystemTime",
            "std::sync::Mutex",
            "std::fs::File",
        ],
    ),
    ("disallowed-methods", &["std::thread::spawn", "std::env::var"]),
];

/// What every codec denies itself.
const CODEC_LINT: &str = "#![deny(clippy::arithmetic_side_effects)]";

/// Settings of a crate that lack something of the root's.
pub(super) fn clippy_files(tree: &Tree) -> Vec<Finding> {
    let root = settings(tree, ROOT);
    let mut found = Vec::new();
    for file in &tree.files {
        if file.path != ROOT && file.path.ends_with("/clippy.toml") {
            let own = settings(tree, &file.path);
            let missing = root.iter().filter(|(name, value)| !repeats(own.get(*name), value));
            found.extend(missing.map(|(name, _)| {
                Finding::new(&file.path, format!("does not repeat the root's `{name}`"))
            }));
        }
    }
    found
}

/// What the engine's settings do not ban although they must.
pub(super) fn engine_bans(tree: &Tree) -> Vec<Finding> {
    let own = settings(tree, ENGINE);
    let mut found = Vec::new();
    for (list, banned) in ENGINE_BANS {
        let paths = banned_paths(own.get(list));
        let missing = banned.iter().filter(|path| !paths.contains(path));
        let finding = |path| Finding::new(ENGINE, format!("`{list}` does not ban `{path}`"));
        found.extend(missing.map(finding));
    }
    found
}

/// Codecs whose arithmetic is not checked.
pub(super) fn codec_lint(tree: &Tree) -> Vec<Finding> {
    let codecs = tree.rust_files().filter(|file| file.path.ends_with("/codec.rs"));
    let unchecked = codecs.filter(|file| !file.code.contains(CODEC_LINT));
    unchecked.map(|file| Finding::new(&file.path, format!("wants `{CODEC_LINT}`"))).collect()
}

fn settings(tree: &Tree, path: &str) -> Table {
    tree.file(path).and_then(|file| file.text.parse().ok()).unwrap_or_default()
}

/// Whether `own` says at least what the root says.
fn repeats(own: Option<&Value>, root: &Value) -> bool {
    match (own, root) {
        (Some(Value::Array(own)), Value::Array(root)) => root.iter().all(|item| own.contains(item)),
        (own, root) => own == Some(root),
    }
}

fn banned_paths(list: Option<&Value>) -> Vec<&str> {
    let items = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.get("path").unwrap_or(item).as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_drop_a_line_of_the_root_are_found() {
        let root = "too-many-lines-threshold = 70\ndisallowed-methods = [{ path = \"a\" }]\n";
        let path = "crates/engine/clippy.toml";
        let whole = format!("{root}disallowed-types = [\"b\"]\n");
        assert_eq!(clippy_files(&Tree::planted(&[(ROOT, root), (path, &whole)])), []);
        let more = "too-many-lines-threshold = 70\n\
                    disallowed-methods = [{ path = \"c\" }, { path = \"a\" }]\n";
        assert_eq!(clippy_files(&Tree::planted(&[(ROOT, root), (path, more)])), []);
        let less = "too-many-lines-threshold = 90\ndisallowed-methods = []\n";
        assert_eq!(clippy_files(&Tree::planted(&[(ROOT, root), (path, less)])).len(), 2);
    }

    #[test]
    fn an_engine_that_may_read_the_clock_is_found() {
        let without = |left_out: &str| {
            let lines = ENGINE_BANS.map(|(list, banned)| {
                let kept = banned.iter().filter(|path| **path != left_out);
                let items: Vec<_> = kept.map(|path| format!("{{ path = \"{path}\" }}")).collect();
                format!("{list} = [{}]", items.join(", "))
            });
            Tree::planted(&[(ENGINE, &lines.join("\n"))])
        };
        assert_eq!(engine_bans(&without("")), []);
        assert_eq!(engine_bans(&without("std::time::Instant")).len(), 1);
        assert!(!engine_bans(&Tree::default()).is_empty());
    }

    #[test]
    fn a_codec_with_unchecked_arithmetic_is_found() {
        let path = "crates/proto-amqp/src/codec.rs";
        let checked = format!("//! The codec.\n{CODEC_LINT}\n");
        assert_eq!(codec_lint(&Tree::planted(&[(path, &checked)])), []);
        assert_eq!(codec_lint(&Tree::planted(&[(path, &format!("// {CODEC_LINT}\n"))])).len(), 1);
    }
}
