//! `cargo x fuzz [TARGET ...] [--seconds N]`: builds the fuzz targets and runs them, two at once.
//!
//! Lives here: the two ways of building (libFuzzer with coverage; where that cannot be built, the
//! seeded generator over the same functions), running, and one line per target. Not here: what a
//! target checks (`fuzz/src`). Called by `main` and by `verify`.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::workspace::{Workspace, has_extension};

/// Where the targets live; a workspace of its own.
const HOME: &str = "fuzz";
/// Seconds of each target in a run of `verify`.
const VERIFY_SECONDS: u64 = 60;
/// Targets that run at the same time.
const AT_ONCE: usize = 2;
/// Lines of a failed target's log that are shown.
const SHOWN_LINES: usize = 25;
/// Coverage counters and comparison tracing for every crate of ours and theirs. Plain code
/// generation options: the pinned compiler takes them.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Cdebug-assertions -Clink-dead-code";

/// What to run, from the command line.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Which targets; all when empty.
    pub(crate) targets: Vec<String>,
    /// Seconds of each.
    pub(crate) seconds: u64,
    /// Use the seeded generator although libFuzzer could be built.
    pub(crate) is_generated: bool,
}

/// Builds and runs; false when a target found something.
pub(crate) fn run(workspace: &Workspace, plan: &Plan) -> Result<bool> {
    let all = targets(workspace)?;
    let unknown = plan.targets.iter().find(|name| !all.contains(name));
    ensure!(unknown.is_none(), "no fuzz target {unknown:?}; there are {}", all.join(", "));
    let chosen = if plan.targets.is_empty() { all } else { plan.targets.clone() };
    let build = Build::make(workspace, plan)?;
    let queue = Mutex::new(VecDeque::from(chosen));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut is_good = true;
        while let Some(target) = next() {
            match build.run(&target, plan.seconds) {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    println!("{target}: {error:#}");
                    is_good = false;
                }
            }
        }
        is_good
    };
    Ok(std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        // Every worker is waited for, also after one that found something.
        let outcomes: Vec<bool> =
            workers.into_iter().map(|one| one.join().unwrap_or(false)).collect();
        outcomes.into_iter().all(|is_good| is_good)
    }))
}

/// The run that belongs to every check.
pub(crate) fn for_verify(workspace: &Workspace) -> Result<bool> {
    run(workspace, &Plan { targets: Vec::new(), seconds: VERIFY_SECONDS, is_generated: false })
}

/// What a person types to get the run of `verify` again.
pub(crate) fn repeat() -> String {
    format!("cargo x fuzz --seconds {VERIFY_SECONDS}")
}

