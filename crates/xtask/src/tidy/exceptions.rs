//! The one list of exceptions to the house's rules, each with its reason.
//!
//! An exception that no longer excepts anything fails the check, so the list can only shrink on
//! its own. Read by `tidy::judge`. The tables of who may import whom are not exceptions; they
//! stand in `arrows`.

/// A place where a rule does not hold, on purpose.
#[derive(Clone)]
pub(super) struct Exception {
    /// The rule's name, as `cargo x tidy` prints it.
    pub(super) rule: &'static str,
    /// The place, exactly as the finding names it.
    pub(super) place: &'static str,
    /// Why this is right here.
    pub(super) reason: &'static str,
}

/// All of them.
pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: "lock_contents",
        place: "getrandom",
        reason: "ring 0.17 wants 0.2, ahash 0.8 0.3, others 0.4; thin layers over one system call",
    },
    Exception {
        rule: "lock_contents",
        place: "num-bigint",
        reason: "parquet 60 wants 0.5; 0.4 stands in the lock file for a feature that is off",
    },
    Exception {
        rule: "lock_contents",
        place: "r-efi",
        reason: "two getrandom want one each; for a platform that we do not build for",
    },
    Exception {
        rule: "lock_contents",
        place: "syn",
        reason: "der_derive 0.8 wants 2, serde_derive 3; a build-time parser, not in the binary",
    },
    Exception {
        rule: "lock_contents",
        place: "thiserror",
        reason: "nvml-wrapper 0.13 wants 1, everybody else 2; a build-time macro and one trait",
    },
    Exception {
        rule: "lock_contents",
        place: "thiserror-impl",
        reason: "the macro of thiserror, see there",
    },
    Exception {
        rule: "lock_contents",
        place: "windows-sys",
        reason: "ring 0.17 wants 0.52; for a platform that we do not build for",
    },
];
