//! Any bytes as records of the log: recovery must refuse what the engine did not write and never
//! panic or walk for long, nor may what follows: a snapshot, the end of recovery.

use engine::Engine;
use model::{Limits, Lsn, Millis, Stamp};

use crate::source::Source;

/// The numbers of the records there are, see the table in the engine's `record` module.
const KINDS: [u8; 16] = [1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21, 32, 33, 34, 35, 99];

/// A list of records: kind, length, payload.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let mut engine = Engine::new(Limits::default());
    let mut lsn = Lsn::ZERO;
    while !source.is_empty() {
        let kind = source.pick(&KINDS);
        let payload = source.bytes(200);
        let _ = engine::message(payload);
        if engine.replay(lsn, kind, payload).is_err() {
            return;
        }
        lsn = lsn.plus(10 + payload.len() as u64);
    }
    // Records that check out one by one may still make a state that no engine ever had; writing
    // it must work, reading it back need not.
    let mut bytes = Vec::new();
    engine.snapshot().write(&mut bytes).expect("a Vec takes everything");
    drop(Engine::restore(&bytes, Limits::default()));
    engine.recovered(Stamp { now: Millis(1), nonce: 1 });
    let _ = engine.state_hash();
}
