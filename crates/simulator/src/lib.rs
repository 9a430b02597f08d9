//! The whole server in one thread from one seed.
//!
//! Lives here: the real pipeline (`replica::Node`: engine and log) over a simulated disk and real
//! AMQP connection machines over simulated pipes, under virtual time, with clients that speak real
//! AMQP and know what they were promised. Not here: sockets, threads, real time, real disks; those
//! are `cargo x crash`'s and the conformance suites' business. Called by the binary of this crate,
//! which `cargo x sim` runs. How it works: `docs/internals/simulator.md`.
#![allow(clippy::wildcard_enum_match_arm, reason = "clients and checkers look at a few of many")]

mod caller;
mod clock;
mod dice;
mod doubts;
pub mod fact;
mod fault;
mod garden;
mod hatch;
pub mod invariants;
mod io;
mod ledger;
mod letter;
mod line;
mod link;
mod pipe;
mod plan;
mod roles;
mod server;
mod speech;
#[cfg(test)]
mod story;
mod tap;
mod totals;
mod trace;
mod world;

use std::panic::AssertUnwindSafe;

pub use dice::Dice;
pub use fault::Kind;
pub use garden::{Bed, Garden, Route, Use};
pub use invariants::Violation;
pub use totals::Totals;
pub use trace::seconds;
pub use world::{Outcome, Run, World};

/// One run of one seed. A panic of the product is a violation like any other.
#[must_use]
pub fn run(run: &Run) -> Outcome {
    let attempt = std::panic::catch_unwind(AssertUnwindSafe(|| World::new(run).run()));
    attempt.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        let violation = Violation { invariant: "no_panic", detail: text.to_owned(), now: 0 };
        Outcome {
            seed: run.seed,
            hash: 0,
            now: 0,
            violation: Some(violation),
            last: Vec::new(),
            totals: Totals { seeds: 1, ..Totals::default() },
        }
    })
}

/// Prints a line of a traced run.
#[allow(clippy::print_stdout, reason = "a trace is asked for at a terminal")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests;
