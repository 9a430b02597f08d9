//! [`Hand`]: a worker without a connection of its own: takes inputs under a lease, renews, completes
//! each in one commit, fails some, gives some back, forgets some, and comes back with late results.

use std::collections::BTreeMap;

use super::Role;
use crate::fact::{Fact, MessageId, Micros, WorkFact};
use crate::hatch::INPUTS;
use crate::io::{Io, Stage};
use crate::speech::Door;

/// How it treats inputs, in percent of its decisions, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Skill {
    pub(crate) fails: u64,
    pub(crate) releases: u64,
    /// Lets an input lie and may come back to it when its lease is long over.
    pub(crate) forgets: u64,
    pub(crate) renews: u64,
    pub(crate) leaves: u64,
    /// Most inputs that it holds.
    pub(crate) hands: usize,
    pub(crate) lease_s: u64,
    pub(crate) pause: Micros,
}

/// An input in its hands, or so it believes.
#[derive(Clone, Debug)]
struct Grip {
    job: String,
    attempt: String,
    input: MessageId,
}

/// What was asked and not answered.
#[derive(Clone, Debug)]
enum Open {
    /// After so many asks of the whole run.
    Take(u32),
    Renew,
    Done(MessageId, MessageId),
    Back,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Hand {
    skill: Skill,
    held: Vec<Grip>,
    /// Forgotten ones.
    late: Vec<Grip>,
    open: BTreeMap<u64, Open>,
}

impl Hand {
    pub(crate) fn new(skill: Skill) -> Self {
        Self { skill, held: Vec::new(), late: Vec::new(), open: BTreeMap::new() }
    }

    fn take(&mut self, io: &mut Io<'_>) {
        let room = self.skill.hands.saturating_sub(self.held.len());
        if room == 0 || self.open.values().any(|open| matches!(open, Open::Take(_))) {
            return;
        }
        let asked = io.book.asks;
        let waits = u8::from(io.stage == Stage::Busy && io.dice.chance(40));
        let text = format!("take {INPUTS} {room} {} {waits}", self.skill.lease_s);
        let number = io.ask_work(&text);
        self.open.insert(number, Open::Take(asked));
    }

    fn complete(&mut self, io: &mut Io<'_>, grip: &Grip) {
        let (result, next) = (io.new_job(), io.new_job());
        let input = grip.input;
        let bytes = 20 + io.dice.around(400);
        io.tell(Fact::Work(WorkFact::Step { input, result, next }));
        let text = format!("done {} {input} {result} {next} {bytes}", grip.job);
        let number = io.ask_work(&text);
        self.open.insert(number, Open::Done(input, result));
    }

    fn renew(&mut self, io: &mut Io<'_>) {
        let all = self.held.iter().map(|grip| format!(" {}:{}", grip.job, grip.attempt));
        let text = format!("renew {}{}", self.skill.lease_s, all.collect::<String>());
        let number = io.ask_work(&text);
        self.open.insert(number, Open::Renew);
    }

    fn give_back(&mut self, io: &mut Io<'_>, grip: &Grip, fails: bool) {
        let delay_s = if io.dice.chance(30) { 1 + io.dice.below(3) } else { 0 };
        let Grip { job, attempt, .. } = grip;
        let text = format!("back {job} {attempt} {delay_s} {}", u8::from(fails));
        let number = io.ask_work(&text);
        self.open.insert(number, Open::Back);
    }

    /// Does something with one of its inputs.
    fn decide(&mut self, io: &mut Io<'_>) {
        if !self.late.is_empty() && io.dice.chance(5) {
            let grip = self.late.swap_remove(0);
            self.complete(io, &grip);
        }
        let Skill { fails, releases, forgets, renews, .. } = self.skill;
        let choice = if io.stage == Stage::Busy { io.dice.below(100) } else { u64::MAX };
        if choice < renews {
            self.renew(io);
            return;
        }
        let at = usize::try_from(io.dice.below(self.held.len().max(1) as u64)).unwrap_or(0);
        if at >= self.held.len() {
            return;
        }
        let grip = self.held.swap_remove(at);
        if choice < renews + forgets {
            self.late.push(grip);
        } else if choice < renews + forgets + fails {
            self.give_back(io, &grip, true);
        } else if choice < renews + forgets + fails + releases {
            self.give_back(io, &grip, false);
        } else {
            self.complete(io, &grip);
        }
    }

    fn answered(&mut self, io: &mut Io<'_>, open: &Open, words: &[&str]) {
        match (open, words) {
            (Open::Done(input, result), ["stored"]) => {
                let (input, result, asked) = (*input, *result, io.book.asks);
                io.tell(Fact::Work(WorkFact::Stored { input, result, asked }));
            }
            (Open::Done(input, _), ["kept"]) => io.tell(Fact::Work(WorkFact::KeptFirst(*input))),
            (Open::Done(input, _), ["gone"]) => {
                io.tell(Fact::Work(WorkFact::FinishedBefore(*input)));
            }
            (Open::Renew, ["held", all @ ..]) => {
                let has =
                    |grip: &Grip| all.iter().any(|text| text.split(':').next() == Some(&*grip.job));
                let held = std::mem::take(&mut self.held);
                let (held, lost): (Vec<_>, Vec<_>) = held.into_iter().partition(has);
                self.held = held;
                // The attempt may be another one now.
                for text in all {
                    let Some((job, attempt)) = text.split_once(':') else { continue };
                    let grip = self.held.iter_mut().find(|grip| grip.job == job);
                    if let Some(grip) = grip {
                        attempt.clone_into(&mut grip.attempt);
                    }
                }
                self.late.extend(lost);
            }
            _ => {}
        }
    }
}

impl Role for Hand {
    fn door(&self) -> Door {
        Door::Work
    }

    fn opened(&mut self, io: &mut Io<'_>) {
        self.open.clear();
        if !self.held.is_empty() {
            self.renew(io);
        }
        io.wake_in(1_000);
    }

    fn on_words(&mut self, io: &mut Io<'_>, number: u64, words: &[&str]) {
        if let (Some(Open::Take(asked)), ["taken", job, attempt, input]) =
            (self.open.get(&number), words)
        {
            let Ok(input) = input.parse() else {
                io.tell(Fact::Garbled { place: 0, detail: format!("an input: {input}") });
                return;
            };
            io.tell(Fact::Work(WorkFact::Taken { input, asked: *asked }));
            let (job, attempt) = ((*job).to_owned(), (*attempt).to_owned());
            self.held.push(Grip { job, attempt, input });
            return;
        }
        if let Some(open) = self.open.remove(&number) {
            self.answered(io, &open, words);
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        match io.stage {
            Stage::Busy => {
                self.decide(io);
                self.take(io);
                if self.held.is_empty() && io.dice.chance(20) {
                    io.ask_work("enough");
                }
                if io.dice.chance(self.skill.leaves) {
                    *io.wants_close = true;
                }
                let pause = io.dice.around(self.skill.pause);
                io.wake_in(pause);
            }
            Stage::Calm => {
                self.decide(io);
                io.ask_work("enough");
                self.take(io);
                io.wake_in(50_000);
            }
            Stage::Leaving => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Planting | Stage::Gleaning | Stage::Done => {}
        }
    }

    fn lost(&mut self, _io: &mut Io<'_>) {
        self.open.clear();
    }
}
