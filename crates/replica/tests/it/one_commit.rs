//! The one-commit step (settle the input, store the result, publish what comes next) with the
//! power failing in every disk operation: never half of it.
//!
//! Promise: P2.

use journal::Fault;
use model::{Lsn, QueueOptions};

use crate::run::{Contents, Ledger, Run, body, number};
use crate::sweep::{Sweep, small};

const QUEUES: [&str; 3] = ["input", "result", "next"];

/// Jobs come in, each is turned into a result and a next job by one commit. Bodies are large
/// enough for the log to roll, so that some commits are the first of their segment.
fn story(run: &mut Run) -> Result<(), Fault> {
    jobs(run, 72)
}

fn jobs(run: &mut Run, count: usize) -> Result<(), Fault> {
    for queue in QUEUES {
        run.declare(queue, QueueOptions::default());
    }
    run.turn()?;
    run.consume("input", 4);
    for job in 0..count {
        run.publish("input", body("input", job, 900));
        if job % 3 == 0 {
            run.turn()?;
        }
        while let Some((tag, input)) = run.ledger.held.pop_front() {
            let number = usize::try_from(number(&input)).expect("small");
            let done = run.ledger.done;
            let outputs =
                [("result", body("result", number, 1500)), ("next", body("next", number, 2500))];
            run.commit(tag, &input, &outputs);
            if number % 2 == 0 {
                run.turn()?;
                confirm(run, done, &outputs);
            }
        }
    }
    run.turns(3)
}

/// The commit was answered: what it published is as good as confirmed.
fn confirm(run: &mut Run, done_before: usize, outputs: &[(&str, Vec<u8>)]) {
    if run.ledger.done > done_before {
        for (_, body) in outputs {
            run.ledger.published.entry(body.clone()).or_default().is_confirmed = true;
        }
    }
}

/// A job is where it was, or its result and its successor are there: nothing in between.
fn whole_or_absent(contents: &Contents, _: &Ledger, context: &str) {
    let numbers = |queue: &str| -> Vec<u64> {
        contents.get(queue).into_iter().flatten().map(|body| number(body)).collect()
    };
    let (inputs, results, nexts) = (numbers("input"), numbers("result"), numbers("next"));
    assert_eq!(results, nexts, "{context}: a result without its next job or the reverse");
    for job in results {
        assert!(!inputs.contains(&job), "{context}: job {job} has a result and is still there");
    }
}

/// Commits were carried out and answered, and the log rolled under them.
fn finished(run: &Run) {
    let is_result = |body: &[u8]| body.starts_with(b"result");
    let confirmed =
        run.ledger.published.iter().filter(|(body, fate)| is_result(body) && fate.is_confirmed);
    assert!(confirmed.count() >= 3, "commits were answered");
    assert!(run.rig.node.journal().next_lsn() > Lsn(5_000), "there was much to cut");
}

fn sweep() -> Sweep {
    Sweep {
        name: "one commit",
        options: small(),
        story,
        queues: &QUEUES,
        pause_ms: 0,
        check: whole_or_absent,
        finished,
        writes_short: false,
        cuts_min: 900,
    }
}

/// Promise: P1, P2.
#[test]
fn a_commit_is_whole_or_absent_after_a_cut_anywhere() {
    sweep().every_cut();
}

/// Promise: P2.
#[test]
fn a_commit_is_whole_or_absent_after_a_cut_inside_a_write() {
    let few = |run: &mut Run| jobs(run, 9);
    let name = "one commit, short writes";
    Sweep { name, story: few, writes_short: true, ..sweep() }.every_cut();
}
