//! A buried job stays buried, through crashes too, until somebody kicks it, deletes it or takes it
//! by its number; and whoever does that finds it.
//!
//! Promise: P1, P7.

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered, JobWish};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobBuried {
    ledger: Ledger,
}

impl JobBuried {
    fn answered(&self, answered: &JobAnswered) -> Result<(), String> {
        let ask = &answered.ask;
        match (&ask.wish, &answered.answer) {
            (JobWish::Reserve { .. }, JobAnswer::Reserved(id, _))
            | (JobWish::PeekReady(_) | JobWish::PeekDelayed(_), JobAnswer::Found(id, _)) => {
                let known = self.ledger.get(*id).filter(|known| ask.number >= known.since);
                let is_buried = known.is_some_and(|it| matches!(it.rest, Rest::Buried { .. }));
                if is_buried && !answered.is_stale {
                    return Err(format!("job {id} is buried, and {:?} found it", ask.wish));
                }
            }
            (
                JobWish::KickJob(id) | JobWish::Delete(id) | JobWish::ReserveJob(id),
                JobAnswer::NotFound,
            ) => {
                if let Some(Rest::Buried { .. }) = self.ledger.before(answered) {
                    return Err(format!("job {id} is buried, and {:?} does not find it", ask.wish));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Invariant for JobBuried {
    fn name(&self) -> &'static str {
        "job_buried"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        if let Fact::JobAnswered(answered) = fact {
            self.answered(answered)?;
        }
        self.ledger.hear(fact);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Crash;
    use crate::story::Story;

    #[test]
    fn a_buried_job_that_is_given_out_is_an_objection() {
        let begin = || {
            let mut story = Story::<JobBuried>::new();
            let id = story.put(1, 0, 0);
            story.bury(1, id).unwrap();
            (story, id)
        };
        let (mut story, id) = begin();
        assert!(story.reserve(2, id).is_err());
        let (mut story, id) = begin();
        story.tell(&Fact::Crashed(Crash::Power)).unwrap();
        assert!(story.reserve(2, id).is_err());
        for wish in [JobWish::Kick { tube: 0, most: 1 }, JobWish::KickJob(id)] {
            let (mut story, id) = begin();
            story.ask(3, wish);
            assert_eq!(story.reserve(2, id), Ok(()));
        }
    }

    #[test]
    fn a_buried_job_that_is_not_found_is_an_objection() {
        let mut story = Story::<JobBuried>::new();
        let id = story.put(1, 0, 0);
        story.bury(1, id).unwrap();
        assert!(story.did(2, JobWish::KickJob(id), JobAnswer::NotFound).is_err());
    }
}
