//! How the claim of a job ends when it is not done: given back, laid aside, its lease over, its
//! holder gone. Called by whoever ends it (`job.rs`, `lease.rs`, `attempt.rs`), and at the end of a
//! channel.

use model::{Attempt, AttemptEnd, Failure, Log, SessionId};

use super::attempt::append_ended;
use super::{Claims, seconds_from};
use crate::Engine;
use crate::channel::{Slot, Turn};
use crate::dead_letter::Reason;
use crate::dispatch::Loss;
use crate::fifo::Entry;
use crate::loose::{Shift, Why};

/// How a claim of a job ends, unless it is done.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub why: Why,
    /// `None`: as it was.
    pub rank: Option<u32>,
    pub delay_s: u32,
    /// It was a worker's attempt.
    pub attempt: Option<Box<Attempt>>,
}

impl Engine {
    /// Ends the claim of a job that was taken from its channel; the job goes to stand outside the
    /// lines of its queue. Returns whether it is buried now.
    pub(super) fn end_claim<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        slot: &Slot,
        ending: &Ending,
    ) -> bool {
        let Some(queue) = self.state.queues.get_mut(&slot.queue) else {
            // The queue was deleted meanwhile, and with it, in the log, this job.
            self.state.holdings.release(&slot.entry());
            return false;
        };
        queue.unsettled -= 1;
        let place = (slot.queue, slot.level, slot.seq);
        let is_once_too_often = match &ending.attempt {
            None => queue.returns_max().is_some_and(|max| slot.returns.saturating_add(1) > max),
            // Only what is the job's own fault counts.
            Some(attempt) => {
                let most = self.limits.job_failures_max;
                attempt.end == AttemptEnd::Failed
                    && queue.is_last_failure(slot, &attempt.failure, most)
            }
        };
        let is_dead = is_once_too_often && queue.spec.options.dead_letter_exchange.is_some();
        if is_dead && ending.attempt.is_none() {
            queue.will_change(turn.log.next_lsn());
            let mut loss =
                Loss { now: turn.now(), graves: &mut self.graves, runs: &mut self.scratch.runs };
            let end = (place, slot.entry());
            loss.end(queue, &mut self.state.holdings, end, Reason::DeliveryLimit);
            self.write_settles(turn);
            self.state.wake(slot.queue);
            return false;
        }
        let is_buried = (is_once_too_often && !is_dead) || ending.why == Why::Buried;
        let (rank, delay_s) = queue.stays(slot.level, slot.seq);
        let is_delayed = ending.delay_s > 0 && !is_buried;
        let shift = Shift {
            queue: slot.queue,
            level: slot.level,
            seq: slot.seq,
            why: ending.why,
            was_claimed: true,
            is_buried,
            rank: ending.rank.unwrap_or(rank),
            due: if is_delayed { seconds_from(turn.now(), ending.delay_s) } else { 0 },
            delay_s: match ending.why {
                Why::Released | Why::Failed => ending.delay_s,
                Why::TimedOut | Why::Buried | Why::Kicked | Why::Lost => delay_s,
            },
        };
        match &ending.attempt {
            None => self.write_shift(turn, &shift, Some(slot.entry())),
            Some(attempt) => self.write_attempt(turn, (&shift, attempt), slot.entry()),
        }
        if is_dead {
            self.bury_failed(turn, slot);
        }
        is_buried || is_dead
    }

    /// Writes the end of an attempt down and carries it out.
    fn write_attempt<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (shift, attempt): (&Shift, &Attempt),
        held: Entry,
    ) {
        let changed = append_ended(turn.log, &mut self.scratch.head, (shift, attempt));
        self.state.end_attempt((shift, attempt), Some(held), changed);
        if let Some(queue) = self.state.queues.get_mut(&shift.queue) {
            queue.changed = changed;
        }
        self.state.wake(shift.queue);
    }

    /// A job that failed for the last time and stands outside the lines now goes to the
    /// dead-letter exchange, with its attempts.
    fn bury_failed<L: Log>(&mut self, turn: &mut Turn<'_, L>, slot: &Slot) -> Option<()> {
        let queue = self.state.queues.get_mut(&slot.queue)?;
        let head = queue.pop_loose(slot.stored.lsn()?)?;
        queue.will_change(turn.log.next_lsn());
        let mut loss =
            Loss { now: turn.now(), graves: &mut self.graves, runs: &mut self.scratch.runs };
        let end = ((slot.queue, head.level, head.taken.seq), head.taken.entry);
        loss.end(queue, &mut self.state.holdings, end, Reason::DeliveryLimit);
        self.write_settles(turn);
        self.state.wake(slot.queue);
        Some(())
    }

    /// The jobs of a channel that ends go back. Whatever can stand in its line again does.
    pub(crate) fn lose_claims<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (session, number): (SessionId, u16),
        (claims, slots): (&Claims, &mut Vec<Slot>),
    ) {
        if claims.is_worker {
            for slot in slots.drain(..) {
                self.takers.forget(&slot);
                let end = (AttemptEnd::Lost, Failure::default());
                let ending = self.ending_of(turn.now(), session, end);
                self.end_claim(turn, &slot, &ending);
            }
            self.end_claims(session, number, claims);
            return;
        }
        let ending = Ending { why: Why::Lost, rank: None, delay_s: 0, attempt: None };
        let is_buried_when_lost = |engine: &Self, slot: &Slot| {
            let queue = engine.state.queues.get(&slot.queue);
            queue.is_some_and(|queue| {
                queue.spec.options.dead_letter_exchange.is_none()
                    && queue.returns_max().is_some_and(|max| slot.returns >= max)
            })
        };
        let mut picked = Vec::new();
        slots.retain(|slot| {
            let stays = !slot.is_picked && !is_buried_when_lost(self, slot);
            if !stays {
                picked.push(slot.clone());
            }
            stays
        });
        for slot in &picked {
            self.end_claim(turn, slot, &ending);
        }
        self.end_claims(session, number, claims);
    }
}
