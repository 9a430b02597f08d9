//! [`Tree`], the checkout as the rules see it: texts, paths, members, locked packages.
//!
//! Read once from disk, or planted by a test. Build output, virtual environments and hidden
//! work folders are left out by what marks them, not by their place. No rule reads a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::rust;
use crate::metadata::Package;
use crate::workspace::{Workspace, has_extension};

/// Folders that hold nothing of ours whatever is in them.
const SKIPPED_FOLDERS: [&str; 6] =
    [".git", ".venv", ".work", "__pycache__", "potager-data", "target"];

/// Files whose presence says that a folder is made by a tool: cargo output, a Python venv.
const TOOL_MARKS: [&str; 2] = ["CACHEDIR.TAG", "pyvenv.cfg"];

/// Everything that a rule may look at.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Every text file, sorted by path.
    pub(super) files: Vec<SourceFile>,
    /// Every file and folder, relative to the root, with `/` between names.
    pub(super) paths: BTreeSet<String>,
    /// The member crates.
    pub(super) packages: Vec<Package>,
    /// The packages of `Cargo.lock`.
    pub(super) locked: Vec<Locked>,
}

/// One text file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Relative to the root.
    pub(super) path: String,
    /// As it stands on disk.
    pub(super) text: String,
    /// For Rust files the text with comments and literals blanked; otherwise empty.
    pub(super) code: String,
}

/// One package of the lock file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Locked {
    /// Its name.
    pub(super) name: String,
    /// Its version.
    pub(super) version: String,
    /// Where it comes from; `None` for our own crates.
    pub(super) source: Option<String>,
}

/// The shape of `Cargo.lock`.
#[derive(Deserialize)]
struct LockFile {
    package: Vec<Locked>,
}

impl SourceFile {
    /// A file with this path and text.
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = if has_extension(path, "rs") { rust::mask(text) } else { String::new() };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Whether this is Rust source.
    pub(super) fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    /// Whether this is a page of documentation.
    pub(super) fn is_page(&self) -> bool {
        has_extension(&self.path, "md")
    }

    /// Whether only tests are in it, by where it stands or what it is called.
    pub(super) fn is_test(&self) -> bool {
        let is_test_name = |name: &str| matches!(name, "tests" | "testdata" | "benches" | "fuzz");
        let (folders, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        stem == "tests" || stem.ends_with("_tests") || folders.split('/').any(is_test_name)
    }
}

impl Tree {
    /// Reads the checkout.
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let lock =
            fs::read_to_string(workspace.root.join("Cargo.lock")).context("reading Cargo.lock")?;
        let lock: LockFile = toml::from_str(&lock).context("understanding Cargo.lock")?;
        let packages = workspace.metadata()?.packages;
        let mut tree = Self { packages, locked: lock.package, ..Self::default() };
        tree.walk(&workspace.root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// The file at this path.
    pub(super) fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust files.
    pub(super) fn rust_files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// All pages.
    pub(super) fn pages(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_page())
    }

    /// Folders are nested as deep as the checkout is, which bounds the recursion.
    fn walk(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let said = || format!("reading {}", folder.display());
        for entry in fs::read_dir(folder).with_context(said)? {
            let entry = entry.with_context(said)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().with_context(said)?;
            if kind.is_dir() && !is_made_by_tool(&name, &entry.path()) {
                self.paths.insert(path.clone());
                self.walk(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    self.files.push(SourceFile::new(&path, &text));
                }
                self.paths.insert(path);
            }
        }
        Ok(())
    }

    /// A tree of these files alone, for planting violations.
    #[cfg(test)]
    pub(super) fn planted(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            for (at, _) in path.match_indices('/') {
                tree.paths.extend(path.get(..at).map(str::to_owned));
            }
            tree.paths.insert((*path).to_owned());
            tree.files.push(SourceFile::new(path, text));
        }
        tree
    }
}

fn is_made_by_tool(name: &str, folder: &Path) -> bool {
    SKIPPED_FOLDERS.contains(&name) || TOOL_MARKS.iter().any(|mark| folder.join(mark).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_known_by_their_place_or_name() {
        let is_test = |path: &str| SourceFile::new(path, "").is_test();
        assert!(is_test("crates/wire/tests/it/main.rs"));
        assert!(is_test("crates/wire/src/reader/tests.rs"));
        assert!(is_test("crates/wire/src/reader_tests.rs"));
        assert!(!is_test("crates/wire/src/attests.rs"));
        assert!(!is_test("crates/wire/src/lib.rs"));
    }

    #[test]
    fn build_output_is_left_out() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(is_made_by_tool("target", here));
        assert!(!is_made_by_tool("src", &here.join("src")));
    }
}
