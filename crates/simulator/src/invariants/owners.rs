//! A message that somebody has is given to nobody else: again only after it came back (given back,
//! or its owner's connection ended, or the server crashed), and then flagged as redelivered.
//!
//! Promise: P3, P7.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::doubts::Doubts;
use crate::fact::{ConnId, Delivered, Fact, MessageId, Place};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Who has which message.
    held_by: BTreeMap<(MessageId, Place), ConnId>,
    /// Reached a client at least once.
    seen: BTreeSet<(MessageId, Place)>,
    /// The last delivery count shown.
    counts: BTreeMap<(MessageId, Place), u64>,
    doubts: Doubts,
}

impl Owners {
    fn delivered(&mut self, came: &Delivered) -> Result<(), String> {
        if came.is_stale {
            return Ok(());
        }
        let key = (came.message, came.place);
        let (message, place, conn) = (came.message, came.place, came.conn);
        if let Some(owner) = self.held_by.get(&key).copied() {
            let detail = format!(
                "message {message} of queue {place} reached connection {conn} while connection \
                 {owner} has it"
            );
            self.doubts.object(std::iter::once(owner), detail)?;
        }
        if !self.seen.insert(key) && !came.is_redelivered {
            return Err(format!("message {message} of queue {place} came again without the flag"));
        }
        if !came.no_ack {
            self.held_by.insert(key, conn);
        }
        if let Some(count) = came.count {
            let last = self.counts.insert(key, count).unwrap_or(0);
            if count < last {
                return Err(format!(
                    "the delivery count of message {message} fell from {last} to {count}"
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for Owners {
    fn name(&self) -> &'static str {
        "owners"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        self.doubts.hear(fact)?;
        match fact {
            Fact::Delivered(came) => return self.delivered(came),
            Fact::Acked(held) | Fact::Returned(held) | Fact::Rejected(held)
                if self.held_by.get(&(held.message, held.place)) == Some(&held.conn) =>
            {
                self.held_by.remove(&(held.message, held.place));
            }
            Fact::Ended(conn) | Fact::Leaving(conn) | Fact::Dismissed(conn) => {
                self.held_by.retain(|_, owner| owner != conn);
            }
            Fact::Crashed(_) => self.held_by.clear(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Crash, Held};
    use crate::invariants::try_history;

    fn came(conn: ConnId, is_redelivered: bool, count: u64) -> Fact {
        let (message, place, count) = (5, 1, Some(count));
        Fact::Delivered(Delivered {
            message,
            place,
            conn,
            is_redelivered,
            count,
            ..Default::default()
        })
    }

    fn check(history: &[Fact]) -> Result<(), String> {
        try_history(&mut Owners::default(), history)
    }

    #[test]
    fn two_owners_are_an_objection() {
        assert!(check(&[came(1, false, 0), came(2, true, 0)]).is_err());
        assert_eq!(check(&[came(1, false, 0), Fact::Ended(1), came(2, true, 0)]), Ok(()));
        let back = Fact::Returned(Held { message: 5, place: 1, conn: 1 });
        assert_eq!(check(&[came(1, false, 0), back, came(2, true, 1)]), Ok(()));
        let crash = Fact::Crashed(Crash::Kill);
        assert_eq!(check(&[came(1, false, 0), crash, came(1, true, 0)]), Ok(()));
    }

    #[test]
    fn a_second_delivery_without_the_flag_or_with_a_lower_count_is_an_objection() {
        assert!(check(&[came(1, false, 0), Fact::Ended(1), came(2, false, 0)]).is_err());
        assert!(check(&[came(1, false, 3), Fact::Ended(1), came(2, true, 2)]).is_err());
    }

    #[test]
    fn what_a_refused_transaction_had_may_be_with_another_before_it_knows() {
        let held = |message| Held { message, place: 1, conn: 1 };
        let step = Fact::Step { input: held(6), result: 8, next: 9 };
        let begin = [came(1, false, 0), step, Fact::Acked(held(6)), came(2, true, 0)];
        let story = |answer: &[Fact]| check(&[&begin, answer].concat());
        assert_eq!(story(&[]), Ok(()));
        assert_eq!(story(&[Fact::Undone(held(6))]), Ok(()));
        assert!(story(&[Fact::Settled(held(6))]).is_err(), "it was accepted");
        let later = Fact::Settled(held(6));
        assert_eq!(story(&[Fact::Ended(1), later]), Ok(()));
    }
}
