//! What is said about a job is true: its state and its priority, as far as clients can know them.
//!
//! Promise: P7, P18.

use model::JobId;

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered, Stand};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobStates {
    ledger: Ledger,
}

impl JobStates {
    fn described(
        &self,
        id: JobId,
        answered: &JobAnswered,
        (stand, rank): (Stand, u32),
    ) -> Result<(), String> {
        let known = self.ledger.get(id).filter(|known| answered.ask.number >= known.since);
        let Some(known) = known else { return Ok(()) };
        let is_right = match known.rest {
            Rest::Ready => matches!(stand, Stand::Ready | Stand::Reserved),
            Rest::Buried { .. } => stand == Stand::Buried,
            Rest::Delayed(until) => match stand {
                Stand::Delayed => true,
                Stand::Ready | Stand::Reserved => answered.log_ms >= until,
                Stand::Buried => false,
            },
            Rest::Held(hold) => answered.log_ms >= hold.until_ms || stand == Stand::Reserved,
            Rest::Unknown | Rest::Gone(_) => return Ok(()),
        };
        if !is_right {
            return Err(format!("job {id} is said to be {stand:?} and is {:?}", known.rest));
        }
        match known.rank {
            Some(right) if right != rank => {
                Err(format!("job {id} is said to have priority {rank} and has {right}"))
            }
            _ => Ok(()),
        }
    }
}

impl Invariant for JobStates {
    fn name(&self) -> &'static str {
        "job_states"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        if let Fact::JobAnswered(answered) = fact
            && let JobAnswer::Described { stand, rank } = answered.answer
            && let Some(id) = answered.ask.wish.id()
        {
            self.described(id, answered, (stand, rank))?;
        }
        self.ledger.hear(fact);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::JobWish;
    use crate::story::Story;

    #[test]
    fn a_wrong_state_and_a_wrong_priority_are_objections() {
        let mut story = Story::<JobStates>::new();
        let id = story.put(1, 5, 0);
        let said = |stand, rank| JobAnswer::Described { stand, rank };
        let stats = || JobWish::StatsJob(id);
        assert_eq!(story.did(2, stats(), said(Stand::Ready, 5)), Ok(()));
        assert!(story.did(2, stats(), said(Stand::Buried, 5)).is_err());
        assert!(story.did(2, stats(), said(Stand::Ready, 6)).is_err());
        story.bury(1, id).unwrap();
        assert_eq!(story.did(2, stats(), said(Stand::Buried, 7)), Ok(()));
        assert!(story.did(2, stats(), said(Stand::Ready, 7)).is_err());
        assert!(story.did(2, stats(), said(Stand::Buried, 5)).is_err());
    }
}
