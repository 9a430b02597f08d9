//! What reaches a client is what somebody published, whole, and in a queue where it belongs. And a
//! damaged disk is refused or gives the right state.
//!
//! The one exception is the very last commit: damage to it looks like a torn write, and nothing
//! that was written later knows better. So the log may end early, but never before what it says of
//! itself was durable; in which file the damage lies has nothing to do with it (the next segment
//! may be begun, or be full of what its last use left behind).
//!
//! Promise: P11.

use std::collections::BTreeMap;

use super::Invariant;
use crate::fact::{Fact, MessageId, Place};
use crate::garden::Garden;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Damage {
    garden: Garden,
    targets: BTreeMap<MessageId, Vec<Place>>,
}

impl Damage {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { garden: garden.clone(), targets: BTreeMap::new() }
    }
}

impl Invariant for Damage {
    fn name(&self) -> &'static str {
        "damage"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Sent(sent) => {
                self.targets.insert(sent.message, sent.targets.clone());
            }
            Fact::Garbled { place, detail } => {
                return Err(format!("a message of queue {place} is damaged: {detail}"));
            }
            Fact::Examined { proven, right, found } => {
                let is_torn = found.0 < right.0 && found.0 >= *proven;
                if found != right && !is_torn {
                    return Err(format!(
                        "damage changed the state {right:x?} to {found:x?} unnoticed, and \
                         everything before {proven:x} is known to have been durable"
                    ));
                }
            }
            Fact::Delivered(came) => {
                let Some(targets) = self.targets.get(&came.message) else {
                    return Err(format!("message {} was never published", came.message));
                };
                if !targets.iter().any(|target| self.garden.leads(*target, came.place)) {
                    let (message, place) = (came.message, came.place);
                    return Err(format!("message {message} stands in queue {place}, not its own"));
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
    use crate::dice::Dice;
    use crate::fact::{Delivered, Sent};
    use crate::invariants::try_history;

    #[test]
    fn a_damaged_a_strange_and_a_misplaced_message_are_objections() {
        let garden = Garden::lay_out(&mut Dice::new(1));
        let sent = Fact::Sent(Sent { message: 3, targets: vec![1], ..Sent::default() });
        let came =
            |message, place| Fact::Delivered(Delivered { message, place, ..Delivered::default() });
        let check = |history: &[Fact]| try_history(&mut Damage::new(&garden), history);
        assert_eq!(check(&[sent.clone(), came(3, 1)]), Ok(()));
        assert!(check(&[sent.clone(), came(4, 1)]).is_err());
        assert!(check(&[sent, came(3, 0)]).is_err());
        let detail = "the checksum does not match".to_owned();
        assert!(check(&[Fact::Garbled { place: 1, detail }]).is_err());
    }

    #[test]
    fn only_the_last_commit_may_be_taken_for_a_torn_write() {
        let garden = Garden::lay_out(&mut Dice::new(1));
        let check = |proven, right, found| {
            Damage::new(&garden).hear(&Fact::Examined { proven, right, found })
        };
        assert_eq!(check(80, (100, 7), (100, 7)), Ok(()));
        assert_eq!(check(80, (100, 7), (80, 6)), Ok(()), "the last commit is gone");
        assert!(check(80, (100, 7), (79, 6)).is_err(), "a commit before the last is gone");
        assert!(check(100, (100, 7), (80, 6)).is_err(), "a later block proves the last one");
        assert!(check(80, (100, 7), (100, 6)).is_err(), "another state of the same log");
        assert!(check(80, (100, 7), (110, 7)).is_err(), "more than there was");
    }
}