/// The names of all targets: the files of `fuzz_targets`.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join(HOME).join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if has_extension(&name, "rs") {
            names.push(name.trim_end_matches(".rs").to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Built targets, and where their things go.
struct Build {
    /// The fuzz workspace.
    home: PathBuf,
    /// Below the target folder: build, working corpora, logs, finds.
    room: PathBuf,
    binaries: PathBuf,
    is_guided: bool,
}

impl Build {
    fn make(workspace: &Workspace, plan: &Plan) -> Result<Self> {
        let home = workspace.root.join(HOME);
        let room = PathBuf::from(workspace.metadata()?.target_directory).join("fuzz");
        for folder in ["corpus", "logs", "finds"] {
            fs::create_dir_all(room.join(folder)).context("making the fuzz folders")?;
        }
        let host = host()?;
        if !plan.is_generated {
            // With a target named, the flags do not reach build scripts.
            let guided = cargo(&home, &room, &["--target", &host])
                .env("RUSTFLAGS", COVERAGE)
                .status()
                .context("starting cargo")?;
            if guided.success() {
                let binaries = room.join("build").join(host).join("release");
                return Ok(Self { home, room, binaries, is_guided: true });
            }
            println!("libFuzzer cannot be built here (a C++ compiler?): the seeded generator runs");
        }
        let words = ["--no-default-features", "--features", "generator"];
        let built = cargo(&home, &room, &words).status().context("starting cargo")?;
        ensure!(built.success(), "the fuzz targets do not build");
        let binaries = room.join("build").join("release");
        Ok(Self { home, room, binaries, is_guided: false })
    }

    /// Runs one target to its end and says how it went.
    fn run(&self, target: &str, seconds: u64) -> Result<String> {
        let log = self.room.join("logs").join(format!("{target}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = self.command(target, seconds)?;
        let errors = file.try_clone().context("sharing the log")?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let status = command.status().with_context(|| format!("starting {target}"))?;
        let text = fs::read(&log).context("reading the log")?;
        let text = String::from_utf8_lossy(&text);
        if status.success() {
            return Ok(self.line(target, &text));
        }
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
        let finds = self.room.join("finds");
        anyhow::bail!(
            "FOUND SOMETHING ({status}); the input is in {}, the log is {}\n{}\n\
             to repeat: cargo x fuzz {target} --seconds {seconds}",
            finds.display(),
            log.display(),
            tail.join("\n")
        );
    }

    fn command(&self, target: &str, seconds: u64) -> Result<Command> {
        let seeds = self.home.join("corpus").join(target);
        let finds = self.room.join("finds");
        if !self.is_guided {
            let mut command = Command::new(self.binaries.join("drive"));
            command.arg(target).args(["--seconds", &seconds.to_string(), "--corpus"]);
            command.arg(seeds).arg("--artifacts").arg(finds);
            return Ok(command);
        }
        // What is new goes to the first folder; the seeds in the repository are only read.
        let work = self.room.join("corpus").join(target);
        fs::create_dir_all(&work).context("making a working corpus")?;
        let mut command = Command::new(self.binaries.join(target));
        command.args(["-timeout=20", "-rss_limit_mb=2048", "-max_len=4096"]);
        command.args(["-print_final_stats=1", &format!("-max_total_time={seconds}")]);
        command.arg(format!("-artifact_prefix={}/{target}-", finds.display())).arg(work);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        Ok(command)
    }

    /// `target: executions, executions/s, corpus, coverage`.
    fn line(&self, target: &str, log: &str) -> String {
        let Figures { executions, per_second, corpus, new, coverage } = Figures::read(log);
        let line = format!("{target:<16} {executions:>10} executions {per_second:>7}/s");
        if !self.is_guided {
            return format!("{line}  (seeded generator)");
        }
        format!("{line}  corpus {corpus:>5}  new {new:>5}  coverage {coverage:>6}")
    }
}

fn cargo(home: &Path, room: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(Workspace::cargo());
    command.args(["build", "--release", "--locked", "--quiet"]).args(words);
    command.current_dir(home).env("CARGO_TARGET_DIR", room.join("build")).stdin(Stdio::null());
    command
}

/// The machine's own target triple.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say which host it is for")
}

/// What a log says at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: u64,
    per_second: u64,
    corpus: u64,
    new: u64,
    coverage: u64,
}

impl Figures {
    fn read(log: &str) -> Self {
        let after = |line: &str, word: &str| {
            let rest = line.split_once(word)?.1.trim_start();
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let last = |word: &str| log.lines().rev().find_map(|line| after(line, word)).unwrap_or(0);
        Self {
            executions: last("stat::number_of_executed_units:"),
            per_second: last("stat::average_exec_per_sec:"),
            corpus: last(" corp:"),
            new: last("stat::new_units_added:"),
            coverage: last(" cov:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_read() {
        let log = "#2\tINITED cov: 16 ft: 17 corp: 1/1b exec/s: 0 rss: 31Mb\n\
                   #267103\tDONE   cov: 656 ft: 1171 corp: 188/6460b lim: 1810 exec/s: 38157\n\
                   stat::number_of_executed_units: 267103\n\
                   stat::average_exec_per_sec:     38157\nstat::new_units_added: 12\n";
        let expected = Figures {
            executions: 267_103,
            per_second: 38_157,
            corpus: 188,
            new: 12,
            coverage: 656,
        };
        assert_eq!(Figures::read(log), expected);
        assert_eq!(Figures::read("nothing of use"), Figures::default());
    }

    #[test]
    fn every_target_is_in_the_table() {
        let workspace = Workspace::find().unwrap();
        let table = fs::read_to_string(workspace.root.join("fuzz/src/lib.rs")).unwrap();
        let targets = targets(&workspace).unwrap();
        assert!(targets.len() >= 13);
        for target in targets {
            assert!(table.contains(&format!("(\"{target}\", {target}::run)")), "{target}");
        }
    }
}
