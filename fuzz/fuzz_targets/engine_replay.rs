//! Any bytes as a log record and as a snapshot: recovery must refuse what the engine did not
//! write and never panic; stored messages of any shape must be read without one.

#![no_main]

use engine::Engine;
use libfuzzer_sys::fuzz_target;
use model::{Limits, Lsn};

fuzz_target!(|data: &[u8]| {
    let Some((kind, payload)) = data.split_first() else { return };
    let _ = engine::message(payload);
    let mut engine = Engine::new(Limits::default());
    // The same record twice: the second meets a state that the first may have changed.
    for lsn in [0, 100] {
        if engine.replay(Lsn(lsn), *kind, payload).is_err() {
            break;
        }
    }
    let _ = Engine::restore(data, Limits::default());
});
