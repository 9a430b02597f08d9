//! [`Keeper`]: looks after a tube: peeks, describes, kicks, pauses, and takes single jobs by their
//! number, whoever put them.

use super::Role;
use crate::fact::{JobAnswer, JobAnswered, JobWish, Micros, Tube};
use crate::io::{Io, Stage};
use crate::speech::Door;
use model::JobId;

/// Jobs that it remembers to work with, of all that were ever heard of.
const RECENT: usize = 60;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Keeper {
    tube: Tube,
    pause: Micros,
    /// It only looks.
    is_quiet: bool,
    is_using: bool,
    open: usize,
}

impl Keeper {
    pub(crate) fn new(tube: Tube, pause: Micros, is_quiet: bool) -> Self {
        Self { tube, pause, is_quiet, is_using: false, open: 0 }
    }

    fn some_job(io: &mut Io<'_>) -> JobId {
        let from = io.book.ids.len().saturating_sub(RECENT);
        let recent = io.book.ids.get(from..).unwrap_or_default();
        io.dice.pick(recent).copied().unwrap_or(JobId(1))
    }

    fn look(&self, io: &mut Io<'_>) -> JobWish {
        let (tube, id) = (self.tube, Self::some_job(io));
        match io.dice.below(7) {
            0 => JobWish::Peek(id),
            1 => JobWish::PeekReady(tube),
            2 => JobWish::PeekDelayed(tube),
            3 => JobWish::PeekBuried(tube),
            4 => JobWish::StatsTube(tube),
            _ => JobWish::StatsJob(id),
        }
    }

    fn act(&self, io: &mut Io<'_>) -> JobWish {
        let (tube, id) = (self.tube, Self::some_job(io));
        match io.dice.below(10) {
            0..=3 => {
                let most = u32::try_from(1 + io.dice.below(5)).unwrap_or(1);
                JobWish::Kick { tube, most }
            }
            4..=5 => JobWish::KickJob(id),
            6 => JobWish::Delete(id),
            7..=8 => JobWish::ReserveJob(id),
            _ => JobWish::Pause { tube, delay_s: u32::try_from(1 + io.dice.below(3)).unwrap_or(1) },
        }
    }

    /// What to do with a job that was taken by its number; at times nothing.
    fn finish(io: &mut Io<'_>, id: JobId) -> Option<JobWish> {
        Some(match io.dice.below(5) {
            0 => JobWish::Delete(id),
            1 => JobWish::Bury { id, rank: super::putter::rank(io) },
            2 => {
                let delay_s = super::putter::delay(io);
                JobWish::Release { id, rank: super::putter::rank(io), delay_s }
            }
            3 => JobWish::Release { id, rank: super::putter::rank(io), delay_s: 0 },
            _ => return None,
        })
    }
}

impl Role for Keeper {
    fn door(&self) -> Door {
        Door::Beanstalk
    }

    fn opened(&mut self, io: &mut Io<'_>) {
        (self.is_using, self.open) = (false, 1);
        io.ask(JobWish::Use(self.tube));
        io.wake_in(self.pause);
    }

    fn on_answer(&mut self, io: &mut Io<'_>, answered: &JobAnswered) {
        self.open = self.open.saturating_sub(1);
        match (&answered.ask.wish, &answered.answer) {
            (JobWish::Use(_), JobAnswer::Yes) => self.is_using = true,
            (JobWish::Use(_), _) => *io.wants_close = true,
            (JobWish::ReserveJob(_), JobAnswer::Reserved(id, _)) => {
                if let Some(wish) = Self::finish(io, *id) {
                    self.open += 1;
                    io.ask(wish);
                }
            }
            _ => {}
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        match io.stage {
            Stage::Busy => {
                if self.is_using && self.open < 3 {
                    let looks = self.is_quiet || io.dice.chance(50);
                    let wish = if looks { self.look(io) } else { self.act(io) };
                    self.open += 1;
                    io.ask(wish);
                }
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
