//! Drives targets with a seeded generator: changed seeds of the corpus and random bytes. For
//! machines that cannot build libFuzzer, and for running one input again. It learns nothing from
//! coverage; the targets are the same functions.
//!
//! `drive TARGET --seconds N --seed S --corpus DIR --artifacts DIR` or `drive TARGET FILE...`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One execution may take this long; then the process ends with the input written down.
const EXECUTION_MAX: Duration = Duration::from_secs(20);
/// Largest generated input.
const INPUT_BYTES_MAX: usize = 4096;

/// Executions so far; the watchdog looks at it.
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);

struct Plan {
    name: &'static str,
    run: fn(&[u8]),
    seconds: u64,
    seed: u64,
    corpus: Option<PathBuf>,
    artifacts: PathBuf,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let Some(plan) = plan() else {
        eprintln!("usage: drive TARGET [--seconds N] [--seed S] [--corpus DIR] [--artifacts DIR]");
        eprintln!("       drive TARGET FILE...");
        return ExitCode::from(2);
    };
    if !plan.files.is_empty() {
        for file in &plan.files {
            (plan.run)(&std::fs::read(file).unwrap_or_default());
            println!("{}: {} is fine", plan.name, file.display());
        }
        return ExitCode::SUCCESS;
    }
    generate(&plan)
}

fn plan() -> Option<Plan> {
    let mut words = std::env::args().skip(1);
    let wanted = words.next()?;
    let (name, run) = *fuzz::TARGETS.iter().find(|(name, _)| *name == wanted)?;
    let artifacts = PathBuf::from(".");
    let (seconds, seed, corpus, files) = (60, 1, None, Vec::new());
    let mut plan = Plan { name, run, seconds, seed, corpus, artifacts, files };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => plan.seconds = words.next()?.parse().ok()?,
            "--seed" => plan.seed = words.next()?.parse().ok()?,
            "--corpus" => plan.corpus = Some(words.next()?.into()),
            "--artifacts" => plan.artifacts = words.next()?.into(),
            _ => plan.files.push(word.into()),
        }
    }
    Some(plan)
}

/// Small and fast; good enough to change inputs.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        // Edge values come up more often than they would by themselves.
        match self.below(4) {
            0 => [0, 1, 2, 0x7F, 0x80, 0xFF, 0xCE, b'#'][self.below(8)],
            _ => u8::try_from(self.roll() & 0xFF).unwrap_or(0),
        }
    }
}

fn generate(plan: &Plan) -> ExitCode {
    let seeds = plan.corpus.as_deref().map(read_corpus).unwrap_or_default();
    let mut dice = Dice(plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    std::thread::spawn(watch);
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let began = Instant::now();
    let mut input = Vec::new();
    for seed in &seeds {
        if !execute(plan, seed) {
            return ExitCode::FAILURE;
        }
    }
    while began.elapsed() < Duration::from_secs(plan.seconds) {
        for _ in 0..16 {
            change(&mut dice, &seeds, &mut input);
            if !execute(plan, &input) {
                return ExitCode::FAILURE;
            }
        }
    }
    let executions = EXECUTIONS.load(Ordering::Relaxed);
    let seconds = began.elapsed().as_secs().max(1);
    println!(
        "stat::number_of_executed_units: {executions}\nstat::average_exec_per_sec: {}",
        executions / seconds
    );
    ExitCode::SUCCESS
}

fn read_corpus(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    paths.sort_unstable();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Makes the next input: a seed with a few changes, two seeds spliced, or anything.
fn change(dice: &mut Dice, seeds: &[Vec<u8>], input: &mut Vec<u8>) {
    input.clear();
    if seeds.is_empty() || dice.below(8) == 0 {
        let most = [16, 64, 512, INPUT_BYTES_MAX][dice.below(4)];
        let length = dice.below(most);
        input.extend((0..length).map(|_| dice.byte()));
        return;
    }
    input.extend_from_slice(&seeds[dice.below(seeds.len())]);
    if dice.below(4) == 0 {
        let other = &seeds[dice.below(seeds.len())];
        input.truncate(dice.below(input.len() + 1));
        input.extend_from_slice(&other[dice.below(other.len() + 1)..]);
    }
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        match dice.below(5) {
            0 => input.insert(at, dice.byte()),
            1 if at < input.len() => _ = input.remove(at),
            2 => input.truncate(at),
            3 => {
                let piece = input[at..input.len().min(at + 16)].to_vec();
                input.splice(at..at, piece);
            }
            _ if at < input.len() => input[at] = dice.byte(),
            _ => input.push(dice.byte()),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// Runs one input; a panic writes it down.
fn execute(plan: &Plan, input: &[u8]) -> bool {
    let outcome = std::panic::catch_unwind(|| (plan.run)(input));
    let count = EXECUTIONS.fetch_add(1, Ordering::Relaxed);
    if outcome.is_ok() {
        return true;
    }
    let path = plan.artifacts.join(format!("{}-crash-{count}", plan.name));
    let written = std::fs::create_dir_all(&plan.artifacts)
        .and_then(|()| std::fs::File::create(&path)?.write_all(input));
    println!("{}: the input is in {} ({written:?})", plan.name, path.display());
    false
}

/// Ends the process when one execution takes too long: a hang is a find too. Which input it was
/// follows from the seed and the number of executions.
fn watch() {
    let mut last = u64::MAX;
    loop {
        std::thread::sleep(EXECUTION_MAX);
        let now = EXECUTIONS.load(Ordering::Relaxed);
        if now == last {
            println!("execution {now} takes longer than {} s", EXECUTION_MAX.as_secs());
            std::process::exit(1);
        }
        last = now;
    }
}
