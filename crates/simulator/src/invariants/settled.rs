//! What was settled stays settled: an acknowledged message does not come back while its connection
//! and the server live, and never once the server has shown that it knows.
//!
//! Acknowledgements that are part of a transaction settle nothing before its answer: the server may
//! refuse it and give the input to somebody else while the refusal is on its way to a slow client.
//! Who got it meanwhile is remembered: a yes after that is a broken promise, too. And what a client
//! says behind its goodbye is not heard, as the protocol wants it: what the server had sent it by
//! then goes back although the client may still answer.
//!
//! Promise: P2, P3.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::fact::{ConnId, Delivered, Fact, Held, MessageId, Place};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Acknowledged over a connection that lives, on a server that has not crashed since.
    fresh: BTreeMap<(MessageId, Place), ConnId>,
    /// Connections whose server's end is closed: nothing that they send arrives.
    ended: BTreeSet<ConnId>,
    /// Acknowledged in a transaction that is not answered; and whether it reached somebody since.
    asked: BTreeMap<(MessageId, Place), (ConnId, bool)>,
    /// For ever.
    durable: BTreeSet<(MessageId, Place)>,
}

impl Settled {
    fn settled(&mut self, held: Held) -> Result<(), String> {
        let key = (held.message, held.place);
        self.durable.insert(key);
        match self.asked.remove(&key) {
            Some((conn, true)) if conn == held.conn => {
                let (message, place) = key;
                Err(format!("message {message} of queue {place} was given to another meanwhile"))
            }
            _ => Ok(()),
        }
    }

    fn delivered(&mut self, came: &Delivered) -> Result<(), String> {
        let key = (came.message, came.place);
        let (message, place) = key;
        if self.durable.contains(&key) {
            return Err(format!("message {message} left queue {place} and came back"));
        }
        if self.fresh.contains_key(&key) {
            return Err(format!(
                "message {message} of queue {place} came back though its connection and the \
                 server live"
            ));
        }
        if let Some((_, has_come)) = self.asked.get_mut(&key) {
            *has_come = true;
        }
        Ok(())
    }

    /// What it says from now on is not heard.
    fn deaf(&mut self, conn: ConnId) {
        self.ended.insert(conn);
    }
}

impl Invariant for Settled {
    fn name(&self) -> &'static str {
        "settled"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Step { input, .. } if !self.ended.contains(&input.conn) => {
                self.asked.insert((input.message, input.place), (input.conn, false));
            }
            Fact::Acked(held) if !self.ended.contains(&held.conn) => {
                let key = (held.message, held.place);
                let is_asked = self.asked.get(&key).is_some_and(|(conn, _)| *conn == held.conn);
                if !is_asked {
                    self.fresh.insert(key, held.conn);
                }
            }
            Fact::Undone(held) => {
                self.asked.remove(&(held.message, held.place));
            }
            Fact::Settled(held) => return self.settled(*held),
            Fact::Delivered(came) if !came.is_stale => return self.delivered(came),
            // What it said before still counts: the server hears it before the goodbye.
            Fact::Leaving(conn) => self.deaf(*conn),
            Fact::Ended(conn) | Fact::Dismissed(conn) => {
                self.deaf(*conn);
                self.fresh.retain(|_, owner| owner != conn);
                self.asked.retain(|_, (owner, _)| owner != conn);
            }
            Fact::Crashed(_) => {
                self.fresh.clear();
                self.asked.clear();
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Crash;
    use crate::invariants::try_history;

    const HELD: Held = Held { message: 5, place: 1, conn: 1 };

    fn came(conn: ConnId) -> Fact {
        Fact::Delivered(Delivered { message: 5, place: 1, conn, ..Delivered::default() })
    }

    fn check(history: &[Fact]) -> Result<(), String> {
        try_history(&mut Settled::default(), history)
    }

    #[test]
    fn a_settled_message_that_comes_back_is_an_objection() {
        assert!(check(&[Fact::Acked(HELD), came(2)]).is_err());
        assert_eq!(check(&[Fact::Acked(HELD), Fact::Ended(1), came(2)]), Ok(()));
        let crash = Fact::Crashed(Crash::Power);
        assert_eq!(check(&[Fact::Acked(HELD), crash.clone(), came(2)]), Ok(()));
        let durable = Fact::Settled(HELD);
        assert!(check(&[Fact::Acked(HELD), durable, Fact::Ended(1), crash, came(2)]).is_err());
    }

    #[test]
    fn an_acknowledgement_behind_the_goodbye_is_not_heard_and_one_before_it_is() {
        assert_eq!(check(&[Fact::Leaving(1), Fact::Acked(HELD), came(2)]), Ok(()));
        assert!(check(&[Fact::Acked(HELD), Fact::Leaving(1), came(2)]).is_err());
    }

    #[test]
    fn a_transaction_settles_only_with_its_answer() {
        let step = Fact::Step { input: HELD, result: 6, next: 7 };
        let asked = [step, Fact::Acked(HELD)];
        let story = |then: &[Fact]| check(&[&asked, then].concat());
        // Refused; the refusal is slower than the next delivery.
        assert_eq!(story(&[came(2), Fact::Undone(HELD)]), Ok(()));
        assert_eq!(story(&[Fact::Undone(HELD), came(2)]), Ok(()));
        assert_eq!(story(&[came(2), Fact::Ended(1)]), Ok(()));
        assert!(story(&[Fact::Settled(HELD), came(2)]).is_err());
        assert!(story(&[came(2), Fact::Settled(HELD)]).is_err(), "given away and said yes to");
        assert_eq!(story(&[Fact::Settled(HELD)]), Ok(()));
    }
}
