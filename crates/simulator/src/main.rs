//! The command line of the simulator: one seed, many seeds, or fresh seeds for a while.
//!
//! Not here: what a run does (`simulator::run`). Called by `cargo x sim` and by people.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it speaks to a terminal")]

mod report;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use simulator::{Kind, Outcome, Run, Totals};

const HELP: &str = "\
simulator: the whole server in one thread from one seed

  --seed N         run one seed and say what came of it
  --seeds A..B     run these seeds
  --hours H        run fresh seeds until they cover H virtual hours
  --minutes M      run fresh seeds for M minutes of real time
  --from N         the first of the fresh seeds (default 0)
  --steps M        stop a run after M steps
  --jobs J         seeds at a time (default: cores)
  --trace          print every step of --seed
  --only A,B       no faults but these kinds, e.g. Power,Reset; `none`: none
  --keep-going     do not stop at the first failing seed
";

/// Every so many seeds one is run twice: it must do the same.
const TWICE_EVERY: u64 = 50;

#[derive(Clone, Debug, Default)]
struct Asked {
    seed: Option<u64>,
    seeds: Option<(u64, u64)>,
    hours: Option<f64>,
    minutes: Option<f64>,
    from: u64,
    steps: Option<u64>,
    jobs: Option<u64>,
    is_traced: bool,
    keeps_going: bool,
    only: Option<Vec<Kind>>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(asked)) => start(&asked),
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("simulator: {problem}; --help lists the flags");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let mut asked = Asked::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seed" => asked.seed = Some(number(&value()?)?),
            "--seeds" => asked.seeds = Some(range(&value()?)?),
            "--hours" => asked.hours = Some(number(&value()?)?),
            "--minutes" => asked.minutes = Some(number(&value()?)?),
            "--from" => asked.from = number(&value()?)?,
            "--steps" => asked.steps = Some(number(&value()?)?),
            "--jobs" => asked.jobs = Some(number(&value()?)?),
            "--trace" => asked.is_traced = true,
            "--keep-going" => asked.keeps_going = true,
            "--only" => asked.only = Some(kinds(&value()?)?),
            _ => return Err(format!("unknown flag {word}")),
        }
    }
    Ok(Some(asked))
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is not a number"))
}

fn range(word: &str) -> Result<(u64, u64), String> {
    let (first, end) =
        word.split_once("..").ok_or_else(|| format!("{word} is not a range A..B"))?;
    Ok((number(first)?, number(end)?))
}

fn kinds(word: &str) -> Result<Vec<Kind>, String> {
    let names = word.split(',').filter(|name| *name != "none");
    let find = |name: &str| Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name);
    names.map(|name| find(name).ok_or_else(|| format!("no fault is called {name}"))).collect()
}

fn start(asked: &Asked) -> ExitCode {
    if let Some(seed) = asked.seed {
        return single(asked, seed);
    }
    let began = Instant::now();
    let fleet = Fleet::new(asked);
    let jobs = asked.jobs.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
    });
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| fleet.work());
        }
    });
    let books = fleet.books.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report::totals(&books.totals, began.elapsed(), &books.took);
    for outcome in &books.failed {
        report::failure(&replay(asked, outcome.seed), outcome);
    }
    if books.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn request(asked: &Asked, seed: u64) -> Run {
    let (steps_max, only) = (asked.steps, asked.only.clone());
    Run { seed, steps_max, only, ..Run::default() }
}

fn single(asked: &Asked, seed: u64) -> ExitCode {
    let began = Instant::now();
    let run = Run { is_traced: asked.is_traced, is_kept: true, ..request(asked, seed) };
    let outcome = simulator::run(&run);
    println!("seed {seed}: trace {:016x}", outcome.hash);
    report::totals(&outcome.totals, began.elapsed(), &[]);
    if outcome.violation.is_some() {
        report::failure(&replay(asked, seed), &outcome);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn replay(asked: &Asked, seed: u64) -> String {
    let mut line = format!("cargo x sim --seed {seed}");
    if let Some(only) = &asked.only {
        let names: Vec<String> = only.iter().map(|kind| format!("{kind:?}")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
        line = format!("{line} --only {names}");
    }
    line
}

/// What all workers write down.
#[derive(Default)]
struct Books {
    totals: Totals,
    failed: Vec<Outcome>,
    /// Real time of each run, and its seed.
    took: Vec<(Duration, u64)>,
}

/// Workers that share a row of seeds.
struct Fleet<'a> {
    asked: &'a Asked,
    next: AtomicU64,
    end: u64,
    deadline: Option<Instant>,
    micros_max: Option<u64>,
    is_over: AtomicBool,
    books: Mutex<Books>,
}

impl<'a> Fleet<'a> {
    fn new(asked: &'a Asked) -> Self {
        let is_open = asked.hours.is_some() || asked.minutes.is_some();
        let count = if is_open { u64::MAX } else { 100 };
        let end = asked.from.saturating_add(count);
        let (first, end) = asked.seeds.unwrap_or((asked.from, end));
        let deadline = asked.minutes.map(|m| Instant::now() + Duration::from_secs_f64(m * 60.0));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours to do")]
        let micros_max = asked.hours.map(|hours| (hours * 3.6e9) as u64);
        Self {
            asked,
            next: AtomicU64::new(first),
            end,
            deadline,
            micros_max,
            is_over: AtomicBool::new(false),
            books: Mutex::new(Books::default()),
        }
    }

    fn work(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end || self.deadline.is_some_and(|at| Instant::now() >= at) {
                return;
            }
            let began = Instant::now();
            let mut outcome = simulator::run(&request(self.asked, seed));
            let took = began.elapsed();
            if outcome.violation.is_none() && seed.is_multiple_of(TWICE_EVERY) {
                self.again(&mut outcome);
            }
            if outcome.violation.is_some() {
                outcome = self.in_words(outcome);
            }
            self.write_down(outcome, took);
        }
    }

    /// The same seed must do the same.
    fn again(&self, outcome: &mut Outcome) {
        let second = simulator::run(&request(self.asked, outcome.seed));
        if second.hash != outcome.hash {
            let detail = format!("{:016x} and then {:016x}", outcome.hash, second.hash);
            let invariant = "determinism";
            outcome.violation = Some(simulator::Violation { invariant, detail, now: 0 });
        }
    }

    /// A failing seed is run once more for its last words.
    fn in_words(&self, outcome: Outcome) -> Outcome {
        let again = simulator::run(&Run { is_kept: true, ..request(self.asked, outcome.seed) });
        if again.violation == outcome.violation { again } else { outcome }
    }

    fn write_down(&self, outcome: Outcome, took: Duration) {
        let mut books = self.books.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        books.totals.add(&outcome.totals);
        books.took.push((took, outcome.seed));
        let is_enough = self.micros_max.is_some_and(|max| books.totals.virtual_micros >= max);
        if outcome.violation.is_some() {
            books.failed.push(outcome);
        }
        let gives_up = !books.failed.is_empty() && !self.asked.keeps_going;
        if is_enough || gives_up || books.failed.len() >= 50 {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }
}
