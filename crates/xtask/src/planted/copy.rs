//! The copy of the crates with all bugs in it, each behind its switch, and its build.
//!
//! Not here: the bugs (`planted.rs`) and the runs (`hunt.rs`). Files that are as they should be are
//! left alone, so that a second build is short.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Bug;
use crate::workspace::Workspace;

/// Where copy and build lie, below the root.
const PLACE: &str = "target/planted";
/// What a build of the simulator needs.
const NEEDED: [&str; 4] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "crates"];
/// The crate that every planted crate imports, and so the place of the switch.
const HOME: &str = "crates/model/src/lib.rs";
/// The switch, compiled in the copy only.
const SWITCH: &str = r#"
/// Which planted bug is on; none unless the environment names one.
#[cfg(planted)]
pub mod planted {
    use std::sync::OnceLock;

    /// Names the bug that is on.
    pub const VARIABLE: &str = "POTAGER_PLANTED";

    /// Whether this bug is on.
    pub fn is(name: &str) -> bool {
        static ON: OnceLock<Option<String>> = OnceLock::new();
        ON.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(name)
    }
}
"#;

/// Brings the copy up to date: the checkout's files, the bugs, the switch, and nothing else.
pub(super) fn make(workspace: &Workspace, bugs: &[Bug]) -> Result<()> {
    let needed = needed(workspace)?;
    let mut planted: BTreeMap<&str, String> = BTreeMap::new();
    let home = fs::read_to_string(workspace.root.join(HOME))?;
    planted.insert(HOME, home + SWITCH);
    for bug in bugs {
        for edit in &bug.edit {
            if !planted.contains_key(edit.file.as_str()) {
                let path = workspace.root.join(&edit.file);
                let text = fs::read_to_string(&path);
                planted.insert(&edit.file, text.with_context(|| edit.file.clone())?);
            }
            if let Some(text) = planted.get_mut(edit.file.as_str()) {
                *text = edit.plant(&bug.name, text)?;
            }
        }
    }
    let to = place(workspace).join("src");
    for file in &needed {
        let bytes = match planted.get(file.as_str()) {
            Some(text) => text.clone().into_bytes(),
            None => fs::read(workspace.root.join(file)).with_context(|| file.clone())?,
        };
        write_if_new(&to.join(file), &bytes)?;
    }
    remove_others(&to, &to, &needed)
}

/// Files of the working tree that git does not ignore and a build needs.
fn needed(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let which = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"];
    let listed = workspace.command("git").args(which).args(NEEDED).output();
    let listed = listed.context("starting git")?;
    ensure!(listed.status.success(), "git ls-files failed; this works in a checkout only");
    let names = String::from_utf8(listed.stdout).context("a file name is not valid UTF-8")?;
    let names = names.split('\0').filter(|name| !name.is_empty());
    Ok(names.filter(|name| workspace.root.join(name).is_file()).map(str::to_owned).collect())
}

fn write_if_new(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Removes what an earlier copy left behind.
fn remove_others(root: &Path, folder: &Path, wanted: &BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        if path.is_dir() {
            remove_others(root, &path, wanted)?;
        } else if !wanted.contains(&name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Builds the planted simulator; `None` when that failed, already printed.
pub(super) fn build(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let place = place(workspace);
    let target = place.join("target");
    let status = workspace
        .command(&Workspace::cargo())
        .current_dir(place.join("src"))
        .args(["build", "--quiet", "--release", "--locked", "--package", "simulator"])
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", "--cfg planted --cap-lints allow")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .status()
        .context("starting cargo")?;
    Ok(status.success().then(|| target.join("release").join("simulator")))
}

fn place(workspace: &Workspace) -> PathBuf {
    workspace.root.join(PLACE)
}
