//! [`Digger`]: works off the jobs of one tube and perhaps others: reserves with and without a
//! timeout, deletes, releases, buries, touches, forgets, leaves while it holds some.

use super::Role;
use super::putter::{delay, rank};
use crate::fact::{JobAnswer, JobAnswered, JobWish, Micros, Tube};
use crate::io::{Io, Stage};
use crate::speech::Door;
use model::JobId;

/// How it treats jobs, in percent of its decisions, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Ways {
    pub(crate) releases: u64,
    pub(crate) buries: u64,
    pub(crate) touches: u64,
    /// Lets a job lie until its time to run is over.
    pub(crate) forgets: u64,
    pub(crate) leaves: u64,
    /// Watches and ignores other tubes.
    pub(crate) wanders: u64,
    /// Reserves without a timeout.
    pub(crate) waits: u64,
    /// Most jobs that it holds.
    pub(crate) hands: usize,
    pub(crate) pause: Micros,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Digger {
    tube: Tube,
    also: Vec<Tube>,
    ways: Ways,
    /// As the server confirmed it.
    watched: Vec<Tube>,
    /// Answers that are missing before it reserves again.
    open: usize,
    reserves: usize,
    held: Vec<JobId>,
}

impl Digger {
    pub(crate) fn new(tube: Tube, also: Vec<Tube>, ways: Ways) -> Self {
        let (watched, held) = (Vec::new(), Vec::new());
        Self { tube, also, ways, watched, open: 0, reserves: 0, held }
    }

    fn ask(&mut self, io: &mut Io<'_>, wish: JobWish) {
        self.open += 1;
        io.ask(wish);
    }

    fn reserve(&mut self, io: &mut Io<'_>) {
        let is_patient = io.stage == Stage::Busy && io.dice.chance(self.ways.waits);
        let timeout_s = if is_patient { None } else { u32::try_from(io.dice.below(3)).ok() };
        let watched = self.watched.clone();
        self.reserves += 1;
        io.ask(JobWish::Reserve { timeout_s, watched, is_gleaned: false });
    }

    /// Does something with one of its jobs.
    fn decide(&mut self, io: &mut Io<'_>) {
        let at = usize::try_from(io.dice.below(self.held.len() as u64)).unwrap_or(0);
        let Some(id) = self.held.get(at).copied() else { return };
        let is_calm = io.stage != Stage::Busy;
        let Ways { releases, buries, touches, forgets, .. } = self.ways;
        let choice = if is_calm { u64::MAX } else { io.dice.below(100) };
        if choice < touches {
            self.ask(io, JobWish::Touch(id));
            return;
        }
        if choice < touches + forgets {
            return;
        }
        self.held.swap_remove(at);
        let wish = if choice < touches + forgets + releases {
            let delay_s = if io.dice.chance(40) { delay(io) } else { 0 };
            JobWish::Release { id, rank: rank(io), delay_s }
        } else if choice < touches + forgets + releases + buries {
            JobWish::Bury { id, rank: rank(io) }
        } else {
            JobWish::Delete(id)
        };
        self.ask(io, wish);
    }

    fn wander(&mut self, io: &mut Io<'_>) {
        let others = self.also.clone();
        let Some(tube) = io.dice.pick(&others).copied() else { return };
        let wish =
            if self.watched.contains(&tube) { JobWish::Ignore(tube) } else { JobWish::Watch(tube) };
        self.ask(io, wish);
    }

    fn work(&mut self, io: &mut Io<'_>) {
        if self.reserves > 0 {
            return;
        }
        self.decide(io);
        if io.stage == Stage::Busy && io.dice.chance(self.ways.leaves) {
            *io.wants_close = true;
            return;
        }
        if io.stage == Stage::Busy && io.dice.chance(self.ways.wanders) {
            self.wander(io);
        } else if self.open == 0 && !self.watched.contains(&self.tube) {
            self.ask(io, JobWish::Watch(self.tube));
        } else if self.open == 0 && self.held.len() < self.ways.hands {
            self.reserve(io);
        }
    }
}

impl Role for Digger {
    fn door(&self) -> Door {
        Door::Beanstalk
    }

    fn opened(&mut self, io: &mut Io<'_>) {
        self.watched.clear();
        self.held.clear();
        (self.open, self.reserves) = (0, 0);
        self.ask(io, JobWish::Watch(self.tube));
        io.wake_in(1_000);
    }

    fn on_answer(&mut self, io: &mut Io<'_>, answered: &JobAnswered) {
        let wish = &answered.ask.wish;
        if let JobWish::Reserve { .. } = wish {
            self.reserves = self.reserves.saturating_sub(1);
        } else {
            self.open = self.open.saturating_sub(1);
        }
        match (wish, &answered.answer) {
            (JobWish::Watch(tube), JobAnswer::Yes) => self.watched.push(*tube),
            (JobWish::Ignore(tube), JobAnswer::Yes) => self.watched.retain(|one| one != tube),
            (JobWish::Reserve { .. }, JobAnswer::Reserved(id, _)) => {
                self.held.push(*id);
                io.book.ids.push(*id);
            }
            // Its time to run was over.
            (JobWish::Touch(id), JobAnswer::NotFound) => self.held.retain(|one| one != id),
            // Not now: it still has the job.
            (
                JobWish::Delete(id) | JobWish::Release { id, .. } | JobWish::Bury { id, .. },
                JobAnswer::No(_),
            ) => self.held.push(*id),
            _ => {}
        }
        io.wake_in(1_000);
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        match io.stage {
            Stage::Busy => {
                self.work(io);
                let pause = io.dice.around(self.ways.pause);
                io.wake_in(pause);
            }
            Stage::Calm => {
                self.work(io);
                io.wake_in(10_000);
            }
            Stage::Leaving => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Planting | Stage::Gleaning | Stage::Done => {}
        }
    }

    fn lost(&mut self, _io: &mut Io<'_>) {
        self.held.clear();
    }
}
