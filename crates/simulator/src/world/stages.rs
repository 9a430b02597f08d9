//! The course of a run: planting, work and faults, calm, farewell, reading back.
//!
//! Not here: what goes wrong meanwhile (`faults`). Called by `world`.

use crate::fact::{Fact, Micros};
use crate::io::Stage;
use crate::plan::SECOND;

use super::{Event, World};

/// Longest that anything may still be under way: times to live and delays.
const QUIET: Micros = 8 * SECOND;
/// Within this time everybody has noticed which connections are dead.
const NOTICED: Micros = 30 * SECOND;
/// Everything must be done within this time once faults have stopped.
const CALM_MAX: Micros = 600 * SECOND;

impl World {
    /// Whether faults may happen.
    pub(super) fn stage_is_stormy(&self) -> bool {
        self.stage <= Stage::Busy && self.now < self.weather.busy
    }

    /// Looks whether this stage is over; comes back soon when it is not.
    pub(super) fn next_stage(&mut self) {
        let is_late = self.now > self.stage_since + CALM_MAX;
        let is_over = match self.stage {
            Stage::Planting => {
                self.heal();
                self.begun(Stage::Planting)
            }
            Stage::Busy => true,
            Stage::Calm => {
                self.now > self.stage_since + NOTICED && self.now > self.last_delivery + QUIET
            }
            Stage::Leaving => self.clients.iter().all(|client| !client.is_connected()),
            Stage::Gleaning => self.begun(Stage::Gleaning),
            Stage::Done => return,
        };
        if is_over {
            self.enter_next();
        } else if is_late {
            self.facts.push(Fact::Stuck(format!("the stage {:?} does not end", self.stage)));
        }
        self.at(self.now + SECOND / 10, Event::Stage);
    }

    /// All clients of a stage have done their work.
    fn begun(&self, stage: Stage) -> bool {
        self.clients.iter().filter(|client| client.begins() == stage).all(|client| client.is_done)
    }

    /// As soon as the queues are there, work begins.
    pub(super) fn watch_planting(&mut self) {
        if self.stage == Stage::Planting && self.begun(Stage::Planting) {
            self.enter(Stage::Busy);
        }
    }

    fn enter_next(&mut self) {
        let next = match self.stage {
            Stage::Planting => Stage::Busy,
            Stage::Busy => Stage::Calm,
            Stage::Calm => Stage::Leaving,
            Stage::Leaving => Stage::Gleaning,
            Stage::Gleaning | Stage::Done => Stage::Done,
        };
        self.enter(next);
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.stage_since = self.now;
        self.trace.note(self.now, &stage);
        match stage {
            Stage::Calm => {
                self.heal();
                self.facts.push(Fact::Healed);
            }
            Stage::Done => self.facts.push(Fact::End),
            Stage::Planting | Stage::Busy | Stage::Leaving | Stage::Gleaning => {}
        }
        for index in 0..self.clients.len() {
            self.begin_client(index);
        }
        self.stir();
    }
}
