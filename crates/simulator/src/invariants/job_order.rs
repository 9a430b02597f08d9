//! The lowest priority first, then the oldest: a reservation is given the first of all jobs that
//! are ready in the tubes it watches, and is not told to wait or go while there is one. Judged
//! only while no other reservation may have taken that job, and no tube is paused.
//!
//! Promise: P5.

use std::collections::BTreeMap;

use model::JobId;

use super::Invariant;
use crate::fact::{ConnId, Fact, JobAnswer, JobAnswered, JobWish, Tube};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobOrder {
    ledger: Ledger,
    /// Reservations without an answer.
    claims: BTreeMap<u32, (ConnId, Vec<Tube>)>,
    /// When a connection last had one on a tube that has ended.
    last: BTreeMap<(Tube, ConnId), u32>,
    /// Until when a tube may be paused, on the wall clock.
    paused: BTreeMap<Tube, u64>,
}

impl JobOrder {
    fn end_claim(&mut self, number: u32) {
        let Some((conn, tubes)) = self.claims.remove(&number) else { return };
        for tube in tubes {
            self.last.insert((tube, conn), self.ledger.now());
        }
    }

    fn end_conn(&mut self, conn: Option<ConnId>) {
        let is_its = |(_, (of, _)): &(&u32, &(ConnId, Vec<Tube>))| conn.is_none_or(|it| it == *of);
        let ended: Vec<u32> =
            self.claims.iter().filter(is_its).map(|(number, _)| *number).collect();
        for number in ended {
            self.end_claim(number);
        }
    }

    /// Nobody else can have taken a job from there since this was asked.
    fn is_alone(&self, tube: Tube, (number, conn): (u32, ConnId)) -> bool {
        let is_other = |(of, tubes): &(ConnId, Vec<Tube>)| *of != conn && tubes.contains(&tube);
        let mut ended = self.last.range((tube, 0)..=(tube, ConnId::MAX));
        !self.claims.values().any(is_other)
            && !ended.any(|((_, of), last)| *of != conn && *last > number)
    }

    /// The first job that was ready all the time.
    fn first_ready(&self, answered: &JobAnswered, watched: &[Tube]) -> Option<(u32, JobId)> {
        let ask = &answered.ask;
        let is_open = |tube: &Tube| {
            watched.contains(tube)
                && self.paused.get(tube).is_none_or(|until| *until < ask.shown_ms)
                && self.is_alone(*tube, (ask.number, ask.conn))
        };
        let ready = self.ledger.all().filter(|(_, known)| {
            known.rest == Rest::Ready && known.since <= ask.number && is_open(&known.tube)
        });
        ready.filter_map(|(id, known)| Some((known.rank?, id))).min()
    }

    fn answered(&self, answered: &JobAnswered) -> Result<(), String> {
        let JobWish::Reserve { watched, .. } = &answered.ask.wish else { return Ok(()) };
        let Some(first) = self.first_ready(answered, watched).filter(|_| !answered.is_stale) else {
            return Ok(());
        };
        let (rank, better) = first;
        match &answered.answer {
            JobAnswer::Reserved(id, _) => {
                let known = self.ledger.get(*id);
                let Some(own) = known.and_then(|known| known.rank) else { return Ok(()) };
                if (own, *id) <= first || known.is_some_and(|known| known.rest == Rest::Unknown) {
                    return Ok(());
                }
                Err(format!("job {id} ({own}) came before job {better} ({rank})"))
            }
            JobAnswer::TimedOut | JobAnswer::DeadlineSoon => {
                Err(format!("{:?} though job {better} ({rank}) is ready", answered.answer))
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::JobAsked(ask) => match &ask.wish {
                JobWish::Reserve { watched, .. } => {
                    self.claims.insert(ask.number, (ask.conn, watched.clone()));
                }
                JobWish::Pause { tube, .. } => {
                    self.paused.insert(*tube, u64::MAX);
                }
                _ => {}
            },
            Fact::JobAnswered(answered) => {
                self.end_claim(answered.ask.number);
                if let (JobWish::Pause { tube, delay_s }, JobAnswer::Yes) =
                    (&answered.ask.wish, &answered.answer)
                {
                    let until = answered.log_ms + u64::from(*delay_s) * 1_000;
                    self.paused.insert(*tube, until);
                }
            }
            Fact::Ended(conn) => self.end_conn(Some(*conn)),
            Fact::Crashed(_) => {
                self.end_conn(None);
                self.paused.clear();
            }
            Fact::SetBack => self.paused.values_mut().for_each(|until| *until = u64::MAX),
            _ => {}
        }
    }
}

impl Invariant for JobOrder {
    fn name(&self) -> &'static str {
        "job_order"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        if let Fact::JobAnswered(answered) = fact {
            self.answered(answered)?;
        }
        self.ledger.hear(fact);
        self.note(fact);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, reserve};

    fn begin() -> (Story<JobOrder>, JobId, JobId) {
        let mut story = Story::new();
        let (one, two) = (story.put(1, 9, 0), story.put(2, 5, 0));
        (story, one, two)
    }

    #[test]
    fn a_later_job_of_a_higher_priority_number_first_is_an_objection() {
        let (mut story, one, two) = begin();
        assert!(story.reserve(1, one).is_err());
        assert_eq!(story.reserve(1, two), Ok(()));
        assert_eq!(story.reserve(1, one), Ok(()));
    }

    #[test]
    fn another_who_waits_or_a_pause_explains_it() {
        let (mut story, one, _) = begin();
        story.ask(2, reserve(0));
        assert_eq!(story.reserve(1, one), Ok(()));
        let (mut story, one, _) = begin();
        story.ask(2, JobWish::Pause { tube: 0, delay_s: 1 });
        assert_eq!(story.reserve(1, one), Ok(()));
    }

    #[test]
    fn to_be_told_that_nothing_is_ready_is_an_objection() {
        let (mut story, ..) = begin();
        assert!(story.did(1, reserve(0), JobAnswer::TimedOut).is_err());
        assert_eq!(story.did(1, reserve(1), JobAnswer::TimedOut), Ok(()));
    }
}
