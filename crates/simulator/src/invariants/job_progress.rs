//! Once faults have stopped every job that is ready, or becomes so, is worked off: at the end of a
//! run none is left in a tube where somebody was willing to take it.
//!
//! Promise: P13.

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobWish};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobProgress;

impl Invariant for JobProgress {
    fn name(&self) -> &'static str {
        "job_progress"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::JobAnswered(answered) => match (&answered.ask.wish, &answered.answer) {
                (JobWish::Reserve { is_gleaned: true, .. }, JobAnswer::Reserved(id, _)) => {
                    Err(format!("job {id} was left ready where somebody worked"))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Story;

    #[test]
    fn a_job_left_behind_is_an_objection() {
        let mut story = Story::<JobProgress>::new();
        let id = story.put(1, 5, 0);
        assert_eq!(story.reserve(1, id), Ok(()));
        let wish = JobWish::Reserve { timeout_s: Some(0), watched: vec![0], is_gleaned: true };
        assert!(story.did(1, wish, JobAnswer::Reserved(id, 1)).is_err());
    }
}
