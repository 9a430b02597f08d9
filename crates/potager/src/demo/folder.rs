//! [`Folder`]: the temporary folder of one demonstration. Not here: what lies in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A folder of its own that goes at the end, unless it is to be kept.
pub(super) struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    pub(super) fn create(is_kept: bool) -> anyhow::Result<Self> {
        let name = format!("potager-demo-{}-{:08x}", std::process::id(), getrandom::u32()?);
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path, is_kept })
    }

    /// A place in the folder.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's path, when it will stay.
    pub(super) fn kept(&self) -> Option<String> {
        self.is_kept.then(|| self.path.display().to_string())
    }

    /// Leaves the folder in place, for whoever looks into a failure.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            // Nothing can be done about a folder that does not go; it is in the temporary place.
            fs::remove_dir_all(&self.path).ok();
        }
    }
}
