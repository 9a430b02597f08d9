//! Hunting planted bugs: the simulator runs seeds from 0 on until it objects or gives up.
//!
//! Not here: what is planted (`planted.rs`), how seeds run (the simulator). Several hunts run at a
//! time, each in a process of its own because a bug is chosen at its start.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Bug;

/// The planted copy with every switch off must pass these: what is found is the bug, not the copy.
const CLEAN_SEEDS: u64 = 60;
/// Names the bug that is on; see the switch in `copy.rs`.
const VARIABLE: &str = "POTAGER_PLANTED";

/// What a hunt came to.
struct Trail {
    bug: Option<Bug>,
    found: Option<Find>,
    took: Duration,
}

/// How a bug was found.
#[derive(Debug, PartialEq, Eq)]
struct Find {
    invariant: String,
    seed: u64,
    /// Virtual seconds, as printed.
    at: String,
    detail: String,
}

impl Trail {
    /// A bug must be found, and nothing without a bug.
    fn is_right(&self) -> bool {
        self.bug.is_some() == self.found.is_some()
    }

    fn line(&self) -> String {
        let (name, promise, max) = match &self.bug {
            Some(bug) => (bug.name.as_str(), bug.promise.as_str(), bug.seeds_max),
            None => ("(none)", "", CLEAN_SEEDS),
        };
        let verdict = if self.is_right() { "" } else { "  WRONG" };
        let took = self.took.as_secs_f32();
        match &self.found {
            Some(Find { invariant, seed, at, detail }) => {
                let (at, detail) = (format!("{at} s"), detail.chars().take(90).collect::<String>());
                format!(
                    "{name:<32} {promise:<4} {invariant:<20} {seed:>4} of {max:<4} {at:>12} \
                     {took:>6.1} s{verdict}  {detail}"
                )
            }
            None => format!(
                "{name:<32} {promise:<4} {:<20} {:>4} of {max:<4} {:>12} {took:>6.1} s{verdict}",
                "-", "-", "-"
            ),
        }
    }
}

/// Hunts every bug and prints what came of it; false when one was not found.
pub(super) fn run(binary: &Path, bugs: &[&Bug]) -> Result<bool> {
    println!(
        "{:<32} {:<4} {:<20} {:>12} {:>12} {:>8}",
        "bug", "", "found by", "seed", "virtual", "took"
    );
    // The longest hunt is the one that must find nothing, so it goes first.
    let hunts: Vec<Option<&Bug>> =
        std::iter::once(None).chain(bugs.iter().copied().map(Some)).collect();
    let next = AtomicUsize::new(0);
    let trails: Mutex<Vec<Result<Trail>>> = Mutex::new(Vec::new());
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(bug) = hunts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let trail = hunt(binary, *bug);
                    if let Ok(trail) = &trail {
                        println!("{}", trail.line());
                    }
                    if let Ok(mut trails) = trails.lock() {
                        trails.push(trail);
                    }
                }
            });
        }
    });
    let trails = trails.into_inner().unwrap_or_default();
    let trails: Vec<Trail> = trails.into_iter().collect::<Result<_>>()?;
    let planted = trails.iter().filter(|trail| trail.bug.is_some()).count();
    let wrong = trails.iter().filter(|trail| !trail.is_right()).count();
    println!("{planted} bugs planted, {wrong} hunts went wrong");
    Ok(wrong == 0 && !trails.is_empty())
}

/// One hunt; without a bug every seed must be clean.
fn hunt(binary: &Path, bug: Option<&Bug>) -> Result<Trail> {
    let began = Instant::now();
    let seeds = bug.map_or(CLEAN_SEEDS, |bug| bug.seeds_max);
    let mut found = first_find(binary, bug, 0..seeds)?;
    // A seed that fails without the bug too says nothing about the bug.
    while let (Some(_), Some(Find { seed, .. })) = (bug, &found)
        && first_find(binary, None, *seed..seed + 1)?.is_some()
    {
        found = first_find(binary, bug, seed + 1..seeds)?;
    }
    Ok(Trail { bug: bug.cloned(), found, took: began.elapsed() })
}

/// The first of these seeds to which the simulator objects.
fn first_find(binary: &Path, bug: Option<&Bug>, seeds: Range<u64>) -> Result<Option<Find>> {
    let mut command = Command::new(binary);
    command.args(["--jobs", "1", "--seeds", &format!("{}..{}", seeds.start, seeds.end)]);
    command.env_remove(VARIABLE).stdin(Stdio::null());
    if let Some(bug) = bug {
        command.env(VARIABLE, &bug.name);
    }
    let output = command.output().context("starting the planted simulator")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1) => read_find(&text).context("the simulator does not say what it found").map(Some),
        _ => bail!("the simulator ended with {}", output.status),
    }
}

/// Reads `FAILED <invariant> at <time> virtual seconds: <detail>` and `... --seed <N>`.
fn read_find(text: &str) -> Option<Find> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("FAILED "));
    let (invariant, rest) = lines.next()?.strip_prefix("FAILED ")?.split_once(" at ")?;
    let (at, detail) = rest.split_once(" virtual seconds: ")?;
    let (_, seed) = lines.find_map(|line| line.split_once(" --seed "))?;
    Some(Find {
        invariant: invariant.to_owned(),
        seed: seed.split_whitespace().next()?.parse().ok()?,
        at: at.to_owned(),
        detail: detail.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulators_last_words_are_understood() {
        let text = "3 seeds\n  step\nFAILED order at 1.250000 virtual seconds: message 7 at last\n\
                    to repeat: cargo x sim --seed 42 --only none\n";
        let found = read_find(text).unwrap();
        assert_eq!(
            (found.invariant.as_str(), found.seed, found.at.as_str()),
            ("order", 42, "1.250000")
        );
        assert_eq!(found.detail, "message 7 at last");
        assert_eq!(read_find("100 seeds, all clean"), None);
    }

    #[test]
    fn a_bug_that_is_not_found_is_wrong_and_so_is_a_find_without_a_bug() {
        let bug = Bug {
            name: "some-bug".to_owned(),
            promise: "P1".to_owned(),
            breaks: String::new(),
            seeds_max: 5,
            edit: Vec::new(),
        };
        let find = || Find {
            invariant: "order".to_owned(),
            seed: 1,
            at: "0.5".to_owned(),
            detail: String::new(),
        };
        let trail = |bug, found| Trail { bug, found, took: Duration::ZERO };
        assert!(trail(Some(bug.clone()), Some(find())).is_right());
        assert!(!trail(Some(bug), None).is_right());
        assert!(trail(None, None).is_right());
        assert!(!trail(None, Some(find())).is_right());
    }
}
