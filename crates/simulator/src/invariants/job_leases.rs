//! A reservation does not end early: while its time to run lasts and its connection lives, its
//! owner may delete, release, bury and touch the job. Against the server's own clock.
//!
//! Promise: P8.

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered, JobWish};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobLeases {
    ledger: Ledger,
}

impl JobLeases {
    fn not_found(&self, answered: &JobAnswered) -> Result<(), String> {
        let is_owners = matches!(
            answered.ask.wish,
            JobWish::Delete(_) | JobWish::Release { .. } | JobWish::Bury { .. } | JobWish::Touch(_)
        );
        match self.ledger.before(answered).filter(|_| is_owners && !answered.is_stale) {
            Some(Rest::Held(hold))
                if hold.conn == answered.ask.conn && answered.log_ms < hold.until_ms =>
            {
                let left = hold.until_ms - answered.log_ms;
                Err(format!("{:?} is not found {left} ms before its time", answered.ask.wish))
            }
            _ => Ok(()),
        }
    }
}

impl Invariant for JobLeases {
    fn name(&self) -> &'static str {
        "job_leases"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        if let Fact::JobAnswered(answered) = fact
            && answered.answer == JobAnswer::NotFound
        {
            self.not_found(answered)?;
        }
        self.ledger.hear(fact);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Story;

    #[test]
    fn a_reservation_that_ends_early_is_an_objection() {
        let late = |ms: u64| {
            let mut story = Story::<JobLeases>::new();
            let id = story.put(1, 0, 0);
            story.reserve(1, id).unwrap();
            story.now_ms += ms;
            story.did(1, JobWish::Delete(id), JobAnswer::NotFound)
        };
        assert!(late(4_999).is_err());
        assert_eq!(late(5_000), Ok(()));
    }

    #[test]
    fn a_clock_that_was_set_back_says_nothing() {
        let mut story = Story::<JobLeases>::new();
        let id = story.put(1, 0, 0);
        story.reserve(1, id).unwrap();
        story.tell(&Fact::SetBack).unwrap();
        assert_eq!(story.did(1, JobWish::Touch(id), JobAnswer::NotFound), Ok(()));
    }
}
