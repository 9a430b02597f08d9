//! What a checkpoint and a backup hold: a snapshot of the engine, sealed with the hash of the
//! state. Whoever reads it back compares the hash with that of the state he got. Called by
//! `upkeep`, `recovery` and `backup`.
//!
//! | offset | size | type | meaning |
//! |---|---|---|---|
//! | 0 | n | bytes | the snapshot, see `engine::snapshot` |
//! | n | 2 | u16 | layout of the state that the hash is made of (`engine::STATE_VERSION`) |
//! | n + 2 | 2 | | zero |
//! | n + 4 | 8 | u64 | hash of the state |
//! | n + 12 | 4 | bytes | `SEAL` |
//!
//! A checkpoint without a seal is older than the seal; one with the hash of another layout was
//! written by another release. Both are read without the comparison.

use std::io;

use engine::{Damage, Engine, STATE_VERSION, Snapshot};
use model::Limits;

const MAGIC: [u8; 4] = *b"SEAL";
/// Bytes of a seal.
pub(crate) const SEAL_BYTES: usize = 16;

/// Why a state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// The snapshot does not read.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// What was read is not what was written.
    #[error("the state reads back with hash {found:016x}, but was written with {written:016x}")]
    Hash {
        /// In the seal.
        written: u64,
        /// Of the state as it was read.
        found: u64,
    },
}

/// The seal of a state with this hash.
pub(crate) fn seal(hash: u64) -> [u8; SEAL_BYTES] {
    let [a, b] = STATE_VERSION.to_le_bytes();
    let mut out = [0; SEAL_BYTES];
    let bytes = [a, b, 0, 0].into_iter().chain(hash.to_le_bytes()).chain(MAGIC);
    out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    out
}

/// Writes snapshot and seal.
pub(crate) fn write(snapshot: &Snapshot, out: &mut dyn io::Write) -> io::Result<()> {
    let hash = snapshot.write(out)?;
    out.write_all(&seal(hash))
}

/// Reads what [`write`] wrote, now or in an older release, and compares the hash.
pub(crate) fn read(bytes: &[u8], limits: Limits) -> Result<Engine, BadState> {
    let engine = Engine::restore(split(bytes).0, limits)?;
    if let Some(written) = sealed_hash(bytes) {
        let found = engine.state_hash();
        if found != written {
            return Err(BadState::Hash { written, found });
        }
    }
    Ok(engine)
}

/// The hash in the seal, if there is one that this release can compare.
pub(crate) fn sealed_hash(bytes: &[u8]) -> Option<u64> {
    split(bytes).1
}

/// The snapshot, and the hash in the seal if it can be compared.
fn split(bytes: &[u8]) -> (&[u8], Option<u64>) {
    let sealed = bytes.split_last_chunk::<SEAL_BYTES>();
    let Some((snapshot, seal)) = sealed.filter(|(_, seal)| seal.ends_with(&MAGIC)) else {
        return (bytes, None);
    };
    let [first, second, _, _, hash @ .., _, _, _, _] = *seal;
    let is_comparable = u16::from_le_bytes([first, second]) == STATE_VERSION;
    (snapshot, is_comparable.then(|| u64::from_le_bytes(hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&Engine::new(Limits::default()).snapshot(), &mut bytes).unwrap();
        bytes
    }

    /// Promise: P18.
    #[test]
    fn a_state_that_reads_back_differently_is_refused() {
        let mut bytes = sealed();
        assert!(read(&bytes, Limits::default()).is_ok());
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
        let error = read(&bytes, Limits::default()).unwrap_err();
        assert!(matches!(error, BadState::Hash { .. }), "{error}");
    }

    #[test]
    fn older_checkpoints_and_other_layouts_are_read_without_the_hash() {
        let bytes = sealed();
        let bare = &bytes[..bytes.len() - SEAL_BYTES];
        assert!(read(bare, Limits::default()).is_ok());
        let mut other = bytes.clone();
        let at = bytes.len() - SEAL_BYTES;
        other[at] ^= 0x40;
        other[at + 5] ^= 1;
        assert!(read(&other, Limits::default()).is_ok());
        assert!(read(&bytes[..bytes.len() - 1], Limits::default()).is_err(), "cut short");
    }
}
