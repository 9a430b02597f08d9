//! What was inserted is there: a job that nobody asked to delete is found whenever somebody looks,
//! and is read back at the end of a run, after any number of crashes.
//!
//! Promise: P1.

use std::collections::{BTreeMap, BTreeSet};

use model::JobId;

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered, JobWish};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobLoss {
    inserted: BTreeSet<JobId>,
    /// Requests to delete a job which were not answered with a no.
    deletes: BTreeMap<JobId, u32>,
}

impl JobLoss {
    fn is_wanted(&self, id: JobId) -> bool {
        self.deletes.get(&id).is_none_or(|count| *count == 0)
    }

    fn answered(&mut self, answered: &JobAnswered) -> Result<(), String> {
        match (&answered.ask.wish, &answered.answer) {
            (_, JobAnswer::Inserted(id)) => {
                self.inserted.insert(*id);
            }
            (JobWish::Delete(id), JobAnswer::NotFound | JobAnswer::No(_)) => {
                let count = self.deletes.entry(*id).or_default();
                *count = count.saturating_sub(1);
            }
            (JobWish::Peek(id) | JobWish::StatsJob(id), JobAnswer::NotFound)
                if self.inserted.contains(id) && self.is_wanted(*id) =>
            {
                return Err(format!("job {id} is not found, and nobody deleted it"));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Invariant for JobLoss {
    fn name(&self) -> &'static str {
        "job_loss"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::JobAsked(ask) => {
                if let JobWish::Delete(id) = ask.wish {
                    *self.deletes.entry(id).or_default() += 1;
                }
            }
            Fact::JobAnswered(answered) => return self.answered(answered),
            Fact::End => {
                let lost = self.inserted.iter().find(|id| self.is_wanted(**id));
                if let Some(id) = lost {
                    return Err(format!("job {id} was inserted and is nowhere"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Story;

    #[test]
    fn an_inserted_job_that_is_not_read_back_is_an_objection() {
        let mut story = Story::<JobLoss>::new();
        let id = story.put(1, 0, 0);
        assert!(story.tell(&Fact::End).is_err());
        assert!(story.did(1, JobWish::Peek(id), JobAnswer::NotFound).is_err());
        story.did(1, JobWish::Delete(id), JobAnswer::NotFound).unwrap();
        assert!(story.tell(&Fact::End).is_err(), "that was a no");
        story.ask(1, JobWish::Delete(id));
        assert_eq!(story.did(1, JobWish::Peek(id), JobAnswer::NotFound), Ok(()));
        assert_eq!(story.tell(&Fact::End), Ok(()));
    }
}
