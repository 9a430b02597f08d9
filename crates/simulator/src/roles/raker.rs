//! [`Raker`]: reads back what is left in the tubes when everybody else has gone: first what is
//! ready, then, kicked, what is buried or delayed; all of it is deleted.

use super::Role;
use crate::fact::{JobAnswer, JobAnswered, JobWish, Tube};
use crate::io::{Io, Stage};
use crate::speech::Door;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Raker {
    tube: Tube,
    has_kicked: bool,
}

impl Raker {
    fn begin(&mut self, io: &mut Io<'_>) {
        self.has_kicked = false;
        if usize::from(self.tube) >= io.garden.tubes.len() {
            *io.wants_close = true;
            *io.is_done = true;
            return;
        }
        io.ask(JobWish::Use(self.tube));
        io.ask(JobWish::Watch(self.tube));
    }

    fn reserve(&self, io: &mut Io<'_>) {
        let watched = vec![self.tube];
        let is_gleaned = !self.has_kicked;
        io.ask(JobWish::Reserve { timeout_s: Some(0), watched, is_gleaned });
    }
}

impl Role for Raker {
    fn door(&self) -> Door {
        Door::Beanstalk
    }

    fn opened(&mut self, io: &mut Io<'_>) {
        self.tube = 0;
        self.begin(io);
    }

    fn on_answer(&mut self, io: &mut Io<'_>, answered: &JobAnswered) {
        match (&answered.ask.wish, &answered.answer) {
            (JobWish::Watch(_) | JobWish::Delete(_), _) => self.reserve(io),
            (JobWish::Reserve { .. }, JobAnswer::Reserved(id, _)) => io.ask(JobWish::Delete(*id)),
            (JobWish::Reserve { .. }, _) => io.ask(JobWish::Kick { tube: self.tube, most: 1000 }),
            (JobWish::Kick { .. }, JobAnswer::Kicked(0)) => {
                io.ask(JobWish::Ignore(self.tube));
                self.tube += 1;
                self.begin(io);
            }
            (JobWish::Kick { .. }, _) => {
                self.has_kicked = true;
                self.reserve(io);
            }
            _ => {}
        }
    }

    fn on_turn(&mut self, _io: &mut Io<'_>) {}

    fn begins(&self) -> Stage {
        Stage::Gleaning
    }
}
