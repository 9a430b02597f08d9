//! One commit is all or nothing: of a transaction, the result is there if and only if the follower
//! is, and then the input is gone; what was rolled back is nowhere; and a message for several
//! queues is in all of them or in none.
//!
//! Promise: P2.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::fact::{Delivered, Fact, MessageId, Place};
use crate::garden::{Garden, Use};

#[derive(Debug)]
struct Step {
    input: (MessageId, Place),
    result: MessageId,
    next: MessageId,
    /// The input was given out again: this step has not happened.
    is_void: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct OneCommit {
    garden: Garden,
    steps: Vec<Step>,
    rolled_back: BTreeSet<MessageId>,
    /// Messages for several queues.
    wide: BTreeMap<MessageId, Vec<Place>>,
    /// What reached a client, where.
    seen: BTreeSet<(MessageId, Place)>,
    /// Inputs that the server said yes to.
    inputs: BTreeSet<MessageId>,
    confirmed: BTreeSet<MessageId>,
    gleaned: BTreeSet<MessageId>,
}

impl OneCommit {
    pub(crate) fn new(garden: &Garden) -> Self {
        Self {
            garden: garden.clone(),
            steps: Vec::new(),
            rolled_back: BTreeSet::new(),
            wide: BTreeMap::new(),
            seen: BTreeSet::new(),
            inputs: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            gleaned: BTreeSet::new(),
        }
    }

    fn delivered(&mut self, came: &Delivered) -> Result<(), String> {
        self.seen.insert((came.message, came.place));
        if self.rolled_back.contains(&came.message) {
            return Err(format!("message {} was rolled back and is there", came.message));
        }
        if came.is_gleaned {
            self.gleaned.insert(came.message);
        }
        if !came.is_stale {
            let key = (came.message, came.place);
            self.steps.iter_mut().filter(|step| step.input == key).for_each(|step| {
                step.is_void = true;
            });
        }
        Ok(())
    }

    fn is_seen(&self, message: MessageId) -> bool {
        self.seen.range((message, 0)..=(message, Place::MAX)).next().is_some()
    }

    fn check_steps(&self) -> Result<(), String> {
        let mut done: BTreeMap<MessageId, u32> = BTreeMap::new();
        for step in &self.steps {
            let (result, next) = (self.is_seen(step.result), self.is_seen(step.next));
            let input = step.input.0;
            if result != next {
                return Err(format!(
                    "of the step on input {input} result {} is {}there and follower {} is {}there",
                    step.result,
                    if result { "" } else { "not " },
                    step.next,
                    if next { "" } else { "not " },
                ));
            }
            if result && step.is_void {
                return Err(format!("input {input} came back although its result is there"));
            }
            *done.entry(input).or_default() += u32::from(result);
        }
        self.check_inputs(&done)
    }

    fn check_inputs(&self, done: &BTreeMap<MessageId, u32>) -> Result<(), String> {
        for input in self.inputs.intersection(&self.confirmed) {
            let times = done.get(input).copied().unwrap_or(0);
            let is_left = self.gleaned.contains(input);
            if times + u32::from(is_left) != 1 {
                return Err(format!(
                    "input {input} has {times} results and is {}in its queue",
                    if is_left { "" } else { "not " }
                ));
            }
        }
        Ok(())
    }

    fn check_wide(&self) -> Result<(), String> {
        for (message, targets) in &self.wide {
            let count = targets.iter().filter(|place| self.seen.contains(&(*message, **place)));
            let count = count.count();
            if count != 0 && count != targets.len() {
                let all = targets.len();
                return Err(format!("message {message} reached {count} of its {all} queues"));
            }
        }
        Ok(())
    }
}

impl Invariant for OneCommit {
    fn name(&self) -> &'static str {
        "one_commit"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Sent(sent) => {
                if sent.targets.len() > 1 {
                    self.wide.insert(sent.message, sent.targets.clone());
                }
                let first = sent.targets.first().and_then(|place| self.garden.get(*place));
                if first.is_some_and(|bed| bed.purpose == Use::Input) {
                    self.inputs.insert(sent.message);
                }
            }
            Fact::Confirmed(message, _) => {
                self.confirmed.insert(*message);
            }
            Fact::RolledBack(message) => {
                self.rolled_back.insert(*message);
            }
            Fact::Step { input, result, next } => self.steps.push(Step {
                input: (input.message, input.place),
                result: *result,
                next: *next,
                is_void: false,
            }),
            Fact::Delivered(came) => return self.delivered(came),
            Fact::End => return self.check_steps().and_then(|()| self.check_wide()),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::fact::{Held, Sent};
    use crate::invariants::try_history;

    fn came(message: MessageId, place: Place) -> Fact {
        Fact::Delivered(Delivered { message, place, ..Delivered::default() })
    }

    fn check(history: &[Fact]) -> Result<(), String> {
        let garden = Garden::lay_out(&mut Dice::new(1));
        try_history(&mut OneCommit::new(&garden), history)
    }

    #[test]
    fn half_a_step_is_an_objection() {
        let input = Held { message: 1, place: 5, conn: 1 };
        let step = Fact::Step { input, result: 2, next: 3 };
        assert_eq!(check(&[step.clone(), came(2, 6), came(3, 7), Fact::End]), Ok(()));
        assert_eq!(check(&[step.clone(), Fact::End]), Ok(()));
        assert!(check(&[step.clone(), came(2, 6), Fact::End]).is_err());
        assert!(check(&[step.clone(), came(3, 7), Fact::End]).is_err());
        assert!(check(&[step, came(1, 5), came(2, 6), came(3, 7), Fact::End]).is_err());
    }

    #[test]
    fn what_was_rolled_back_must_be_nowhere() {
        assert!(check(&[Fact::RolledBack(4), came(4, 6)]).is_err());
    }

    #[test]
    fn one_of_two_queues_is_an_objection() {
        let sent = Fact::Sent(Sent { message: 1, targets: vec![2, 3], ..Sent::default() });
        assert_eq!(check(&[sent.clone(), came(1, 2), came(1, 3), Fact::End]), Ok(()));
        assert!(check(&[sent, came(1, 3), Fact::End]).is_err());
    }

    #[test]
    fn a_confirmed_input_is_done_once_or_still_there() {
        let mut garden = Garden::lay_out(&mut Dice::new(1));
        garden.beds[1].purpose = Use::Input;
        let sent = Fact::Sent(Sent { message: 1, targets: vec![1], ..Sent::default() });
        let story = |then: &[Fact]| {
            let begin = [sent.clone(), Fact::Confirmed(1, 0)];
            try_history(&mut OneCommit::new(&garden), &[&begin, then].concat())
        };
        assert!(story(&[Fact::End]).is_err(), "neither done nor there");
        let input = Held { message: 1, place: 1, conn: 1 };
        let step = |result, next| Fact::Step { input, result, next };
        let done = [step(2, 3), came(2, 6), came(3, 7), Fact::End];
        assert_eq!(story(&done), Ok(()));
        let twice = [step(2, 3), step(4, 5), came(2, 6), came(3, 7), came(4, 6), came(5, 7)];
        assert!(story(&[&twice[..], &[Fact::End]].concat()).is_err());
    }
}
