//! A delayed job is not given out before its time, unless somebody kicks it or takes it by its
//! number. Against the server's own clock.
//!
//! Promise: P8.

use model::JobId;

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered, JobWish};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobDelays {
    ledger: Ledger,
}

impl JobDelays {
    fn reserved(&self, id: JobId, answered: &JobAnswered) -> Result<(), String> {
        let is_picked = matches!(answered.ask.wish, JobWish::ReserveJob(_));
        let Some(known) = self.ledger.get(id).filter(|_| !is_picked && !answered.is_stale) else {
            return Ok(());
        };
        let Rest::Delayed(until_ms) = known.rest else { return Ok(()) };
        // The answer may have waited, and the reservation be older than the delay.
        let end = self.ledger.lease_end(&answered.ask, known);
        let may_be_old = answered.ask.number < known.since && answered.log_ms >= end;
        if may_be_old || answered.log_ms >= until_ms {
            return Ok(());
        }
        let early = until_ms - answered.log_ms;
        Err(format!("job {id} was given out {early} ms before its delay was over"))
    }
}

impl Invariant for JobDelays {
    fn name(&self) -> &'static str {
        "job_delays"
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
    use crate::story::Story;

    #[test]
    fn a_job_before_its_time_is_an_objection() {
        let after = |ms: u64, kicks: bool| {
            let mut story = Story::<JobDelays>::new();
            let id = story.put(1, 0, 2);
            if kicks {
                story.ask(3, JobWish::Kick { tube: 0, most: 1 });
            }
            story.now_ms += ms;
            story.reserve(1, id)
        };
        assert!(after(1_999, false).is_err());
        assert_eq!(after(2_000, false), Ok(()));
        assert_eq!(after(0, true), Ok(()));
    }

    #[test]
    fn a_released_job_waits_too() {
        let mut story = Story::<JobDelays>::new();
        let id = story.put(1, 0, 0);
        story.reserve(1, id).unwrap();
        let release = JobWish::Release { id, rank: 0, delay_s: 1 };
        story.did(1, release, JobAnswer::Yes).unwrap();
        story.now_ms += 999;
        assert!(story.reserve(2, id).is_err());
    }
}
