//! A worker's one-commit step (acknowledge a job by its name, store its result by key, publish what
//! comes next) with the power failing in every disk operation: never half of it.
//!
//! Promise: P2.

use bytes::Bytes;
use journal::Fault;
use model::{
    Enqueue, Failure, GiveBack, Held, Op, Policy, QueueOptions, RANK, Request, Results,
    StoreResult, Take,
};

use crate::run::{Contents, Ledger, RESULTS, Run, body, name, number};
use crate::sweep::{Sweep, small};

const QUEUES: [&str; 3] = ["input", RESULTS, "next"];

fn enqueue(queue: &'static str, body: &[u8]) -> Enqueue {
    let (queue, body) = (Bytes::from_static(queue.as_bytes()), Bytes::copy_from_slice(body));
    Enqueue { queue, body, rank: RANK, ..Enqueue::default() }
}

/// Jobs come in, are taken, renewed, now and then given back or failed, and each is turned into a
/// result and a next job by one commit.
fn jobs(run: &mut Run, count: usize) -> Result<(), Fault> {
    // Those that a door makes go away by themselves.
    for queue in ["input", "next"] {
        run.declare(queue, QueueOptions::default());
    }
    for job in 0..count {
        let input = body("input", job, 900);
        run.ask(Request::Enqueue(enqueue("input", &input)));
        run.sent(input);
        if job % 3 == 2 {
            run.turns(2)?;
            work(run)?;
        }
    }
    run.turns(3)
}

fn work(run: &mut Run) -> Result<(), Fault> {
    let queues = vec![Bytes::from_static(b"input")];
    run.ask(Request::Take(Box::new(Take { queues, most: 4, lease_s: 60, waits: false })));
    run.turns(2)?;
    run.ask(Request::Renew { lease_s: 60, claims: Vec::new() });
    while let Some((held, input)) = run.ledger.taken.pop_front() {
        let job = number(&input);
        // Some come back once or fail once before they are done.
        if job % 5 == 1 && held.attempt == 1 {
            let failure = job.is_multiple_of(2).then(Failure::default);
            run.ask(Request::GiveBack(Box::new(GiveBack { held, delay_s: 0, failure })));
            continue;
        }
        let done = run.ledger.done;
        let outputs = complete(run, held, &input);
        if job.is_multiple_of(2) {
            run.turns(2)?;
            if run.ledger.done > done {
                for body in outputs {
                    run.ledger.published.entry(body).or_default().is_confirmed = true;
                }
            }
        }
    }
    Ok(())
}

fn complete(run: &mut Run, held: Held, input: &[u8]) -> [Vec<u8>; 2] {
    let job = usize::try_from(number(input)).expect("small");
    // Within a label, bodies stand in the order of their numbers.
    let label = if held.attempt == 1 { "next" } else { "again" };
    let (result, next) = (body("result", job, 1500), body(label, job, 2500));
    let store = StoreResult {
        key: Bytes::from(name(&result)),
        value: Bytes::copy_from_slice(&result),
        policy: Policy::FirstWins,
        ..StoreResult::default()
    };
    let steps = vec![
        Op::Finish(held.job),
        Op::Store(Box::new(store)),
        Op::Enqueue(Box::new(enqueue("next", &next))),
    ];
    run.ask(Request::Commit(steps));
    run.gone(input);
    for body in [&result, &next] {
        run.ledger.published.insert(body.clone(), crate::run::Fate::default());
    }
    [result, next]
}

/// A job is where it was, or its result and its successor are there: nothing in between.
fn whole_or_absent(contents: &Contents, _: &Ledger, context: &str) {
    let numbers = |queue: &str| -> Vec<u64> {
        let mut all: Vec<u64> =
            contents.get(queue).into_iter().flatten().map(|body| number(body)).collect();
        all.sort_unstable();
        all
    };
    let (inputs, results, nexts) = (numbers("input"), numbers(RESULTS), numbers("next"));
    assert_eq!(results, nexts, "{context}: a result without its next job or the reverse");
    for job in results {
        assert!(!inputs.contains(&job), "{context}: job {job} has a result and is still there");
    }
}

fn finished(run: &Run) {
    let is_result = |body: &[u8]| body.starts_with(b"result");
    let confirmed =
        run.ledger.published.iter().filter(|(body, fate)| is_result(body) && fate.is_confirmed);
    assert!(confirmed.count() >= 3, "commits were answered");
}

fn sweep() -> Sweep {
    Sweep {
        name: "complete",
        options: small(),
        story: |run| jobs(run, 48),
        queues: &QUEUES,
        pause_ms: 0,
        check: whole_or_absent,
        finished,
        writes_short: false,
        cuts_min: 400,
    }
}

/// Promise: P1, P2.
#[test]
fn a_completion_is_whole_or_absent_after_a_cut_anywhere() {
    sweep().every_cut();
}

/// Promise: P2.
#[test]
fn a_completion_is_whole_or_absent_after_a_cut_inside_a_write() {
    let few = |run: &mut Run| jobs(run, 9);
    let name = "complete, short writes";
    Sweep { name, story: few, writes_short: true, cuts_min: 100, ..sweep() }.every_cut();
}

/// A result that was stored by itself, and forgotten, is so after a crash too. Promise: P1.
#[test]
fn what_was_stored_by_key_is_there_after_a_crash() {
    let mut run =
        Run::open(journal::disk::FaultyDisk::new(), small(), crate::run::START).expect("open");
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        let result = StoreResult {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
            policy: Policy::LastWins,
            ..StoreResult::default()
        };
        run.ask(Request::Results(Box::new(Results::Put(result))));
    }
    run.ask(Request::Results(Box::new(Results::Delete(Bytes::from_static(b"b")))));
    run.turns(3).expect("no fault");
    let disk = run.rig.crash(0);
    let mut again = Run::open(disk, small(), crate::run::START).expect("open");
    assert_eq!(again.contents(&[RESULTS])[RESULTS], [b"3".to_vec()]);
}
