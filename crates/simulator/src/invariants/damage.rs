//! What reaches a client is what somebody published, whole, and in a queue where it belongs.
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
}
