//! The backup file: the state at one position and every record that the state refers to, in one
//! stream that can be written to a socket and is checked while it is read.
//!
//! Lives here: the layout and what writer and reader share. Not here: when a backup is taken and
//! what keeps its records from being forgotten meanwhile (crate `replica`), and transport (the
//! binary). [`Writer`] makes a file, [`Reader`] checks one, [`Rebuild`] makes a data directory.
//!
//! | offset | size | type | meaning |
//! |---|---|---|---|
//! | 0 | 8 | bytes | magic `POTGBKUP` |
//! | 8 | 4 | u32 | format version, 1 |
//! | 12 | 4 | u32 | zero |
//! | 16 | | | sections, up to the end of the file |
//!
//! A section, all integers little-endian:
//!
//! | offset | size | type | meaning |
//! |---|---|---|---|
//! | 0 | 4 | u32 | payload bytes |
//! | 4 | 4 | u32 | CRC-32C over: the checksum of the section before, bytes 0..4, 8..12, payload |
//! | 8 | 1 | u8 | kind |
//! | 9 | 3 | | zero |
//! | 12 | n | bytes | payload |
//!
//! Before the first section the chain starts with the checksum of bytes 0..16 of the file. Kinds,
//! in the order in which they appear:
//!
//! | kind | how many | payload |
//! |---|---|---|
//! | 1 head | one | position X (u64), when the backup began in ms since 1970 (u64) |
//! | 2 state | any | the next piece of the owner's bytes, as a checkpoint at X has them |
//! | 3 records | any | entries by position, each: position (u64), frame as in `layout.rs` |
//! | 4 end | one, last | see [`Summary`]; nothing follows |
//! | 5 broken off | instead of the end | why, as text |

mod read;
mod rebuild;
#[cfg(test)]
mod tests;
mod write;

use blake2::{Blake2b, digest::consts::U32};
use model::Lsn;

pub use read::{Part, Reader, Unsound};
pub use rebuild::Rebuild;
pub use write::Writer;

/// The format this build writes; it reads this and older ones.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"POTGBKUP";
/// Bytes before the first section.
const FILE_HEAD: usize = 16;
/// Bytes before a section's payload.
const SECTION_HEAD: usize = 12;
/// Payload of the end.
const END_BYTES: usize = 72;
/// Largest payload that is read: one record of the largest size and what was before it.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

const HEAD: u8 = 1;
const STATE: u8 = 2;
const RECORDS: u8 = 3;
const END: u8 = 4;
const BROKEN_OFF: u8 = 5;

/// `BLAKE2b` with 256 bits, as `b2sum -l 256` computes it.
type Digest = Blake2b<U32>;

/// What a backup says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The state's position: every record before it is in the state, none from there on.
    pub lsn: Lsn,
    /// When the backup began, in milliseconds since 1970 by the server's clock.
    pub began_ms: u64,
}

/// What a whole backup says last.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 8 | u64 | position X, as in the head |
/// | 8 | 8 | u64 | bytes of the state |
/// | 16 | 8 | u64 | the owner's hash of the state |
/// | 24 | 8 | u64 | records |
/// | 32 | 8 | u64 | their bytes, heads included |
/// | 40 | 32 | bytes | `BLAKE2b`-256 over everything in the file before this section |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The state's position.
    pub lsn: Lsn,
    /// Bytes of the state.
    pub state_bytes: u64,
    /// The owner's hash of the state.
    pub state_hash: u64,
    /// Records in the file.
    pub records: u64,
    /// Their bytes, heads included.
    pub record_bytes: u64,
    /// Digest of the file up to its end section.
    pub digest: [u8; 32],
    /// Bytes of the whole file. Not stored.
    pub file_bytes: u64,
}

/// The checksum of a section; `length` and `kind` as they stand in its head.
fn section_crc(previous: u32, length: [u8; 4], kind: [u8; 4], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&previous.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &length);
    let crc = crc32c::crc32c_append(crc, &kind);
    crc32c::crc32c_append(crc, payload)
}
