//! [`Putter`]: puts jobs into one tube: priorities, delays, times to run.
//!
//! Not here: whoever works them off (`digger`). Planned by `plan`.

use super::Role;
use crate::fact::{JobAnswer, JobAnswered, JobWish, Micros, Tube};
use crate::io::{Io, Stage};
use crate::speech::Door;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Putter {
    tube: Tube,
    pause: Micros,
    burst: u64,
    /// One priority, no delays.
    is_plain: bool,
    is_using: bool,
    /// Puts without an answer.
    open: usize,
}

/// Priorities on both sides of what is urgent, those of AMQP and between them, the last.
const RANKS: [u32; 8] = [0, 1, 1023, 1024, 65_280, 65_300, 65_536, u32::MAX];

impl Putter {
    pub(crate) fn new(tube: Tube, pause: Micros, burst: u64, is_plain: bool) -> Self {
        Self { tube, pause, burst, is_plain, is_using: false, open: 0 }
    }

    fn put(&mut self, io: &mut Io<'_>) {
        let is_delayed = !self.is_plain && io.dice.chance(25);
        let rank = if self.is_plain { 1024 } else { rank(io) };
        let delay_s = if is_delayed { delay(io) } else { 0 };
        let ttr_s = u32::try_from(io.dice.below(5)).unwrap_or(1);
        let (job, tube) = (io.new_job(), self.tube);
        io.ask(JobWish::Put { job, tube, rank, delay_s, ttr_s });
        self.open += 1;
    }
}

/// One of the priorities.
pub(super) fn rank(io: &mut Io<'_>) -> u32 {
    io.dice.pick(&RANKS).copied().unwrap_or(0)
}

/// A short delay in seconds.
pub(super) fn delay(io: &mut Io<'_>) -> u32 {
    u32::try_from(1 + io.dice.below(4)).unwrap_or(1)
}

impl Role for Putter {
    fn door(&self) -> Door {
        Door::Beanstalk
    }

    fn opened(&mut self, io: &mut Io<'_>) {
        (self.is_using, self.open) = (false, 0);
        io.ask(JobWish::Use(self.tube));
        io.wake_in(self.pause);
    }

    fn on_answer(&mut self, io: &mut Io<'_>, answered: &JobAnswered) {
        match (&answered.ask.wish, &answered.answer) {
            (JobWish::Use(_), JobAnswer::Yes) => self.is_using = true,
            (JobWish::Use(_), _) => *io.wants_close = true,
            (JobWish::Put { .. }, JobAnswer::Inserted(id)) => {
                self.open = self.open.saturating_sub(1);
                io.book.ids.push(*id);
            }
            _ => self.open = self.open.saturating_sub(1),
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        match io.stage {
            Stage::Busy => {
                let count = 1 + io.dice.below(self.burst);
                for _ in 0..count {
                    if self.is_using && self.open < 40 {
                        self.put(io);
                    }
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
