//! [`Doubts`]: objections that hold only if a transaction was not refused.
//!
//! A server that refuses a transaction closes its channel, and whatever was given out over it goes
//! back at once, to somebody else if need be; the client hears of it when the refusal has reached
//! it. Until then nothing can be said about what it has. So an objection waits for the answer: a
//! yes makes it count, a no or the end of the connection makes it void. Nothing is forgiven that
//! is not explained.
//!
//! Not an invariant itself: `invariants::owners` and `invariants::redelivery` object through it.

use std::collections::{BTreeMap, BTreeSet};

use crate::fact::{ConnId, Fact, MessageId};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Inputs of transactions that are not answered.
    asked: BTreeMap<ConnId, BTreeSet<MessageId>>,
    /// What to object, and whose refusals would explain it.
    waiting: Vec<(BTreeSet<ConnId>, String)>,
}

impl Doubts {
    /// Objects, unless the refusal of a transaction of one of these connections may explain it.
    pub(crate) fn object(
        &mut self,
        conns: impl Iterator<Item = ConnId>,
        detail: String,
    ) -> Result<(), String> {
        let open: BTreeSet<ConnId> = conns.filter(|conn| self.asked.contains_key(conn)).collect();
        if open.is_empty() {
            return Err(detail);
        }
        self.waiting.push((open, detail));
        Ok(())
    }

    /// Has to hear every fact before its owner does.
    pub(crate) fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Step { input, .. } => {
                self.asked.entry(input.conn).or_default().insert(input.message);
            }
            Fact::Settled(held) => return self.answered(held.conn, held.message),
            Fact::Undone(held) => self.explained(held.conn),
            Fact::Ended(conn) | Fact::Dismissed(conn) => self.explained(*conn),
            Fact::Crashed(_) => *self = Self::default(),
            _ => {}
        }
        Ok(())
    }

    /// Yes: this one explains nothing.
    fn answered(&mut self, conn: ConnId, input: MessageId) -> Result<(), String> {
        let Some(inputs) = self.asked.get_mut(&conn) else { return Ok(()) };
        inputs.remove(&input);
        if !inputs.is_empty() {
            return Ok(());
        }
        self.asked.remove(&conn);
        for (conns, detail) in &mut self.waiting {
            if conns.remove(&conn) && conns.is_empty() {
                return Err(std::mem::take(detail));
            }
        }
        Ok(())
    }

    fn explained(&mut self, conn: ConnId) {
        self.asked.remove(&conn);
        self.waiting.retain(|(conns, _)| !conns.contains(&conn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Held;

    fn step(conn: ConnId, message: MessageId) -> Fact {
        Fact::Step { input: Held { message, place: 1, conn }, result: 8, next: 9 }
    }

    #[test]
    fn an_objection_waits_for_the_answer_that_may_explain_it() {
        let held = |message| Held { message, place: 1, conn: 1 };
        let ask = |conns: &[ConnId], answers: &[Fact]| -> Result<(), String> {
            let mut doubts = Doubts::default();
            for fact in [step(1, 5), step(1, 6), step(2, 7)] {
                doubts.hear(&fact)?;
            }
            doubts.object(conns.iter().copied(), "it came back".to_owned())?;
            answers.iter().try_for_each(|fact| doubts.hear(fact))
        };
        assert!(ask(&[3], &[]).is_err(), "nothing was asked over it");
        assert_eq!(ask(&[1], &[]), Ok(()));
        assert_eq!(ask(&[1], &[Fact::Settled(held(5))]), Ok(()), "one answer of two");
        let yes = [Fact::Settled(held(5)), Fact::Settled(held(6))];
        assert!(ask(&[1, 3], &yes).is_err());
        assert_eq!(ask(&[1, 2], &yes), Ok(()), "the other may still explain it");
        assert_eq!(ask(&[1], &[&[Fact::Undone(held(5))], &yes[..]].concat()), Ok(()));
        assert_eq!(ask(&[1], &[&[Fact::Ended(1)], &yes[..]].concat()), Ok(()));
    }
}
