//! `cargo x planted`: tests the tests. Copies the crates, plants known bugs in the copy, and
//! demands that the simulator finds each within its number of seeds.
//!
//! Lives here: reading the bugs (`crates/simulator/planted/*.toml`), the planted copy under
//! `target/planted`, its build, the runs and their table. Not here: the bugs, and how the
//! simulator finds them. The product's own sources know nothing of all this: every bug is text put
//! in the place of other text, in the copy only. Called by `main`.

mod copy;
mod hunt;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::workspace::{Workspace, has_extension};

/// Where the bugs stand, one file per crate.
const FOLDER: &str = "crates/simulator/planted";

/// One file of bugs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plot {
    bug: Vec<Bug>,
}

/// A known mistake.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    name: String,
    /// The promise of PROMISES.md that it breaks.
    promise: String,
    /// What goes wrong, for a person.
    breaks: String,
    /// It must be found within so many seeds, counted from 0.
    seeds_max: u64,
    edit: Vec<Edit>,
}

/// Text of one file that is replaced in the copy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    /// Relative to the root.
    file: String,
    /// Occurs exactly once in the file.
    find: String,
    /// Stands there instead; `$ON` is the bug's switch.
    put: String,
}

/// Builds the planted copy and hunts the named bugs, or all.
pub(crate) fn run(workspace: &Workspace, names: &[String], list: bool) -> Result<bool> {
    let all = read(workspace)?;
    if list {
        for bug in &all {
            println!("{:<34} {:<4} {}", bug.name, bug.promise, bug.breaks);
        }
        return Ok(true);
    }
    let known: BTreeSet<&str> = all.iter().map(|bug| bug.name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        bail!("there is no planted bug '{unknown}'; `cargo x planted --list` names them");
    }
    copy::make(workspace, &all)?;
    let Some(binary) = copy::build(workspace)? else { return Ok(false) };
    let chosen: Vec<&Bug> =
        all.iter().filter(|bug| names.is_empty() || names.contains(&bug.name)).collect();
    hunt::run(&binary, &chosen)
}

/// All bugs, in order of their files.
fn read(workspace: &Workspace) -> Result<Vec<Bug>> {
    let folder = workspace.root.join(FOLDER);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {FOLDER}"))? {
        let name = entry?.file_name();
        files.extend(name.to_str().filter(|name| has_extension(name, "toml")).map(str::to_owned));
    }
    files.sort();
    let mut bugs = Vec::new();
    for file in files {
        let text = fs::read_to_string(folder.join(&file))?;
        let plot: Plot =
            toml::from_str(&text).with_context(|| format!("reading {FOLDER}/{file}"))?;
        bugs.extend(plot.bug);
    }
    Ok(bugs)
}

impl Edit {
    /// The file's text with this bug in it.
    fn plant(&self, name: &str, text: &str) -> Result<String> {
        let find = self.find.strip_suffix('\n').unwrap_or(&self.find);
        let put = self.put.strip_suffix('\n').unwrap_or(&self.put);
        ensure!(put.contains("$ON"), "{name}: a change of {} without a switch", self.file);
        let found = text.matches(find).count();
        ensure!(
            found == 1,
            "{name}: its text stands {found} times in {}, not once; the code has moved on, so \
             mend the entry in {FOLDER}:\n{find}",
            self.file
        );
        let switch = format!("model::planted::is(\"{name}\")");
        Ok(text.replacen(find, &put.replace("$ON", &switch), 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn edit(find: &str, put: &str) -> Edit {
        Edit { file: "a.rs".to_owned(), find: find.to_owned(), put: put.to_owned() }
    }

    #[test]
    fn every_planted_bug_still_has_its_place_in_the_code() {
        let workspace = Workspace::find().unwrap();
        let bugs = read(&workspace).unwrap();
        assert!(bugs.len() >= 16, "only {} planted bugs are left", bugs.len());
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for bug in &bugs {
            assert!(names.insert(&bug.name), "{} is there twice", bug.name);
            assert!(bug.seeds_max > 0 && !bug.edit.is_empty(), "{} cannot be found", bug.name);
            assert!(bug.promise.starts_with('P'), "{} breaks no promise", bug.name);
            for edit in &bug.edit {
                let read = || fs::read_to_string(workspace.root.join(&edit.file)).unwrap();
                let text = texts.entry(edit.file.clone()).or_insert_with(read);
                *text = edit.plant(&bug.name, text).unwrap();
            }
        }
    }

    #[test]
    fn a_bug_is_planted_with_its_switch() {
        let planted = edit("two\n", "2 if $ON\n").plant("some-bug", "one two three").unwrap();
        assert_eq!(planted, "one 2 if model::planted::is(\"some-bug\") three");
    }

    #[test]
    fn a_bug_without_a_place_or_a_switch_is_refused() {
        for (find, put) in [("four", "$ON"), ("e", "$ON"), ("two", "2")] {
            assert!(edit(find, put).plant("some-bug", "one two three").is_err(), "{find}");
        }
    }
}
