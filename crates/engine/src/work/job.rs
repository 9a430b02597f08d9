//! What is done with one job: deleted, given back, laid aside, kicked. A job is found by its id:
//! with whoever claimed it, or in its queue. How a claim ends is `end.rs`, looking at it `look.rs`.

use model::{JobId, JobState, JobVerb, Log, Lsn, QueueId, Refusal, Reply, Verb, WorkCount};

use super::end::Ending;
use super::give::Wish;
use super::seconds_from;
use crate::Engine;
use crate::channel::{Asker, Slot, Turn};
use crate::fifo::Entry;
use crate::loose::{self, Shift, Why};
use crate::record::{self, Run};
use crate::settle::End;

/// Most jobs kicked by one request: each is a record.
const KICKS_MAX: u64 = 65_536;

/// Where a job stands that nobody has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub queue: QueueId,
    pub level: u8,
    pub seq: u64,
    pub state: JobState,
}

impl Engine {
    /// `Request::Job`.
    pub(crate) fn job<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (id, verb): (JobId, JobVerb),
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), count_of(verb));
        self.entered(asker)?;
        let ending = |why, rank, delay_s| Ending { why, rank: Some(rank), delay_s, attempt: None };
        let is_there = match verb {
            JobVerb::Claim => self.claim_by_id(turn, asker, id),
            JobVerb::Look | JobVerb::Describe => self.look(turn, asker, id),
            JobVerb::Delete => self.delete_job(turn, asker, id),
            JobVerb::Renew => self.renew(turn, asker, id),
            JobVerb::Kick => self.kick_job(turn, asker, id),
            JobVerb::Release { rank, delay_s } => {
                self.give_up(turn, asker, (id, ending(Why::Released, rank, delay_s)))
            }
            JobVerb::Bury { rank } => self.give_up(turn, asker, (id, ending(Why::Buried, rank, 0))),
        };
        if is_there.is_none() {
            // What was seen to be gone must be gone for good.
            let gate = turn.log.next_lsn();
            turn.reply(asker, gate, Reply::Empty);
        }
        Ok(())
    }

    /// Finds a job that nobody has: first where the asker works, then everywhere it may read.
    pub(super) fn find_job(&self, asker: Asker, id: JobId) -> Option<Found> {
        let vhost = self.entered(asker).ok()?;
        let channel = self.sessions.channel(asker.session, asker.channel);
        let used = channel.and_then(|it| it.claims.as_ref()?.used);
        let lsn = Lsn(id.0);
        let look = |queue: &crate::queue::Queue| {
            let (level, seq, state) = queue.find(lsn)?;
            Some(Found { queue: queue.id, level, seq, state })
        };
        let near = used.and_then(|used| self.state.queues.get(&used)).and_then(|queue| look(queue));
        let found = near.or_else(|| {
            let mut all = self.state.queues.values();
            all.find_map(|queue| {
                (queue.vhost == vhost && !queue.id.is_volatile()).then(|| look(queue))?
            })
        })?;
        let name = self.state.queues.get(&found.queue).map(|queue| &queue.name)?;
        self.check_queue(asker, Verb::Read, name).is_ok().then_some(found)
    }

    /// The tag of an own claim.
    fn held(&self, asker: Asker, id: JobId) -> Option<u64> {
        self.sessions.channel(asker.session, asker.channel)?.held(id)
    }

    /// Takes an own claim out of its channel.
    fn take_held(&mut self, asker: Asker, id: JobId) -> Option<Slot> {
        let channel = self.sessions.channel_mut(asker.session, asker.channel)?;
        let tag = channel.claims.as_mut()?.held.remove(&id.0)?;
        channel.unsettled.take(tag)
    }

    fn delete_job<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        id: JobId,
    ) -> Option<()> {
        let queue = if let Some(slot) = self.take_held(asker, id) {
            let queue = slot.queue;
            let mut slots = std::mem::take(&mut self.scratch.slots);
            slots.push(slot);
            self.end_deliveries(turn, &mut slots, End::Ack);
            self.scratch.slots = slots;
            queue
        } else {
            let found = self.find_job(asker, id).filter(|it| it.state != JobState::Claimed)?;
            let run = Run::one(found.queue, found.level, found.seq);
            let queue = self.state.queues.get_mut(&found.queue)?;
            let entry = match loose::position(found.seq) {
                Some(_) => queue.take_for_good(found.level, found.seq)?,
                None => queue.pick(found.level, found.seq)?.taken.entry,
            };
            queue.will_change(turn.log.next_lsn());
            self.state.holdings.release(&entry);
            self.scratch.runs.push(run);
            self.write_settles(turn);
            found.queue
        };
        if let Some(queue) = self.state.queues.get_mut(&queue) {
            queue.deletes += 1;
            let (id, is_vacant) = (queue.id, queue.is_vacant(turn.now()));
            if is_vacant || queue.has_changes() {
                self.state.wake(id);
            }
        }
        let gate = turn.log.next_lsn();
        turn.reply(asker, gate, Reply::Done);
        Some(())
    }

    fn renew<L: Log>(&mut self, turn: &mut Turn<'_, L>, asker: Asker, id: JobId) -> Option<()> {
        let tag = self.held(asker, id)?;
        let channel = self.sessions.channel_mut(asker.session, asker.channel)?;
        let slot = channel.unsettled.get_mut(tag)?;
        if slot.lease_s > 0 {
            slot.lease_until = seconds_from(turn.now(), slot.lease_s);
        }
        turn.reply(asker, Lsn::ZERO, Reply::Done);
        Some(())
    }

    fn give_up<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (id, ending): (JobId, Ending),
    ) -> Option<()> {
        let slot = self.take_held(asker, id)?;
        let is_buried = self.end_claim(turn, &slot, &ending);
        let gate = turn.log.next_lsn();
        turn.reply(asker, gate, Reply::Released { is_buried });
        Some(())
    }

    /// Writes a move down and carries it out.
    pub(super) fn write_shift<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        shift: &Shift,
        held: Option<Entry>,
    ) {
        let bytes = &mut self.scratch.head;
        bytes.clear();
        shift.put(bytes);
        record::append(turn.log, record::SHIFT, bytes);
        let changed = turn.log.next_lsn();
        self.state.shift(shift, held, changed);
        if let Some(queue) = self.state.queues.get_mut(&shift.queue) {
            queue.changed = changed;
        }
        self.state.wake(shift.queue);
    }

    fn kick_job<L: Log>(&mut self, turn: &mut Turn<'_, L>, asker: Asker, id: JobId) -> Option<()> {
        let found = self.find_job(asker, id)?;
        if !matches!(found.state, JobState::Buried | JobState::Delayed) {
            return None;
        }
        self.kick_one(turn, (found.queue, found.seq));
        let gate = turn.log.next_lsn();
        turn.reply(asker, gate, Reply::Done);
        Some(())
    }

    fn kick_one<L: Log>(&mut self, turn: &mut Turn<'_, L>, (id, seq): (QueueId, u64)) {
        let Some(queue) = self.state.queues.get(&id) else { return };
        let (rank, delay_s) = queue.stays(0, seq);
        let shift = Shift {
            queue: id,
            level: 0,
            seq,
            why: Why::Kicked,
            was_claimed: false,
            is_buried: false,
            rank,
            due: 0,
            delay_s,
        };
        self.write_shift(turn, &shift, None);
    }

    /// `Work::Kick`.
    pub(super) fn kick<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, most): (&[u8], u64),
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), WorkCount::Kick);
        let mut count = 0;
        let id = self.job_queue(asker, name)?;
        if let Some(queue) = id.and_then(|id| self.state.queues.get_mut(&id)) {
            let id = queue.id;
            queue.ripen(turn.now());
            let first = |engine: &Self, state| {
                engine.state.queues.get(&id).and_then(|queue| queue.loose()?.first(state))
            };
            let has_buried = first(self, JobState::Buried).is_some();
            let state = if has_buried { JobState::Buried } else { JobState::Delayed };
            while count < most.min(KICKS_MAX)
                && let Some(lsn) = first(self, state)
            {
                self.kick_one(turn, (id, loose::number(lsn)));
                count += 1;
            }
        }
        let gate = if count > 0 { turn.log.next_lsn() } else { Lsn::ZERO };
        turn.reply(asker, gate, Reply::Kicked { count });
        Ok(())
    }

    fn claim_by_id<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        id: JobId,
    ) -> Option<()> {
        let found = self.find_job(asker, id).filter(|it| it.state != JobState::Claimed)?;
        self.claims(turn, asker).ok()?.has_claimed = true;
        let queue = self.state.queues.get_mut(&found.queue)?;
        let (head, is_picked) = match loose::position(found.seq) {
            Some(lsn) => (queue.pop_loose(lsn)?, false),
            None => (queue.pick(found.level, found.seq)?, true),
        };
        let wish = Wish { ticket: asker.ticket, lease_s: None };
        self.hand_over(turn, (asker, wish), (found.queue, head, is_picked))
    }
}

const fn count_of(verb: JobVerb) -> WorkCount {
    match verb {
        JobVerb::Claim => WorkCount::ClaimById,
        JobVerb::Delete => WorkCount::Delete,
        JobVerb::Release { .. } => WorkCount::Release,
        JobVerb::Bury { .. } => WorkCount::Bury,
        JobVerb::Renew => WorkCount::Renew,
        JobVerb::Kick => WorkCount::KickById,
        JobVerb::Look => WorkCount::Look,
        JobVerb::Describe => WorkCount::DescribeJob,
    }
}
