//! A worker's completion is all or nothing: the result of an input is there if and only if what
//! follows it is, exactly once, and then the input is gone; what the server said is stored stays;
//! an input that is finished is not handed out to anybody who asks after that; and an input that
//! the server took is finished or still there.
//!
//! Promise: P1, P2, P4.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::fact::{Fact, MessageId, WorkFact};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    taken_in: BTreeSet<MessageId>,
    /// By result: input and follower.
    steps: BTreeMap<MessageId, (MessageId, MessageId)>,
    /// By input: its result, and how many asks had been made.
    stored: BTreeMap<MessageId, (MessageId, u32)>,
    finished: BTreeSet<MessageId>,
    results: BTreeMap<MessageId, MessageId>,
    left: BTreeSet<MessageId>,
    nexts: BTreeMap<MessageId, u32>,
    is_read: bool,
}

impl Completions {
    fn hear_work(&mut self, fact: &WorkFact) -> Result<(), String> {
        match *fact {
            WorkFact::Put(_) => {}
            WorkFact::PutDone(input) => {
                self.taken_in.insert(input);
            }
            WorkFact::Taken { input, asked } => {
                if self.stored.get(&input).is_some_and(|(_, heard)| *heard <= asked) {
                    return Err(format!("input {input} is finished and was handed out"));
                }
            }
            WorkFact::Step { input, result, next } => {
                self.steps.insert(result, (input, next));
            }
            WorkFact::Stored { input, result, asked } => {
                if let Some((other, _)) = self.stored.insert(input, (result, asked)) {
                    return Err(format!("input {input} has the results {other} and {result}"));
                }
            }
            WorkFact::KeptFirst(input) => {
                return Err(format!("input {input} was open although it has a result"));
            }
            WorkFact::FinishedBefore(input) => {
                self.finished.insert(input);
            }
            WorkFact::Result { input, result } => {
                self.results.insert(input, result);
            }
            WorkFact::LeftInput(input) => {
                self.left.insert(input);
            }
            WorkFact::LeftNext(next) => *self.nexts.entry(next).or_default() += 1,
            WorkFact::ReadBack => self.is_read = true,
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if !self.is_read {
            return if self.taken_in.is_empty() {
                Ok(())
            } else {
                Err("nobody read back what workers left".to_owned())
            };
        }
        for (input, result) in &self.results {
            let step = self.steps.get(result).filter(|(of, _)| of == input);
            let Some((_, next)) = step else {
                return Err(format!("result {result} of input {input} was never sent"));
            };
            let times = self.nexts.get(next).copied().unwrap_or(0);
            if times != 1 {
                return Err(format!("input {input} has a result and {times} followers {next}"));
            }
            if self.left.contains(input) {
                return Err(format!("input {input} has a result and is still there"));
            }
        }
        if self.nexts.len() != self.results.len() {
            let (nexts, results) = (self.nexts.len(), self.results.len());
            return Err(format!("there are {nexts} followers of {results} results"));
        }
        self.check_promises()
    }

    fn check_promises(&self) -> Result<(), String> {
        for (input, (result, _)) in &self.stored {
            if self.results.get(input) != Some(result) {
                return Err(format!("result {result} of input {input} was stored and is gone"));
            }
        }
        let missing = self.finished.iter().find(|input| !self.results.contains_key(*input));
        if let Some(input) = missing {
            return Err(format!("input {input} was said to be finished and has no result"));
        }
        let is_somewhere =
            |input: &MessageId| self.left.contains(input) || self.results.contains_key(input);
        match self.taken_in.iter().find(|input| !is_somewhere(input)) {
            Some(input) => Err(format!("input {input} was taken in and is nowhere")),
            None => Ok(()),
        }
    }
}

impl Invariant for Completions {
    fn name(&self) -> &'static str {
        "completions"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Work(fact) => self.hear_work(fact),
            Fact::End => self.check(),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::try_history;

    const STEP: WorkFact = WorkFact::Step { input: 1, result: 2, next: 3 };
    const STORED: WorkFact = WorkFact::Stored { input: 1, result: 2, asked: 9 };
    const RESULT: WorkFact = WorkFact::Result { input: 1, result: 2 };
    const NEXT: WorkFact = WorkFact::LeftNext(3);
    const LEFT: WorkFact = WorkFact::LeftInput(1);

    fn check(history: &[WorkFact]) -> Result<(), String> {
        let begin = [WorkFact::Put(1), WorkFact::PutDone(1), STEP];
        let all = begin.iter().chain(history).chain([&WorkFact::ReadBack]).cloned();
        let mut facts: Vec<Fact> = all.map(Fact::Work).collect();
        facts.push(Fact::End);
        try_history(&mut Completions::default(), &facts)
    }

    #[test]
    fn a_whole_step_and_none_are_fine() {
        assert_eq!(check(&[STORED, RESULT, NEXT]), Ok(()));
        assert_eq!(check(&[RESULT, NEXT]), Ok(()));
        assert_eq!(check(&[LEFT]), Ok(()));
        let early = WorkFact::Taken { input: 1, asked: 8 };
        assert_eq!(check(&[STORED, early, RESULT, NEXT]), Ok(()));
    }

    #[test]
    fn half_a_step_is_an_objection() {
        for history in [
            vec![RESULT],
            vec![LEFT, NEXT],
            vec![RESULT, NEXT, NEXT],
            vec![RESULT, NEXT, LEFT],
            vec![],
        ] {
            assert!(check(&history).is_err(), "{history:?}");
        }
    }

    #[test]
    fn what_was_said_must_be_so() {
        let other = WorkFact::Stored { input: 1, result: 7, asked: 9 };
        let late = WorkFact::Taken { input: 1, asked: 9 };
        for history in [
            vec![STORED, LEFT],
            vec![STORED, other, RESULT, NEXT],
            vec![WorkFact::FinishedBefore(1), LEFT],
            vec![WorkFact::KeptFirst(1), RESULT, NEXT],
            vec![STORED, late, RESULT, NEXT],
        ] {
            assert!(check(&history).is_err(), "{history:?}");
        }
    }
}
