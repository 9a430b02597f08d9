//! First in, first out: what one channel published to one queue reaches one consumer in that order,
//! as far as it was not delivered before; and what was given back comes before what stood behind
//! it.
//!
//! Promise: P5.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::fact::{ConnId, Delivered, Fact, Held, MessageId, Place};
use crate::garden::Garden;

/// The messages of one publishing channel in one queue, of one priority.
type Line = (u32, Place, u8);

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Order {
    garden: Garden,
    /// Source, priority and whether a delay moves it.
    sent: BTreeMap<MessageId, (u32, u8, bool)>,
    /// The newest message of a line that reached a consumer for the first time.
    newest: BTreeMap<(u32, Line), MessageId>,
    /// Given back, and neither come again nor known to have arrived.
    sent_back: BTreeSet<(ConnId, Place, MessageId)>,
    /// Given back by a consumer, which has seen that the server knows.
    returned: BTreeMap<(ConnId, Place), BTreeSet<MessageId>>,
    /// Who consumes from each queue: with more than one, what is given back may go to another.
    users: BTreeMap<Place, BTreeSet<ConnId>>,
}

impl Order {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { garden: garden.clone(), ..Self::default() }
    }

    /// What is in this queue leaves it by a client's hand only.
    fn is_plain(&self, place: Place) -> bool {
        let bed = self.garden.get(place);
        bed.is_some_and(|bed| bed.dead.is_none() && bed.length_max.is_none())
    }

    fn delivered(&mut self, came: &Delivered) -> Result<(), String> {
        self.forget(&Held { message: came.message, place: came.place, conn: came.conn });
        let Some((source, priority, is_delayed)) = self.sent.get(&came.message).copied() else {
            return Ok(());
        };
        if is_delayed || came.reason.is_some() || came.is_stale {
            return Ok(());
        }
        let line: Line = (source, came.place, priority);
        self.check_returned(came, line)?;
        if came.is_redelivered {
            return Ok(());
        }
        let newest = self.newest.entry((came.subscription, line)).or_insert(came.message);
        if *newest > came.message {
            return Err(format!(
                "message {} of queue {} came after message {newest}, which was sent later",
                came.message, came.place
            ));
        }
        *newest = came.message;
        Ok(())
    }

    /// A message never given out before must not overtake one that was given back.
    fn check_returned(
        &self,
        came: &Delivered,
        (source, place, priority): Line,
    ) -> Result<(), String> {
        let is_alone = self.users.get(&place).is_some_and(|users| users.len() == 1);
        if came.is_redelivered || !is_alone || !self.is_plain(place) {
            return Ok(());
        }
        let Some(back) = self.returned.get(&(came.conn, place)) else { return Ok(()) };
        let older = back.range(..came.message).find(|older| {
            let sent = self.sent.get(older);
            sent.is_some_and(|(one, level, _)| (*one, *level) == (source, priority))
        });
        older.map_or(Ok(()), |older| {
            Err(format!(
                "message {} of queue {place} overtook message {older}, which was given back",
                came.message
            ))
        })
    }

    /// Who consumes from a queue has changed: what was given back may have been elsewhere
    /// meanwhile.
    fn unsure(&mut self, place: Place) {
        self.returned.retain(|(_, at), _| *at != place);
        self.sent_back.retain(|(_, at, _)| *at != place);
    }

    fn forget(&mut self, held: &Held) {
        self.sent_back.remove(&(held.conn, held.place, held.message));
        if let Some(back) = self.returned.get_mut(&(held.conn, held.place)) {
            back.remove(&held.message);
        }
    }
}

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Sent(sent) => {
                let is_delayed = sent.delay_ms.is_some();
                self.sent.insert(sent.message, (sent.source, sent.priority, is_delayed));
            }
            Fact::Delivered(came) => return self.delivered(came),
            Fact::Returned(held) => {
                self.sent_back.insert((held.conn, held.place, held.message));
            }
            Fact::ReturnSeen(held)
                if self.sent_back.remove(&(held.conn, held.place, held.message)) =>
            {
                self.returned.entry((held.conn, held.place)).or_default().insert(held.message);
            }
            Fact::Acked(held) | Fact::Rejected(held) => self.forget(held),
            Fact::Subscribed(conn, place) => {
                self.users.entry(*place).or_default().insert(*conn);
                self.unsure(*place);
            }
            Fact::Ended(conn) | Fact::Leaving(conn) | Fact::Dismissed(conn) => {
                let of_it = |(place, users): (&Place, &BTreeSet<ConnId>)| {
                    users.contains(conn).then_some(*place)
                };
                let places: Vec<Place> = self.users.iter().filter_map(of_it).collect();
                for place in places {
                    self.unsure(place);
                }
                // Until its end closes, the server may still give it something.
                if matches!(fact, Fact::Ended(_)) {
                    for users in self.users.values_mut() {
                        users.remove(conn);
                    }
                }
            }
            Fact::Crashed(_) => {
                self.returned.clear();
                self.sent_back.clear();
                self.users.clear();
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
    use crate::fact::Sent;
    use crate::invariants::try_history;

    fn sent(message: MessageId) -> Fact {
        Fact::Sent(Sent { message, source: 1, targets: vec![1], ..Sent::default() })
    }

    fn came(message: MessageId, is_redelivered: bool) -> Fact {
        let (place, conn, subscription) = (1, 1, 1);
        Fact::Delivered(Delivered {
            message,
            place,
            conn,
            subscription,
            is_redelivered,
            ..Delivered::default()
        })
    }

    fn check(history: &[Fact]) -> Result<(), String> {
        let garden = Garden::lay_out(&mut Dice::new(1));
        try_history(&mut Order::new(&garden), history)
    }

    #[test]
    fn an_older_message_behind_a_younger_is_an_objection() {
        let (one, two) = (sent(1), sent(2));
        assert_eq!(check(&[one.clone(), two.clone(), came(1, false), came(2, false)]), Ok(()));
        assert!(check(&[one.clone(), two.clone(), came(2, false), came(1, false)]).is_err());
        assert_eq!(check(&[one, two, came(2, false), came(1, true)]), Ok(()));
    }

    #[test]
    fn overtaking_what_was_given_back_is_an_objection() {
        let held = Held { message: 1, place: 1, conn: 1 };
        let (back, seen) = (Fact::Returned(held), Fact::ReturnSeen(held));
        let begun = Fact::Subscribed(1, 1);
        let story = |then: Fact| {
            let known = [begun.clone(), sent(1), sent(2), came(1, false)];
            [&known[..], &[back.clone(), seen.clone(), then]].concat()
        };
        assert!(check(&story(came(2, false))).is_err());
        assert_eq!(check(&story(came(1, true))), Ok(()));
    }
}
