//! [`Sower`]: puts inputs into the workers' queue. Whoever works on them is `hand`.

use std::collections::BTreeMap;

use super::Role;
use crate::fact::{Fact, MessageId, Micros, WorkFact};
use crate::io::{Io, Stage};
use crate::speech::Door;

/// Most puts without an answer.
const OPEN_MAX: usize = 40;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Sower {
    pause: Micros,
    burst: u64,
    open: BTreeMap<u64, MessageId>,
}

impl Sower {
    pub(crate) fn new(pause: Micros, burst: u64) -> Self {
        Self { pause, burst, open: BTreeMap::new() }
    }
}

impl Role for Sower {
    fn door(&self) -> Door {
        Door::Work
    }

    fn opened(&mut self, io: &mut Io<'_>) {
        self.open.clear();
        io.wake_in(self.pause);
    }

    fn on_words(&mut self, io: &mut Io<'_>, number: u64, words: &[&str]) {
        if let (Some(input), ["yes"]) = (self.open.remove(&number), words) {
            io.tell(Fact::Work(WorkFact::PutDone(input)));
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        match io.stage {
            Stage::Busy => {
                for _ in 0..=io.dice.below(self.burst) {
                    if self.open.len() < OPEN_MAX {
                        let input = io.new_job();
                        let bytes = 20 + io.dice.around(300);
                        io.tell(Fact::Work(WorkFact::Put(input)));
                        let number = io.ask_work(&format!("put {input} {bytes}"));
                        self.open.insert(number, input);
                    }
                }
                // Also what keeps a silent line alive.
                let pause = io.dice.around(self.pause);
                io.wake_in(pause);
            }
            Stage::Calm | Stage::Leaving => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Planting | Stage::Gleaning | Stage::Done => {}
        }
    }
}
