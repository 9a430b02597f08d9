//! A kick makes as many jobs ready as it was asked to, as far as there are buried ones, the first
//! that was buried first; that one is also what is shown as the next.
//!
//! Promise: P5, P7.

use model::JobId;

use super::Invariant;
use crate::fact::{Fact, JobAnswer, JobAnswered, JobWish, Tube};
use crate::ledger::{Ledger, Rest};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct JobKicks {
    ledger: Ledger,
}

impl JobKicks {
    /// Whether a job was certainly buried before the one that was shown, and still is.
    fn shown(&self, answered: &JobAnswered, (tube, id): (Tube, JobId)) -> Result<(), String> {
        let rest = self.ledger.get(id).map(|known| known.rest);
        let Some(Rest::Buried { from, .. }) = rest else { return Ok(()) };
        let mut buried = self
            .ledger
            .all()
            .filter(|(_, known)| known.tube == tube && known.since <= answered.ask.number);
        let earlier =
            buried.find(|(_, known)| matches!(known.rest, Rest::Buried { by, .. } if by <= from));
        earlier.map_or(Ok(()), |(earlier, _)| {
            Err(format!("job {id} is shown as the next to be kicked, not job {earlier}"))
        })
    }
}

impl Invariant for JobKicks {
    fn name(&self) -> &'static str {
        "job_kicks"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        if let Fact::JobAnswered(answered) = fact {
            match (&answered.ask.wish, &answered.answer) {
                (JobWish::Kick { tube, most }, JobAnswer::Kicked(count)) => {
                    let least = self.ledger.certain_kicks(answered).min(*most as usize);
                    if count > most || (*count as usize) < least {
                        return Err(format!(
                            "{count} of {most} jobs were kicked in tube {tube}, at least {least} \
                             are buried"
                        ));
                    }
                }
                (JobWish::PeekBuried(tube), JobAnswer::Found(id, _)) => {
                    self.shown(answered, (*tube, *id))?;
                }
                _ => {}
            }
        }
        self.ledger.hear(fact);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Stand;
    use crate::invariants::job_states::JobStates;
    use crate::story::Story;

    fn begin<I: Invariant + Default>() -> (Story<I>, [JobId; 2]) {
        let mut story = Story::new();
        let ids = [story.put(1, 5, 0), story.put(2, 5, 0)];
        for id in [ids[1], ids[0]] {
            story.bury(1, id).unwrap();
        }
        (story, ids)
    }

    #[test]
    fn too_few_or_too_many_kicked_jobs_are_an_objection() {
        let kick = |most, count| {
            let (mut story, _) = begin::<JobKicks>();
            story.did(2, JobWish::Kick { tube: 0, most }, JobAnswer::Kicked(count))
        };
        assert!(kick(2, 1).is_err());
        assert!(kick(1, 2).is_err());
        assert_eq!(kick(5, 2), Ok(()));
    }

    #[test]
    fn a_later_burial_shown_first_is_an_objection() {
        let (mut story, [second, first]) = begin::<JobKicks>();
        let peek = || JobWish::PeekBuried(0);
        assert_eq!(story.did(2, peek(), JobAnswer::Found(first, 2)), Ok(()));
        assert!(story.did(2, peek(), JobAnswer::Found(second, 1)).is_err());
    }

    #[test]
    fn the_first_burial_is_the_one_that_is_ready_then() {
        let (mut story, [second, first]) = begin::<JobStates>();
        story.did(2, JobWish::Kick { tube: 0, most: 1 }, JobAnswer::Kicked(1)).unwrap();
        let said = |stand| JobAnswer::Described { stand, rank: 7 };
        assert_eq!(story.did(2, JobWish::StatsJob(first), said(Stand::Ready)), Ok(()));
        assert!(story.did(2, JobWish::StatsJob(second), said(Stand::Ready)).is_err());
    }
}
