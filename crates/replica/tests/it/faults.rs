//! Every call to the disk fails once, in every way: the node stops, says why, never tries again,
//! and what it promised before is there after the next start.
//!
//! Lives here: failing reads, writes, syncs and changes of the directory, lack of space, short
//! writes. Not here: power cuts (`boundaries.rs`).
//!
//! Promise: P12.

use std::io::ErrorKind;

use journal::Fault;
use journal::disk::{FaultyDisk, Operation, Trouble};

use crate::boundaries::survivor_sweep;
use crate::run::{Ledger, Run, START};
use crate::sweep::{Reference, Sweep};

const OPERATIONS: [Operation; 8] = [
    Operation::Read,
    Operation::Write,
    Operation::Sync,
    Operation::Allocate,
    Operation::Create,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDir,
];

fn trouble(operation: Operation, after: u64, error: ErrorKind) -> Trouble {
    Trouble { operation, name: String::new(), after, times: 1, error }
}

/// What a run with one failing call came to.
enum Ended {
    /// The story ran to its end: there was no such call, or the fault was not final.
    Whole(Box<Run>),
    /// The node stopped, or did not start.
    Stopped(Ledger),
}

/// Runs the story; when it stops, asks on and makes sure that nothing happens any more.
fn run(sweep: &Sweep, disk: &FaultyDisk, context: &str) -> Ended {
    let mut run = match Run::open(disk.clone(), sweep.options.clone(), START) {
        Ok(run) => run,
        Err(error) => {
            assert!(error.to_string().contains("/data"), "{context}: names no file: {error}");
            return Ended::Stopped(Ledger::default());
        }
    };
    let Err(fault) = (sweep.story)(&mut run) else { return Ended::Whole(Box::new(run)) };
    let text = fault.to_string();
    let names_it = text.contains("failed to") && text.contains("/data");
    assert!(names_it && matches!(fault, Fault::Io { .. }), "{context}: {text}");
    let (operations, promised) = (disk.operations(), run.ledger.promised);
    for _ in 0..3 {
        let again = run.turn().expect_err("a fault is final");
        assert_eq!(again.to_string(), text, "{context}: another fault");
    }
    assert_eq!(disk.operations(), operations, "{context}: it touched the disk again");
    assert_eq!(run.ledger.promised, promised, "{context}: it promised something afterwards");
    Ended::Stopped(run.ledger)
}

/// After the fault: the process starts again on the same disk, and on what a power cut leaves.
/// Without a reference when the story took another course (publishes were refused): then the
/// ledger alone decides, each time.
fn restart(
    sweep: &Sweep,
    found: &FaultyDisk,
    ledger: &Ledger,
    reference: Option<&Reference>,
    at: &str,
) {
    found.heal();
    let now = START.plus(1_000_000);
    for seed in [None, Some(0), Some(5)] {
        let context = format!("{at}, then {seed:?}");
        let disk = seed.map_or_else(|| found.fork(), |seed| found.after_power_loss(seed));
        let run = match reference {
            Some(reference) => sweep.recover(disk, (ledger, now), reference, &context),
            None => sweep.open_again(disk, (ledger, now), &context),
        };
        if seed == Some(0) || reference.is_none() {
            sweep.go_on(run, ledger, &context);
        }
    }
}

fn every_call_fails(error: ErrorKind, is_always_final: bool) -> [u64; 8] {
    let sweep = survivor_sweep();
    let reference = is_always_final.then(|| sweep.reference());
    let reference = reference.as_ref();
    let mut calls = [0; 8];
    for (operation, calls) in OPERATIONS.into_iter().zip(&mut calls) {
        for after in 0..calls_of(&sweep, operation) {
            let disk = sweep.disk();
            disk.plan(trouble(operation, after, error));
            let context = format!("{operation:?} {after} fails with {error}");
            let ended = run(&sweep, &disk, &context);
            *calls += 1;
            match ended {
                Ended::Stopped(ledger) => restart(&sweep, &disk, &ledger, reference, &context),
                Ended::Whole(mut run) => {
                    assert!(!is_always_final, "{context}: nobody noticed");
                    run.turns(4).unwrap_or_else(|fault| panic!("{context}: {fault}"));
                    let ledger = run.ledger.clone();
                    drop(run);
                    restart(&sweep, &disk, &ledger, reference, &context);
                }
            }
        }
    }
    eprintln!("failing with {error}: {OPERATIONS:?} {calls:?}");
    calls
}

/// How many calls of a kind the story makes: the first that may fail without any effect.
fn calls_of(sweep: &Sweep, operation: Operation) -> u64 {
    let fails = |after: u64| {
        let disk = sweep.disk();
        let mut plan = trouble(operation, after, ErrorKind::Other);
        plan.times = u64::MAX;
        disk.plan(plan);
        matches!(run(sweep, &disk, "counting"), Ended::Stopped(_))
    };
    let (mut low, mut high) = (0_u64, 4096);
    while low < high {
        let middle = low.midpoint(high);
        if fails(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[test]
fn an_error_at_any_call_stops_the_node_for_good() {
    let calls = every_call_fails(ErrorKind::Other, true);
    assert!(calls.iter().all(|count| *count > 0), "a kind of call is never made: {calls:?}");
    assert!(calls.iter().sum::<u64>() > 400, "{calls:?}");
}

#[test]
fn lack_of_space_at_any_call_loses_nothing() {
    let calls = every_call_fails(ErrorKind::StorageFull, false);
    assert!(calls.iter().sum::<u64>() > 400, "{calls:?}");
}

#[test]
fn a_start_that_cannot_read_or_write_says_so_and_spoils_nothing() {
    let sweep = survivor_sweep();
    let reference = sweep.reference();
    let disk = sweep.disk();
    disk.crash_at(sweep.operations() - 3);
    let (ledger, now, _) = sweep.run(&disk);
    let found = disk.after_power_loss(9);
    let mut starts = 0;
    for operation in OPERATIONS {
        for error in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
            for after in 0..64 {
                let disk = found.fork();
                disk.plan(trouble(operation, after, error));
                let context = format!("{operation:?} {after} fails with {error} at the start");
                match Run::open(disk.clone(), sweep.options.clone(), now) {
                    Ok(_) => break,
                    Err(error) => assert!(error.to_string().contains("/data"), "{error}"),
                }
                starts += 1;
                disk.heal();
                let run = sweep.recover(disk, (&ledger, now), &reference, &context);
                if after == 0 {
                    sweep.go_on(run, &ledger, &context);
                }
            }
        }
    }
    eprintln!("{starts} starts failed");
    assert!(starts > 20, "{starts}");
}
