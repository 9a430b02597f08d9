//! Tests of the journal through its public interface.
//!
//! Lives here: the list of rooms. Not here: unit tests of single modules (beside their code).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod basics;
mod crashes;
mod damage;
mod every_bit;
mod formats;
mod odd_files;
mod owner;
mod random;
mod rig;
mod space;
mod survivors;
