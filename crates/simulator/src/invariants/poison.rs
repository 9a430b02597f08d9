//! A queue with a delivery limit of N hands a message out at most N + 1 times between two crashes
//! of the server (what a crash itself returns is not counted), and never shows a count above N.
//!
//! Promise: P6.

use std::collections::BTreeMap;

use super::Invariant;
use crate::fact::{Fact, MessageId, Place};
use crate::garden::Garden;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Poison {
    garden: Garden,
    /// Since the last crash.
    times: BTreeMap<(MessageId, Place), u64>,
}

impl Poison {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { garden: garden.clone(), times: BTreeMap::new() }
    }
}

impl Invariant for Poison {
    fn name(&self) -> &'static str {
        "poison"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Delivered(came) if !came.is_stale => {
                let bed = self.garden.get(came.place);
                let Some(max) = bed.and_then(|bed| bed.delivery_max) else { return Ok(()) };
                let times = self.times.entry((came.message, came.place)).or_default();
                *times += 1;
                let count = came.count.unwrap_or(0);
                if *times > u64::from(max) + 1 || count > u64::from(max) {
                    return Err(format!(
                        "message {} was given out {times} times (count {count}), limit {max}",
                        came.message
                    ));
                }
            }
            Fact::Crashed(_) => self.times.clear(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Delivered;
    use crate::garden::{Bed, Use};
    use crate::invariants::try_history;

    #[test]
    fn one_delivery_too_many_is_an_objection() {
        let bed = Bed { delivery_max: Some(1), ..Bed::plain("q", Use::Limited) };
        let garden = Garden { beds: vec![bed], ..Garden::default() };
        let came = Fact::Delivered(Delivered::default());
        let check = |history: &[Fact]| try_history(&mut Poison::new(&garden), history);
        assert_eq!(check(&[came.clone(), came.clone()]), Ok(()));
        assert!(check(&[came.clone(), came.clone(), came]).is_err());
        let shown = Delivered { count: Some(2), ..Delivered::default() };
        assert!(check(&[Fact::Delivered(shown)]).is_err());
    }
}
