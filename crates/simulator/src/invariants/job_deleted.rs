//! What was deleted is gone: once the server has said so, nobody who asks is given or shown the
//! job, and nobody deletes it again. An id names one job for ever.
//!
//! Promise: P3, P4.

use std::collections::BTreeMap;

use model::JobId;

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered, JobWish, MessageId};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobDeleted {
    ledger: Ledger,
    names: BTreeMap<JobId, MessageId>,
}

impl JobDeleted {
    fn named(&mut self, id: JobId, job: MessageId) -> Result<(), String> {
        let first = *self.names.entry(id).or_insert(job);
        if first == job {
            Ok(())
        } else {
            Err(format!("{id} is the number of job {first} and of job {job}"))
        }
    }

    fn answered(&mut self, answered: &JobAnswered) -> Result<(), String> {
        let shown = match (&answered.ask.wish, &answered.answer) {
            (JobWish::Put { job, .. }, JobAnswer::Inserted(id)) => {
                return self.named(*id, *job);
            }
            (_, JobAnswer::Reserved(id, job) | JobAnswer::Found(id, job)) => {
                self.named(*id, *job)?;
                Some(*id)
            }
            (JobWish::Delete(id), JobAnswer::Yes) => {
                let known = self.ledger.get(*id);
                if known.is_some_and(|known| matches!(known.rest, Rest::Gone(_))) {
                    return Err(format!("job {id} was deleted twice"));
                }
                None
            }
            (wish, JobAnswer::Yes | JobAnswer::Described { .. }) => wish.id(),
            _ => None,
        };
        let Some((id, known)) = shown.and_then(|id| Some((id, self.ledger.get(id)?))) else {
            return Ok(());
        };
        match known.rest {
            Rest::Gone(by) if answered.ask.number >= by => {
                Err(format!("job {id} was deleted and is there"))
            }
            _ => Ok(()),
        }
    }
}

impl Invariant for JobDeleted {
    fn name(&self) -> &'static str {
        "job_deleted"
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
    use crate::story::{Story, reserve};

    #[test]
    fn a_deleted_job_that_is_given_out_or_deleted_again_is_an_objection() {
        let mut story = Story::<JobDeleted>::new();
        let id = story.put(1, 0, 0);
        let early = story.ask(2, reserve(0));
        story.reserve(1, id).unwrap();
        story.did(1, JobWish::Delete(id), JobAnswer::Yes).unwrap();
        let late = JobAnswer::Reserved(id, 1);
        assert_eq!(story.answer(&early, late), Ok(()), "it may have come before");
        assert!(story.reserve(2, id).is_err());
        assert!(story.did(2, JobWish::Delete(id), JobAnswer::Yes).is_err());
        assert_eq!(story.did(2, JobWish::Delete(id), JobAnswer::NotFound), Ok(()));
    }

    #[test]
    fn two_jobs_of_one_number_are_an_objection() {
        let mut story = Story::<JobDeleted>::new();
        let id = story.put(1, 0, 0);
        assert!(story.did(1, JobWish::Peek(id), JobAnswer::Found(id, 2)).is_err());
    }
}
