//! When queues do something by themselves: the head expires, a delay or a pause ends, or the unused
//! queue goes. One timer
//! per queue, set lazily: it may go off too early for the present head and is then set anew.
//! Delayed messages keep their own order in `delayed.rs`.

use std::collections::BTreeSet;

use model::{Log, QueueId};

use crate::Engine;
use crate::channel::Turn;
use crate::fifo::NEVER;
use crate::queue::Queue;

/// All set timers (ms since 1970).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(u64, QueueId)>,
}

impl Timers {
    /// The earliest.
    pub(crate) fn next(&self) -> Option<u64> {
        self.set.first().map(|(time, _)| *time)
    }

    /// Sets the timer of a queue when it needs to go off earlier than it would.
    pub(crate) fn arm(&mut self, queue: &mut Queue) {
        let time = queue.next_time();
        if time < queue.timer {
            self.set.remove(&(queue.timer, queue.id));
            self.set.insert((time, queue.id));
            queue.timer = time;
        }
    }

    /// The queue is gone.
    pub(crate) fn forget(&mut self, queue: &Queue) {
        self.set.remove(&(queue.timer, queue.id));
    }

    fn pop(&mut self, now: u64) -> Option<QueueId> {
        let first = self.set.first().copied().filter(|(time, _)| *time <= now)?;
        self.set.remove(&first);
        Some(first.1)
    }
}

impl Engine {
    /// Lets every due timer go off: unused queues are deleted, the others are looked after.
    pub(crate) fn ring<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        let mut due = Vec::new();
        while let Some(id) = self.timers.pop(turn.now()) {
            due.push(id);
        }
        for id in due {
            let Some(queue) = self.state.queues.get_mut(&id) else { continue };
            queue.timer = NEVER;
            queue.rung_at = turn.now();
            if queue.unused_until() <= turn.now() {
                self.remove_queue(turn, id);
            } else {
                self.state.wake(id);
            }
        }
    }
}
