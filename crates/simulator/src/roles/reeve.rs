//! [`Reeve`]: reads back what workers left when everybody else has gone: the results, the inputs
//! that nobody finished, what follows the finished ones.

use super::Role;
use crate::fact::{Fact, WorkFact};
use crate::hatch::{INPUTS, NEXTS};
use crate::io::{Io, Stage};
use crate::speech::Door;

/// What it is reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chapter {
    #[default]
    Results,
    Kicking,
    Inputs,
    Nexts,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Reeve {
    chapter: Chapter,
    last_key: String,
}

impl Reeve {
    fn ask(&self, io: &mut Io<'_>) {
        let text = match self.chapter {
            Chapter::Results => format!("list {}", self.last_key),
            Chapter::Kicking => format!("kick {INPUTS}"),
            Chapter::Inputs => format!("take {INPUTS} 50 3600 0"),
            Chapter::Nexts => format!("take {NEXTS} 50 3600 0"),
        };
        io.ask_work(&text);
    }

    fn garbled(io: &mut Io<'_>, what: &str) {
        io.tell(Fact::Garbled { place: 0, detail: format!("of a worker: {what}") });
    }
}

impl Role for Reeve {
    fn door(&self) -> Door {
        Door::Work
    }

    fn opened(&mut self, io: &mut Io<'_>) {
        (self.chapter, self.last_key) = (Chapter::Results, String::new());
        self.ask(io);
    }

    fn on_words(&mut self, io: &mut Io<'_>, _number: u64, words: &[&str]) {
        match words {
            ["result", key, message] => {
                (*key).clone_into(&mut self.last_key);
                let input = key.strip_prefix('r').and_then(|input| input.parse().ok());
                match (input, message.parse()) {
                    (Some(input), Ok(result)) => {
                        io.tell(Fact::Work(WorkFact::Result { input, result }));
                    }
                    _ => Self::garbled(io, message),
                }
                return;
            }
            ["taken", _, _, message] => {
                match message.parse() {
                    Ok(message) if self.chapter == Chapter::Inputs => {
                        io.tell(Fact::Work(WorkFact::LeftInput(message)));
                    }
                    Ok(message) => io.tell(Fact::Work(WorkFact::LeftNext(message))),
                    Err(_) => Self::garbled(io, message),
                }
                return;
            }
            ["listed", "0"] => self.chapter = Chapter::Kicking,
            ["kicked", "0"] => self.chapter = Chapter::Inputs,
            ["took", "0"] if self.chapter == Chapter::Inputs => self.chapter = Chapter::Nexts,
            ["took", "0"] => {
                io.tell(Fact::Work(WorkFact::ReadBack));
                *io.wants_close = true;
                *io.is_done = true;
                return;
            }
            _ => {}
        }
        self.ask(io);
    }

    fn on_turn(&mut self, _io: &mut Io<'_>) {}

    fn begins(&self) -> Stage {
        Stage::Gleaning
    }
}
