//! [`Step`], one named command whose success counts, and [`Tally`], the sum of several.
//!
//! Not here: which steps there are (each command says). A step's output goes straight to the
//! terminal; a failed step is answered with the one command line that repeats it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// One child process to run in the root.
pub(crate) struct Step {
    /// What the report calls it.
    name: &'static str,
    program: String,
    args: Vec<String>,
    env: Vec<(&'static str, &'static str)>,
}

impl Step {
    /// A step that calls cargo.
    pub(crate) fn cargo(name: &'static str, args: &[&str]) -> Self {
        Self::program(name, "cargo", args)
    }

    /// A step that calls any program.
    pub(crate) fn program(name: &'static str, program: &str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { name, program: program.to_owned(), args, env: Vec::new() }
    }

    /// Adds further arguments.
    pub(crate) fn with_args(mut self, args: &[String]) -> Self {
        self.args.extend_from_slice(args);
        self
    }

    /// Sets an environment variable for the child.
    pub(crate) fn with_env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    /// The line to type for doing exactly this again.
    pub(crate) fn command_line(&self) -> String {
        let env = self.env.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| quoted(word));
        env.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end; `Ok(false)` when it fails.
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<bool> {
        let program =
            if self.program == "cargo" { Workspace::cargo() } else { self.program.clone() };
        let status = workspace
            .command(&program)
            .args(&self.args)
            .envs(self.env.iter().copied())
            .status()
            .with_context(|| format!("starting {}", self.command_line()))?;
        Ok(status.success())
    }
}

/// A word as a POSIX shell needs it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What happened so far in a run of several steps.
#[derive(Default)]
pub(crate) struct Tally {
    done: Vec<Done>,
}

/// One finished step.
struct Done {
    name: &'static str,
    took: Duration,
    /// How to repeat it, when it failed.
    repeat: Option<String>,
}

impl Tally {
    /// Runs one piece of work under a heading and counts it; true when it passed.
    ///
    /// `repeat` is what a person types to get this one step again.
    pub(crate) fn count<F>(&mut self, name: &'static str, repeat: String, work: F) -> bool
    where
        F: FnOnce() -> Result<bool>,
    {
        println!("== {name}: {repeat}");
        let began = Instant::now();
        let passed = work().unwrap_or_else(|error| {
            println!("{error:#}");
            false
        });
        let took = began.elapsed();
        println!("== {name}: {} in {}\n", if passed { "ok" } else { "FAILED" }, clock(took));
        self.done.push(Done { name, took, repeat: (!passed).then_some(repeat) });
        passed
    }

    /// Runs a child process as one counted step.
    pub(crate) fn step(&mut self, workspace: &Workspace, step: &Step) -> bool {
        self.count(step.name, step.command_line(), || step.run(workspace))
    }

    /// Counts a step as failed because what it needs has failed before.
    pub(crate) fn missed(&mut self, name: &'static str, repeat: String) {
        println!("== {name}: FAILED, what it needs is not there\n");
        self.done.push(Done { name, took: Duration::ZERO, repeat: Some(repeat) });
    }

    /// Prints the times, how to repeat what failed and, last, the totals; true when all passed.
    pub(crate) fn report(&self) -> bool {
        for line in self.summary() {
            println!("{line}");
        }
        self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.done.iter().filter(|done| done.repeat.is_some()).count()
    }

    fn summary(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for done in &self.done {
            let verdict = if done.repeat.is_some() { "FAILED" } else { "ok" };
            lines.push(format!("{:<12} {verdict:<6} {:>9}", done.name, clock(done.took)));
        }
        for done in &self.done {
            if let Some(repeat) = &done.repeat {
                lines.push(format!("to repeat {}: {repeat}", done.name));
            }
        }
        let failed = self.failed();
        lines.push(format!("{} passed, {failed} failed", self.done.len().saturating_sub(failed)));
        lines
    }
}

/// A duration as a person reads it.
fn clock(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f32())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let step = Step::cargo("docs", &["doc", "--no-deps"]).with_env("FLAGS", "-D warnings");
        assert_eq!(step.command_line(), "FLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn the_last_line_counts_and_failures_say_how_to_repeat() {
        let mut tally = Tally::default();
        assert!(tally.count("one", "cargo one".to_owned(), || Ok(true)));
        assert!(!tally.count("two", "cargo two".to_owned(), || Ok(false)));
        assert!(!tally.count("three", "cargo three".to_owned(), || anyhow::bail!("no such file")));
        tally.missed("four", "cargo four".to_owned());
        let lines = tally.summary();
        assert_eq!(lines.last().unwrap(), "1 passed, 3 failed");
        for name in ["two", "three", "four"] {
            assert!(lines.contains(&format!("to repeat {name}: cargo {name}")), "{lines:?}");
        }
        assert!(!tally.report());
    }

    #[test]
    fn long_times_are_given_in_minutes() {
        assert_eq!(clock(Duration::from_millis(1_500)), "1.5 s");
        assert_eq!(clock(Duration::from_secs(125)), "2 min 05 s");
    }
}
