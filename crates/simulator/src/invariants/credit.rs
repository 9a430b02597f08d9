//! Nothing is pushed without credit: a consumer never has more unsettled deliveries than it asked
//! for.
//!
//! The client counts a delivery when it arrives and an acknowledgement when it leaves, so it sees
//! at most what the server counts. A client that consumes a second time over one connection starts
//! with new credit while it still holds the old deliveries; it is not counted any more.
//!
//! Promise: P14.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::fact::{ConnId, Delivered, Fact, Held, MessageId, Place};

#[derive(Debug, Default)]
struct Account {
    /// What was asked for; 0 is any number.
    credit: u16,
    consumers: u32,
    out: BTreeSet<(MessageId, Place)>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    accounts: BTreeMap<ConnId, Account>,
}

impl Credit {
    fn delivered(&mut self, came: &Delivered) -> Result<(), String> {
        if came.no_ack {
            return Ok(());
        }
        let Some(account) = self.accounts.get_mut(&came.conn) else { return Ok(()) };
        account.out.insert((came.message, came.place));
        let (out, credit) = (account.out.len(), account.credit);
        if account.consumers == 1 && credit > 0 && out > usize::from(credit) {
            return Err(format!(
                "connection {} has {out} unsettled messages and asked for {credit}",
                came.conn
            ));
        }
        Ok(())
    }

    fn settled(&mut self, held: &Held) {
        if let Some(account) = self.accounts.get_mut(&held.conn) {
            account.out.remove(&(held.message, held.place));
        }
    }
}

impl Invariant for Credit {
    fn name(&self) -> &'static str {
        "credit"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Asked(conn, credit) => self.accounts.entry(*conn).or_default().credit = *credit,
            Fact::Subscribed(conn, _) => self.accounts.entry(*conn).or_default().consumers += 1,
            Fact::Delivered(came) => return self.delivered(came),
            Fact::Acked(held) | Fact::Returned(held) | Fact::Rejected(held) => self.settled(held),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::try_history;

    fn came(message: MessageId) -> Fact {
        Fact::Delivered(Delivered { message, place: 1, conn: 1, ..Delivered::default() })
    }

    #[test]
    fn one_more_than_asked_for_is_an_objection() {
        let begin = [Fact::Asked(1, 2), Fact::Subscribed(1, 1), came(1), came(2)];
        let check =
            |then: &[Fact]| try_history(&mut Credit::default(), &[&begin[..], then].concat());
        assert!(check(&[came(3)]).is_err());
        let acked = Fact::Acked(Held { message: 1, place: 1, conn: 1 });
        assert_eq!(check(&[acked, came(3)]), Ok(()));
        assert_eq!(check(&[Fact::Subscribed(1, 1), came(3)]), Ok(()));
        assert_eq!(check(&[Fact::Asked(1, 0), came(3)]), Ok(()));
    }
}
