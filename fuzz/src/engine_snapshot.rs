//! Any bytes as a snapshot: an answer, never a panic, in time and memory that the bytes bound; and
//! a snapshot that was read is the same state when it is written and read again.

use engine::Engine;
use model::{Limits, Lsn, Millis, Stamp};

/// What every snapshot of version 1 begins with; saves the generator from finding it.
const START: &[u8] = b"PTGS\x01\x00";

/// The bytes as they are, or behind the right beginning.
pub fn run(data: &[u8]) {
    let whole;
    let bytes = if data.starts_with(START) {
        data
    } else {
        whole = [START, data].concat();
        &whole
    };
    let Ok(mut engine) = Engine::restore(bytes, Limits::default()) else { return };
    let mut written = Vec::new();
    engine.snapshot().write(&mut written).expect("a Vec takes everything");
    let again = Engine::restore(&written, Limits::default()).expect("own snapshot");
    assert_eq!(again.state_hash(), engine.state_hash());
    let mut live = Vec::new();
    engine.live(Lsn::ZERO..Lsn(u64::MAX), &mut live);
    assert!(engine.usage(Lsn::ZERO..Lsn(u64::MAX)).records >= live.len() as u64);
    engine.recovered(Stamp { now: Millis(1), nonce: 1 });
}
