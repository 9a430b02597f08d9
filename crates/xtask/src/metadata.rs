//! The part of `cargo metadata` that the commands need: members and their direct dependencies.
//!
//! Read as JSON with the four fields we use, so that no library for it stands in the lock file.
//! Asked by `workspace` (the target folder) and by `tidy` (who imports whom).

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::workspace::Workspace;

/// `cargo metadata --no-deps`, version 1.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    /// The member crates.
    pub(crate) packages: Vec<Package>,
    /// The folder for build output.
    pub(crate) target_directory: String,
}

/// One member crate.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    /// The crate's name.
    pub(crate) name: String,
    /// Its licence expression, which the root manifest gives to all.
    pub(crate) license: Option<String>,
    /// Its direct dependencies of every kind.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One direct dependency of a member crate.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    /// The package's name, not a rename of it.
    pub(crate) name: String,
    /// `None` is a normal dependency; otherwise `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// The folder of a crate of ours; `None` for a package from a registry.
    pub(crate) path: Option<String>,
}

impl Metadata {
    /// Asks cargo; touches neither the network nor the lock file.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let output = workspace
            .command(&Workspace::cargo())
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .output()
            .context("starting `cargo metadata`")?;
        ensure!(
            output.status.success(),
            "`cargo metadata` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("reading what `cargo metadata` printed")
    }
}

impl Package {
    /// Its dependencies without itself, which a crate names to switch on a feature for its tests.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.name != self.name)
    }
}

impl Dependency {
    /// Whether this is a crate of the workspace.
    pub(crate) fn is_ours(&self) -> bool {
        self.path.is_some()
    }

    /// Whether only tests and benchmarks see it.
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}
