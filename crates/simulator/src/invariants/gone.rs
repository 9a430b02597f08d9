//! What is gone stays gone: a queue that the server said it has emptied or deleted does not show
//! what was in it before, and nothing of a transient queue outlives the server.
//!
//! Promise: P1, P2.

use std::collections::BTreeSet;

use super::Invariant;
use crate::fact::{Fact, MessageId, Place};
use crate::garden::{Garden, Use};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Gone {
    garden: Garden,
    /// In transient queues of the running server.
    brief: BTreeSet<MessageId>,
    /// Must not be seen again.
    left: BTreeSet<(MessageId, Place)>,
}

impl Gone {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { garden: garden.clone(), brief: BTreeSet::new(), left: BTreeSet::new() }
    }
}

impl Invariant for Gone {
    fn name(&self) -> &'static str {
        "gone"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Sent(sent) => {
                let first = sent.targets.first().and_then(|place| self.garden.get(*place));
                if first.is_some_and(|bed| bed.purpose == Use::Brief) {
                    self.brief.insert(sent.message);
                }
            }
            Fact::Crashed(_) => {
                let place = self.garden.find(Use::Brief).unwrap_or_default();
                let brief = std::mem::take(&mut self.brief);
                self.left.extend(brief.into_iter().map(|message| (message, place)));
            }
            Fact::Emptied(_, place, message) => {
                self.left.insert((*message, *place));
            }
            Fact::Delivered(came)
                if !came.is_stale && self.left.contains(&(came.message, came.place)) =>
            {
                let (message, place) = (came.message, came.place);
                return Err(format!("message {message} of queue {place} was gone and is back"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Crash, Delivered, Sent};
    use crate::garden::Bed;
    use crate::invariants::try_history;

    fn check(history: &[Fact]) -> Result<(), String> {
        let beds = vec![Bed::plain("churn", Use::Churn), Bed::plain("brief", Use::Brief)];
        let garden = Garden { beds, ..Garden::default() };
        try_history(&mut Gone::new(&garden), history)
    }

    fn came(place: Place) -> Fact {
        Fact::Delivered(Delivered { message: 1, place, ..Delivered::default() })
    }

    #[test]
    fn a_message_of_an_emptied_queue_is_an_objection() {
        assert!(check(&[Fact::Emptied(1, 0, 1), came(0)]).is_err());
        assert_eq!(check(&[Fact::Emptied(1, 0, 2), came(0)]), Ok(()));
    }

    #[test]
    fn a_transient_message_after_a_crash_is_an_objection() {
        let sent = Fact::Sent(Sent { message: 1, targets: vec![1], ..Sent::default() });
        assert_eq!(check(&[sent.clone(), came(1)]), Ok(()));
        assert!(check(&[sent, Fact::Crashed(Crash::Kill), came(1)]).is_err());
    }
}
