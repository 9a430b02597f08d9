//! Once faults have stopped the server heals: nothing is stuck, nothing stays in a queue that has
//! a willing consumer.
//!
//! Promise: P13.

use super::Invariant;
use crate::fact::Fact;
use crate::garden::{Garden, Use};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Progress {
    garden: Garden,
}

impl Progress {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self { garden: garden.clone() }
    }
}

impl Invariant for Progress {
    fn name(&self) -> &'static str {
        "progress"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Stuck(what) => Err(what.clone()),
            Fact::Delivered(came) if came.is_gleaned => {
                let bed = self.garden.get(came.place);
                let Some(bed) = bed.filter(|bed| bed.purpose == Use::Work) else { return Ok(()) };
                Err(format!("message {} was left in {} with a consumer", came.message, bed.name))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::fact::Delivered;

    #[test]
    fn a_stuck_run_and_a_message_left_behind_are_objections() {
        let mut progress = Progress::new(&Garden::lay_out(&mut Dice::new(1)));
        assert!(progress.hear(&Fact::Stuck("a stage does not end".to_owned())).is_err());
        let left = |is_gleaned| Delivered { place: 1, is_gleaned, ..Delivered::default() };
        assert!(progress.hear(&Fact::Delivered(left(true))).is_err());
        assert_eq!(progress.hear(&Fact::Delivered(left(false))), Ok(()));
    }
}
