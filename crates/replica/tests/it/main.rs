//! The pipeline over the real engine and the real journal on a simulated disk: what may be shown
//! when, what survives, what an atomic commit leaves behind at every possible crash.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first thing it did not expect"
)]

mod backup;
mod boundaries;
mod complete;
mod durability;
mod faults;
mod one_commit;
mod prompt;
mod recovery;
mod repair;
mod rig;
mod room;
mod run;
mod sweep;
