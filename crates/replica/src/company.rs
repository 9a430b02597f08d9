//! [`Company`]: whether one session has the server to itself.
//!
//! Lives here: who asked last, and since when nobody else has. Not here: what is done about it
//! (`Node::commit`). Called by `node`.

use model::{Millis, SessionId};

/// Whoever has asked for something within this time may do so again: it must not wait behind
/// another's flush.
const LATELY_MS: u64 = 5;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Company {
    last: Option<SessionId>,
    /// When the last one took over from somebody else.
    since: Millis,
}

impl Company {
    /// This session asks for something.
    pub(crate) fn note(&mut self, now: Millis, from: SessionId) {
        if self.last != Some(from) {
            self.last = Some(from);
            self.since = now;
        }
    }

    /// Whether nobody but the last one has asked for anything lately.
    pub(crate) fn is_alone(&self, now: Millis) -> bool {
        now >= self.since.plus(LATELY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_take_turns_are_never_alone() {
        let mut company = Company::default();
        for now in 100..200 {
            company.note(Millis(now), SessionId(now % 2));
            assert!(!company.is_alone(Millis(now)));
        }
        for now in 200..300 {
            company.note(Millis(now), SessionId(1));
            assert_eq!(company.is_alone(Millis(now)), now >= 204, "{now}");
        }
        assert!(!company.is_alone(Millis(50)), "a clock that was set back");
    }
}
