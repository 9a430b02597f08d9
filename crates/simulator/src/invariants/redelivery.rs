//! What came back stands in its old place: a consumer that comes later gets the messages of one
//! publisher in the order in which they were sent, those that were out with others included.
//!
//! It objects only while nothing else can have come back since the consumer came: then everything
//! that it gets stood in the queue at one moment.
//!
//! Promise: P5.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::doubts::Doubts;
use crate::fact::{ConnId, Delivered, Fact, MessageId, Place};

/// One consumer and what it has seen of each source and priority.
#[derive(Debug)]
struct Reader {
    /// When it came; 0 when it had come before over the same connection.
    since: u64,
    newest: BTreeMap<(u32, u8), MessageId>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Redelivery {
    /// Counts facts.
    clock: u64,
    /// Source and priority; delayed messages have no order.
    sent: BTreeMap<MessageId, (u32, u8)>,
    readers: BTreeMap<(ConnId, Place), Reader>,
    /// Who may have something of a queue: readers, and those who take single messages.
    users: BTreeSet<(ConnId, Place)>,
    /// When something may last have come back to a queue.
    returned: BTreeMap<Place, u64>,
    /// Given back, and the server may not know yet.
    pending: BTreeSet<(ConnId, Place, MessageId)>,
    /// Said goodbye, and the server may not know yet.
    leaving: BTreeSet<ConnId>,
    doubts: Doubts,
}

impl Redelivery {
    fn delivered(&mut self, came: &Delivered) -> Result<(), String> {
        self.users.insert((came.conn, came.place));
        let is_settled = self.is_settled(came.place);
        let Some(line) = self.sent.get(&came.message).copied() else { return Ok(()) };
        let Some(reader) = self.readers.get_mut(&(came.conn, came.place)) else { return Ok(()) };
        if came.is_stale || came.reason.is_some() {
            return Ok(());
        }
        let last = self.returned.get(&came.place).copied().unwrap_or(0);
        let newest = reader.newest.entry(line).or_insert(came.message);
        let before = *newest;
        *newest = came.message.max(before);
        if came.message < before && is_settled && last < reader.since {
            let detail = format!(
                "message {} of queue {} came behind message {before}, although it was back before",
                came.message, came.place
            );
            let users = self.users.iter().filter(|(_, place)| *place == came.place);
            return self.doubts.object(users.map(|(conn, _)| *conn), detail);
        }
        Ok(())
    }

    /// Nothing is on its way back to this queue.
    fn is_settled(&self, place: Place) -> bool {
        let is_pending = self.pending.iter().any(|(_, other, _)| *other == place);
        let is_left = |conn: &ConnId| self.users.contains(&(*conn, place));
        !is_pending && !self.leaving.iter().any(is_left)
    }

    /// Whatever it had is back.
    fn gave_back(&mut self, conn: ConnId) {
        for (_, place) in self.users.iter().filter(|(owner, _)| *owner == conn) {
            self.returned.insert(*place, self.clock);
        }
    }

    fn ended(&mut self, conn: ConnId) {
        self.gave_back(conn);
        self.users.retain(|(owner, _)| *owner != conn);
        self.readers.retain(|(owner, _), _| *owner != conn);
        self.pending.retain(|(owner, _, _)| *owner != conn);
        self.leaving.remove(&conn);
    }
}

impl Invariant for Redelivery {
    fn name(&self) -> &'static str {
        "redelivery"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        self.clock += 1;
        self.doubts.hear(fact)?;
        match fact {
            Fact::Sent(sent) if sent.delay_ms.is_none() => {
                self.sent.insert(sent.message, (sent.source, sent.priority));
            }
            Fact::Subscribed(conn, place) => {
                // Deliveries to the consumer before may still be on their way: not judged again.
                let is_first = !self.readers.contains_key(&(*conn, *place));
                let since = if is_first { self.clock } else { 0 };
                self.readers.insert((*conn, *place), Reader { since, newest: BTreeMap::new() });
                self.users.insert((*conn, *place));
            }
            Fact::Delivered(came) => return self.delivered(came),
            Fact::Returned(held) => {
                self.pending.insert((held.conn, held.place, held.message));
            }
            Fact::ReturnSeen(held) => {
                self.pending.remove(&(held.conn, held.place, held.message));
                self.returned.insert(held.place, self.clock);
            }
            Fact::Leaving(conn) | Fact::Dismissed(conn) => {
                self.leaving.insert(*conn);
            }
            // A refused transaction closes its channel.
            Fact::Undone(held) => self.gave_back(held.conn),
            Fact::Ended(conn) => self.ended(*conn),
            Fact::Crashed(_) => {
                self.readers.clear();
                self.users.clear();
                self.pending.clear();
                self.leaving.clear();
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Crash, Held, Sent};
    use crate::invariants::try_history;

    fn sent(message: MessageId) -> Fact {
        Fact::Sent(Sent { message, source: 1, targets: vec![1], ..Sent::default() })
    }

    fn came(message: MessageId, conn: ConnId) -> Fact {
        let is_redelivered = true;
        Fact::Delivered(Delivered { message, place: 1, conn, is_redelivered, ..Default::default() })
    }

    fn check(history: &[Fact]) -> Result<(), String> {
        try_history(&mut Redelivery::default(), history)
    }

    #[test]
    fn the_younger_first_is_an_objection_when_both_were_back() {
        let begin = |then: [Fact; 2]| {
            let [first, second] = then;
            let crash = Fact::Crashed(Crash::Kill);
            [sent(1), sent(2), crash, Fact::Subscribed(2, 1), first, second]
        };
        assert_eq!(check(&begin([came(1, 2), came(2, 2)])), Ok(()));
        assert!(check(&begin([came(2, 2), came(1, 2)])).is_err());
    }

    #[test]
    fn what_came_back_meanwhile_may_come_later() {
        let held = Held { message: 1, place: 1, conn: 1 };
        let story = |back: &[Fact]| {
            let begin = [sent(1), sent(2), Fact::Subscribed(1, 1), Fact::Subscribed(2, 1)];
            let mut story = begin.to_vec();
            story.push(came(2, 2));
            story.extend_from_slice(back);
            story.push(came(1, 2));
            check(&story)
        };
        assert!(story(&[]).is_err());
        assert_eq!(story(&[Fact::Ended(1)]), Ok(()));
        assert_eq!(story(&[Fact::Returned(held)]), Ok(()));
        assert_eq!(story(&[Fact::Returned(held), Fact::ReturnSeen(held)]), Ok(()));
        assert_eq!(story(&[Fact::Leaving(1)]), Ok(()));
        assert_eq!(story(&[Fact::Subscribed(2, 1)]), Ok(()), "the younger may be from before");
    }

    #[test]
    fn what_a_refused_transaction_had_may_come_later_too() {
        let held = Held { message: 1, place: 1, conn: 1 };
        let step = Fact::Step { input: held, result: 8, next: 9 };
        let story = |answer: Fact| {
            let begin = [sent(1), sent(2), Fact::Subscribed(1, 1), Fact::Subscribed(2, 1)];
            check(&[&begin[..], &[came(2, 2), step.clone(), came(1, 2), answer]].concat())
        };
        assert_eq!(story(Fact::Undone(held)), Ok(()));
        assert!(story(Fact::Settled(held)).is_err(), "it was accepted");
    }
}
