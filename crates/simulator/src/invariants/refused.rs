//! What a client refused for good never comes back to it or to another from the same queue, as
//! long as the server can have heard the refusal.
//!
//! Promise: P6.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::fact::{ConnId, Fact, MessageId, Place};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// By whom. The refusal may be lost with the connection or with the server.
    refused: BTreeMap<(MessageId, Place), ConnId>,
    /// Connections whose server's end is closed: nothing that they send arrives.
    ended: BTreeSet<ConnId>,
}

impl Invariant for Refused {
    fn name(&self) -> &'static str {
        "refused"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Rejected(held) if !self.ended.contains(&held.conn) => {
                self.refused.insert((held.message, held.place), held.conn);
            }
            Fact::Delivered(came) if !came.is_stale => {
                let (message, place) = (came.message, came.place);
                if self.refused.contains_key(&(message, place)) {
                    return Err(format!(
                        "message {message} of queue {place} came back although it was refused"
                    ));
                }
            }
            Fact::Ended(conn) | Fact::Leaving(conn) | Fact::Dismissed(conn) => {
                self.ended.insert(*conn);
                self.refused.retain(|_, owner| owner != conn);
            }
            Fact::Crashed(_) => self.refused.clear(),
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

    #[test]
    fn a_refused_message_that_comes_back_is_an_objection() {
        let held = Fact::Rejected(Held { message: 5, place: 1, conn: 1 });
        let came = |place| {
            Fact::Delivered(Delivered { message: 5, place, conn: 2, ..Delivered::default() })
        };
        let check = |history: &[Fact]| try_history(&mut Refused::default(), history);
        assert!(check(&[held.clone(), came(1)]).is_err());
        assert_eq!(check(&[held.clone(), came(2)]), Ok(()), "its dead letter");
        assert_eq!(check(&[held.clone(), Fact::Ended(1), came(1)]), Ok(()));
        assert_eq!(check(&[held, Fact::Crashed(Crash::Power), came(1)]), Ok(()));
    }
}
