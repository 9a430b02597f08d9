//! `cargo x instructions`: instructions per message under Callgrind, held against a budget.
//!
//! Lives here: building the scripted run (`crates/potager/examples/instructions.rs`), counting it
//! and comparing with `bench/instructions.toml`. Not here: what is counted. Called by `main` and
//! by `verify`. Wall time is never judged: it depends on the neighbours, instructions do not.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::step::Step;
use crate::workspace::Workspace;

const BUDGET: &str = "bench/instructions.toml";
/// Above its budget by more than this, a scenario fails; below, it asks for an update.
const TOLERANCE_PERCENT: u64 = 2;

/// Counts every scenario of the budget; with `is_update` writes what was found.
pub(crate) fn run(workspace: &Workspace, is_update: bool) -> Result<bool> {
    if !is_possible() {
        println!(
            "valgrind is not installed: nothing is counted (Debian: apt-get install valgrind)"
        );
        return Ok(true);
    }
    if !build().run(workspace)? {
        return Ok(false);
    }
    let path = workspace.root.join(BUDGET);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {BUDGET}"))?;
    let mut updated = text.clone();
    let mut is_good = true;
    for (scenario, budget) in budgets(&text)? {
        let counted = count(workspace, &scenario)?;
        let verdict = judge(counted, budget);
        println!("{scenario:<16} {counted:>7} per message, budget {budget}: {}", verdict.text());
        is_good &= verdict != Verdict::Over;
        let line = |number: u64| format!("{scenario} = {number}\n");
        updated = updated.replace(&line(budget), &line(counted));
    }
    if is_update {
        fs::write(&path, updated).with_context(|| format!("writing {BUDGET}"))?;
        return Ok(true);
    }
    Ok(is_good)
}

/// Whether this machine can count.
pub(crate) fn is_possible() -> bool {
    let asked = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

fn build() -> Step {
    let args = ["build", "--release", "--locked", "--package", "potager"];
    Step::cargo("instructions", &[&args[..], &["--example", "instructions"]].concat())
}

/// Scenarios and their budgets, in the order of the file.
fn budgets(text: &str) -> Result<Vec<(String, u64)>> {
    let table: toml::Table = text.parse().with_context(|| format!("reading {BUDGET}"))?;
    let budget = |(name, value): (String, toml::Value)| {
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        Ok((name, number.with_context(|| format!("{BUDGET} holds something else than numbers"))?))
    };
    table.into_iter().map(budget).collect()
}

/// Runs one scenario under Callgrind; returns the instructions per message.
fn count(workspace: &Workspace, scenario: &str) -> Result<u64> {
    let binary = workspace.release_binary()?.with_file_name("examples").join("instructions");
    let profile = binary.with_file_name(format!("instructions-{scenario}.callgrind"));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=instructions::measured")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&binary)
        .arg(scenario)
        .output()
        .context("starting valgrind")?;
    let (said, counted) = (String::from_utf8(run.stdout)?, String::from_utf8(run.stderr)?);
    if !run.status.success() {
        bail!("counting {scenario} failed: {counted}");
    }
    let messages: u64 = said.trim().parse().context("the scripted run said no number")?;
    Ok(collected(&counted).context("valgrind said no number")? / messages.max(1))
}

/// The number behind `Collected :` in Callgrind's last words.
fn collected(text: &str) -> Option<u64> {
    let (_, after) = text.split_once("Collected :")?;
    after.split_whitespace().next()?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Worse than the budget.
    Over,
    /// So much better that the budget no longer guards anything.
    Under,
}

impl Verdict {
    const fn text(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Over => "OVER; make it cheaper, or say why with `cargo x instructions --update`",
            Self::Under => "cheaper; lower the budget with `cargo x instructions --update`",
        }
    }
}

const fn judge(counted: u64, budget: u64) -> Verdict {
    if counted * 100 > budget * (100 + TOLERANCE_PERCENT) {
        Verdict::Over
    } else if counted * 100 < budget * (100 - TOLERANCE_PERCENT) {
        Verdict::Under
    } else {
        Verdict::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_percent_more_is_the_limit() {
        assert_eq!(judge(1020, 1000), Verdict::Good);
        assert_eq!(judge(1021, 1000), Verdict::Over);
        assert_eq!(judge(980, 1000), Verdict::Good);
        assert_eq!(judge(979, 1000), Verdict::Under);
    }

    #[test]
    fn the_committed_budget_is_readable() {
        let workspace = Workspace::find().unwrap();
        let text = fs::read_to_string(workspace.root.join(BUDGET)).unwrap();
        let budgets = budgets(&text).unwrap();
        assert!(budgets.iter().any(|(name, _)| name == "confirm-200"), "{budgets:?}");
        for (name, budget) in budgets {
            assert!(text.contains(&format!("{name} = {budget}\n")), "--update would miss {name}");
        }
    }

    #[test]
    fn the_number_is_found_in_what_callgrind_says() {
        let said = "==1== Events    : Ir\n==1== Collected : 69109141\n==1== \n";
        assert_eq!(collected(said), Some(69_109_141));
        assert_eq!(collected("nothing"), None);
    }
}
