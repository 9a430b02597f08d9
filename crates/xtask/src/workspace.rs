//! Where things are: the repository's root, the cargo that runs us, the release binary.
//!
//! Not here: what is in the files (`tidy::tree`) and what the crates depend on (`metadata`).
//! Every command gets a [`Workspace`] from `main`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::metadata::Metadata;

/// The checkout that this command works on.
pub(crate) struct Workspace {
    /// The folder of the virtual manifest.
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// Finds the checkout from where this crate was built.
    pub(crate) fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).context("this crate lies outside of a workspace")?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// A command that runs in the root and never waits for input.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    /// The cargo that started us, so that the toolchain stays the same.
    pub(crate) fn cargo() -> String {
        env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
    }

    /// What the member crates are and depend on.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        Metadata::read(self)
    }

    /// Where cargo builds, also under a `CARGO_TARGET_DIR`.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(self.metadata()?.target_directory))
    }

    /// Where `cargo build --release` puts the server.
    pub(crate) fn release_binary(&self) -> Result<PathBuf> {
        Ok(self.target()?.join("release").join("potager"))
    }
}

/// Whether a path ends in this extension.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|own| own == extension)
}
