//! [`Confirms`]: which publishes are still without the server's yes or no.
//! Not here: what a publish was; `session` numbers them as the protocol does, from 1.

use std::collections::VecDeque;

/// Outstanding publishes of one channel in confirm mode, in publish order.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// Number of the oldest entry of `open`, minus one.
    settled_before: u64,
    /// True: still without an answer. The front entry is always true.
    open: VecDeque<bool>,
    outstanding: usize,
}

impl Confirms {
    /// Notes one publish; returns its number.
    pub(super) fn publish(&mut self) -> u64 {
        self.open.push_back(true);
        self.outstanding += 1;
        self.settled_before + self.open.len() as u64
    }

    /// How many have no answer yet.
    pub(super) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Notes an answer and yields the numbers that it settles, in order.
    pub(super) fn settle(&mut self, number: u64, is_multiple: bool) -> Vec<u64> {
        let mut settled = Vec::new();
        let first = if is_multiple { self.settled_before + 1 } else { number };
        for number in first..=number {
            let index = number.checked_sub(self.settled_before + 1);
            let slot = index.and_then(|index| self.open.get_mut(usize::try_from(index).ok()?));
            if let Some(is_open) = slot
                && std::mem::replace(is_open, false)
            {
                self.outstanding -= 1;
                settled.push(number);
            }
        }
        while self.open.front() == Some(&false) {
            self.open.pop_front();
            self.settled_before += 1;
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_out_of_order_settle_each_number_once() {
        let mut confirms = Confirms::default();
        assert_eq!((0..6).map(|_| confirms.publish()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(confirms.settle(3, false), [3]);
        assert!(confirms.settle(3, false).is_empty());
        assert_eq!(confirms.settle(4, true), [1, 2, 4]);
        assert_eq!(confirms.outstanding(), 2);
        assert!(confirms.settle(9, false).is_empty());
        assert_eq!(confirms.settle(6, true), [5, 6]);
        assert_eq!((confirms.outstanding(), confirms.publish()), (0, 7));
    }
}
