//! What the server said yes to is there: at the end of a run, after any number of crashes, every
//! confirmed message was settled by a client or is read back, in each queue that it had to enter or
//! in that queue's dead letters.
//!
//! Promise: P1.

use std::collections::BTreeMap;

use super::Invariant;
use crate::fact::{Fact, MessageId, Place};
use crate::garden::{Garden, Use};

#[derive(Debug, Default)]
struct Known {
    targets: Vec<Place>,
    is_confirmed: bool,
    /// Settled (or read back) in these queues.
    settled: Vec<Place>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct AcknowledgedLoss {
    garden: Garden,
    messages: BTreeMap<MessageId, Known>,
}

impl AcknowledgedLoss {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { garden: garden.clone(), messages: BTreeMap::new() }
    }

    /// What enters this queue may end without anybody's doing.
    fn is_lossy(&self, place: Place) -> bool {
        let purpose = self.garden.get(place).map(|bed| bed.purpose);
        matches!(purpose, Some(Use::Brief | Use::Churn) | None)
    }

    fn has_no_grave(&self, place: Place) -> bool {
        self.garden.get(place).is_none_or(|bed| bed.dead.is_none())
    }

    fn check(&self) -> Result<(), String> {
        for (message, known) in self.messages.iter().filter(|(_, known)| known.is_confirmed) {
            for target in known.targets.iter().filter(|place| !self.is_lossy(**place)) {
                let is_found = known.settled.iter().any(|place| self.garden.leads(*target, *place));
                if !is_found {
                    let name = self.garden.get(*target).map(|bed| bed.name.clone());
                    let name = name.unwrap_or_default();
                    return Err(format!("message {message} was confirmed and is not in {name}"));
                }
            }
        }
        Ok(())
    }
}

impl Invariant for AcknowledgedLoss {
    fn name(&self) -> &'static str {
        "acknowledged_loss"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Sent(sent) => {
                let targets = sent.targets.clone();
                let known = Known { targets, ..Known::default() };
                self.messages.insert(sent.message, known);
            }
            Fact::Confirmed(message, _) => {
                if let Some(known) = self.messages.get_mut(message) {
                    known.is_confirmed = true;
                }
            }
            Fact::Acked(held) => {
                if let Some(known) = self.messages.get_mut(&held.message) {
                    known.settled.push(held.place);
                }
            }
            // Refused for good, and nowhere to go then.
            Fact::Rejected(held) if self.has_no_grave(held.place) => {
                if let Some(known) = self.messages.get_mut(&held.message) {
                    known.settled.push(held.place);
                }
            }
            Fact::Missing(name) => return Err(format!("{name} was confirmed and is not there")),
            Fact::End => return self.check(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::fact::{Held, Sent};
    use crate::invariants::try_history;

    fn sent(message: MessageId, targets: Vec<Place>) -> Fact {
        Fact::Sent(Sent { message, targets, ..Sent::default() })
    }

    fn acked(message: MessageId, place: Place) -> Fact {
        Fact::Acked(Held { message, place, conn: 0 })
    }

    fn check(history: &[Fact]) -> Result<(), String> {
        let garden = Garden::lay_out(&mut Dice::new(1));
        try_history(&mut AcknowledgedLoss::new(&garden), history)
    }

    #[test]
    fn a_confirmed_message_that_nobody_sees_again_is_an_objection() {
        let lost = [sent(7, vec![1]), Fact::Confirmed(7, 0), Fact::End];
        assert!(check(&lost).is_err());
        let found = [sent(7, vec![1]), Fact::Confirmed(7, 0), acked(7, 1), Fact::End];
        assert_eq!(check(&found), Ok(()));
        let never_promised = [sent(7, vec![1]), Fact::End];
        assert_eq!(check(&never_promised), Ok(()));
        let half = [sent(7, vec![0, 1]), Fact::Confirmed(7, 0), acked(7, 1), Fact::End];
        assert!(check(&half).is_err(), "one of two queues");
    }

    #[test]
    fn a_confirmed_queue_that_is_gone_is_an_objection() {
        assert!(check(&[Fact::Missing("work".to_owned())]).is_err());
    }
}
