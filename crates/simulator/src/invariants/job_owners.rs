//! A reserved job is given to nobody else while its time to run lasts and its owner's connection
//! and the server live.
//!
//! An answer may have waited: two clients may hear of their reservations in the wrong order. So it
//! is an objection only if neither reservation can have been over when the other was made.
//!
//! Promise: P7.

use model::JobId;

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobOwners {
    ledger: Ledger,
}

impl JobOwners {
    fn reserved(&self, id: JobId, answered: &JobAnswered) -> Result<(), String> {
        let Some(known) = self.ledger.get(id).filter(|_| !answered.is_stale) else { return Ok(()) };
        let Rest::Held(hold) = known.rest else { return Ok(()) };
        let is_second = answered.log_ms >= hold.until_ms;
        let was_asked_before = answered.ask.number < known.since;
        let end = self.ledger.lease_end(&answered.ask, known);
        let is_first = was_asked_before && hold.got_ms >= end && hold.conn != answered.ask.conn;
        if is_first || is_second {
            return Ok(());
        }
        Err(format!(
            "job {id} was given to connection {} while connection {} has it",
            answered.ask.conn, hold.conn
        ))
    }
}

impl Invariant for JobOwners {
    fn name(&self) -> &'static str {
        "job_owners"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        if let Fact::JobAnswered(answered) = fact
            && let JobAnswer::Reserved(id, _) = answered.answer
        {
            self.reserved(id, answered)?;
        }
        self.ledger.hear(fact);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Crash, JobWish};
    use crate::story::Story;

    #[test]
    fn two_owners_of_a_job_are_an_objection() {
        let begin = || {
            let mut story = Story::<JobOwners>::new();
            let id = story.put(1, 0, 0);
            story.reserve(1, id).unwrap();
            (story, id)
        };
        let (mut story, id) = begin();
        story.now_ms += 4_999;
        assert!(story.reserve(2, id).is_err());
        let (mut story, id) = begin();
        story.now_ms += 5_000;
        assert_eq!(story.reserve(2, id), Ok(()), "its time was over");
        for way in [Fact::Ended(1), Fact::Crashed(Crash::Kill)] {
            let (mut story, id) = begin();
            story.tell(&way).unwrap();
            assert_eq!(story.reserve(2, id), Ok(()));
        }
        let (mut story, id) = begin();
        story.ask(1, JobWish::Release { id, rank: 0, delay_s: 0 });
        assert_eq!(story.reserve(2, id), Ok(()));
    }

    #[test]
    fn a_renewed_reservation_lasts_longer() {
        let mut story = Story::<JobOwners>::new();
        let id = story.put(1, 0, 0);
        story.reserve(1, id).unwrap();
        story.now_ms += 3_000;
        story.did(1, JobWish::Touch(id), JobAnswer::Yes).unwrap();
        story.now_ms += 4_000;
        assert!(story.reserve(2, id).is_err());
    }
}
