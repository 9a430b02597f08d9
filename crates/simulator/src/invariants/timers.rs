//! Timers are never early: nothing expires before its time to live has passed, nothing delayed
//! comes before its delay has; and what has expired is not given out any more. All against the
//! server's own clock, whatever that shows.
//!
//! Promise: P8.

use std::collections::BTreeMap;

use super::Invariant;
use crate::fact::{Delivered, Fact, MessageId};
use crate::garden::{Garden, Use};

#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_field_names, reason = "numbers carry their unit")]
struct Known {
    /// The server's clock showed this, or later, when it took the message.
    sent_ms: u64,
    /// It showed this, or earlier.
    confirmed_ms: Option<u64>,
    ttl_ms: Option<u64>,
    delay_ms: Option<u64>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Timers {
    garden: Garden,
    messages: BTreeMap<MessageId, Known>,
}

impl Timers {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { garden: garden.clone(), messages: BTreeMap::new() }
    }

    fn delivered(&self, came: &Delivered) -> Result<(), String> {
        let Some(known) = self.messages.get(&came.message) else { return Ok(()) };
        let since = came.log_ms.saturating_sub(known.sent_ms);
        let purpose = self.garden.get(came.place).map(|bed| bed.purpose);
        let message = came.message;
        if let (Some(Use::Delayed), Some(delay)) = (purpose, known.delay_ms)
            && since < delay
        {
            return Err(format!("message {message} came after {since} ms, delayed by {delay}"));
        }
        if came.reason.as_deref() == Some("expired")
            && let Some(ttl) = known.ttl_ms
            && since < ttl
        {
            return Err(format!("message {message} expired after {since} ms, living for {ttl}"));
        }
        if let (Some(Use::Timed), Some(ttl)) = (purpose, known.ttl_ms)
            && let (Some(asked), Some(confirmed)) = (came.asked_ms, known.confirmed_ms)
            && asked > confirmed + ttl
        {
            let age = asked - confirmed;
            return Err(format!("message {message} was given out at {age} ms, living for {ttl}"));
        }
        Ok(())
    }
}

impl Invariant for Timers {
    fn name(&self) -> &'static str {
        "timers"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Sent(sent) if sent.ttl_ms.is_some() || sent.delay_ms.is_some() => {
                let (ttl_ms, delay_ms) = (sent.ttl_ms, sent.delay_ms);
                let (sent_ms, confirmed_ms) = (sent.log_ms, None);
                let known = Known { sent_ms, confirmed_ms, ttl_ms, delay_ms };
                self.messages.insert(sent.message, known);
            }
            Fact::Confirmed(message, log_ms) => {
                if let Some(known) = self.messages.get_mut(message) {
                    known.confirmed_ms = Some(*log_ms);
                }
            }
            Fact::SetBack => self.messages.clear(),
            Fact::Delivered(came) => return self.delivered(came),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Place, Sent};
    use crate::garden::Bed;
    use crate::invariants::try_history;

    fn check(history: &[Fact]) -> Result<(), String> {
        let mut garden = Garden::default();
        for purpose in [Use::Dead, Use::Timed, Use::Delayed] {
            garden.beds.push(Bed::plain("a", purpose));
        }
        try_history(&mut Timers::new(&garden), history)
    }

    fn came(place: Place, log_ms: u64, reason: Option<&str>) -> Delivered {
        let reason = reason.map(str::to_owned);
        Delivered { message: 1, place, log_ms, reason, ..Delivered::default() }
    }

    #[test]
    fn an_early_letter_is_an_objection() {
        let sent = Sent { message: 1, log_ms: 100, ttl_ms: Some(50), ..Sent::default() };
        let sent = Fact::Sent(sent);
        let dead = |log_ms| Fact::Delivered(came(0, log_ms, Some("expired")));
        assert!(check(&[sent.clone(), dead(149)]).is_err());
        assert_eq!(check(&[sent.clone(), dead(150)]), Ok(()));
        assert_eq!(check(&[sent, Fact::SetBack, dead(120)]), Ok(()));
        let sent = Sent { message: 1, log_ms: 100, delay_ms: Some(50), ..Sent::default() };
        let late = |log_ms| Fact::Delivered(came(2, log_ms, None));
        assert!(check(&[Fact::Sent(sent.clone()), late(149)]).is_err());
        assert_eq!(check(&[Fact::Sent(sent), late(150)]), Ok(()));
    }

    #[test]
    fn an_expired_message_that_is_given_out_is_an_objection() {
        let sent = Sent { message: 1, log_ms: 100, ttl_ms: Some(50), ..Sent::default() };
        let got =
            |asked| Fact::Delivered(Delivered { asked_ms: Some(asked), ..came(1, asked, None) });
        let story = |asked| [Fact::Sent(sent.clone()), Fact::Confirmed(1, 110), got(asked)];
        assert!(check(&story(161)).is_err());
        assert_eq!(check(&story(160)), Ok(()));
    }
}
