//! What the command line says at the end: totals, and a failing seed as one command.
//!
//! Not here: what is counted (`simulator::Totals`). Called by `main` only.

use std::time::Duration;

use simulator::{Outcome, Totals, seconds};

/// What was covered, and how fast.
pub(crate) fn totals(totals: &Totals, took: Duration, each: &[(Duration, u64)]) {
    let covered = seconds(totals.virtual_micros);
    let ratio = covered / took.as_secs_f64().max(1e-9);
    println!(
        "{} seeds, {} steps, {:.2} virtual hours in {:.1} s: {ratio:.0} virtual seconds a second",
        totals.seeds,
        totals.steps,
        covered / 3600.0,
        took.as_secs_f64(),
    );
    let mut each = each.to_vec();
    each.sort_unstable();
    if let (Some((median, _)), Some((longest, seed))) = (each.get(each.len() / 2), each.last()) {
        let (median, longest) = (median.as_secs_f64() * 1e3, longest.as_secs_f64() * 1e3);
        println!("a seed takes {median:.1} ms (median), {longest:.0} ms at most (seed {seed})");
    }
    println!(
        "{} messages sent, {} confirmed, {} delivered, {} acknowledged; {} transactions",
        totals.sent, totals.confirmed, totals.delivered, totals.acked, totals.steps_committed
    );
    let [inserted, reserved, deleted] = totals.jobs;
    println!("{inserted} jobs inserted, {reserved} reserved, {deleted} deleted");
    let [taken_in, handed_out, completed] = totals.works;
    println!("{taken_in} inputs of workers, {handed_out} handed out, {completed} completed");
    println!(
        "{} connections, {} ends of the server, {} replays compared, {} backups read",
        totals.connections, totals.crashes, totals.compared, totals.backups
    );
    let faults: Vec<String> =
        totals.faults.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
    println!("faults: {}", faults.join(", "));
}

/// A failing seed as one command, and its last words.
pub(crate) fn failure(replay: &str, outcome: &Outcome) {
    for line in &outcome.last {
        println!("  {line}");
    }
    let Some(violation) = &outcome.violation else { return };
    println!(
        "FAILED {} at {:.6} virtual seconds: {}",
        violation.invariant,
        seconds(violation.now),
        violation.detail
    );
    println!("to repeat: {replay}");
}
