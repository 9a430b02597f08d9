//! What was settled stays settled: an acknowledged message does not come back while its connection
//! and the server live, and never once the server has shown that it knows.
//!
//! Promise: P2, P3.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::fact::{ConnId, Fact, MessageId, Place};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Acknowledged over a connection that lives, on a server that has not crashed since.
    fresh: BTreeMap<(MessageId, Place), ConnId>,
    /// Connections whose server's end is closed: nothing that they send arrives.
    ended: BTreeSet<ConnId>,
    /// For ever.
    durable: BTreeSet<(MessageId, Place)>,
}

impl Invariant for Settled {
    fn name(&self) -> &'static str {
        "settled"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Acked(held) if !self.ended.contains(&held.conn) => {
                self.fresh.insert((held.message, held.place), held.conn);
            }
            Fact::Undone(held) => {
                self.fresh.remove(&(held.message, held.place));
            }
            Fact::Settled(held) => {
                self.durable.insert((held.message, held.place));
            }
            Fact::Delivered(came) if !came.is_stale => {
                let key = (came.message, came.place);
                if self.durable.contains(&key) {
                    let (message, place) = key;
                    return Err(format!("message {message} left queue {place} and came back"));
                }
                if self.fresh.contains_key(&key) {
                    let (message, place) = key;
                    return Err(format!(
                        "message {message} of queue {place} came back though its connection and \
                         the server live"
                    ));
                }
            }
            Fact::Ended(conn) | Fact::Dismissed(conn) => {
                self.ended.insert(*conn);
                self.fresh.retain(|_, owner| owner != conn);
            }
            Fact::Crashed(_) => self.fresh.clear(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Crash, Delivered, Held};
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
        assert_eq!(check(&[Fact::Acked(HELD), Fact::Undone(HELD), came(2)]), Ok(()));
        let durable = Fact::Settled(HELD);
        assert!(check(&[Fact::Acked(HELD), durable, Fact::Ended(1), crash, came(2)]).is_err());
    }
}
