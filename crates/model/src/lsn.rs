//! [`Lsn`], the address of a record in the log. Nothing about files: that is the journal's.

use std::fmt;

/// Log sequence number: how many bytes of records stand in the log before this one.
///
/// Counts record bytes only (no block headers, no padding), so it does not depend on how records
/// were grouped into blocks, and a record keeps its number when its bytes move to another file.
/// `Lsn::ZERO` is the address of the first record and also means "nothing" as a watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The start of the log.
    pub const ZERO: Self = Self(0);

    /// The address `bytes` further on; saturates, which no real log reaches (2^64 bytes).
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
