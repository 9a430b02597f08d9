//! What is done with one job: deleted, given back, laid aside, kicked, looked at. A job is found by
//! its id: with whoever claimed it, or in its queue.

use model::{
    Attempt, AttemptEnd, JobFacts, JobId, JobRef, JobState, JobVerb, Log, Lsn, QueueId, Refusal,
    Reply, SessionId, Verb, WorkCount,
};

use super::attempt::append_ended;
use super::give::Wish;
use super::{Claims, seconds_from};
use crate::Engine;
use crate::channel::{Asker, Slot, Turn};
use crate::dead_letter::Reason;
use crate::dispatch::Loss;
use crate::effects::{Output, Place, Push};
use crate::fifo::{Entry, NEVER};
use crate::loose::{self, Job, Shift, Tally, Why};
use crate::record::{self, Run};
use crate::settle::End;
use bytes::Bytes;

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

/// How somebody has a job.
struct Holder {
    entry: Entry,
    /// When the lease ends, ms since 1970.
    until: u64,
}

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
    fn find_job(&self, asker: Asker, id: JobId) -> Option<Found> {
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

    /// Writes a move down and carries it out.
    fn write_shift<L: Log>(&mut self, turn: &mut Turn<'_, L>, shift: &Shift, held: Option<Entry>) {
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

    /// `Request::Inspect`.
    pub(crate) fn inspect<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        job: JobRef,
    ) -> Result<(), Refusal> {
        let vhost = self.entered(asker)?;
        let queue = self.state.queues.get(&job.queue).filter(|queue| queue.vhost == vhost);
        if let Some(queue) = queue {
            self.check_queue(asker, Verb::Read, &queue.name)?;
        }
        let shown = queue.map(|queue| queue.id).and_then(|_| self.look_at(turn, asker, job));
        if shown.is_none() {
            let gate = turn.log.next_lsn();
            turn.reply(asker, gate, Reply::Empty);
        }
        Ok(())
    }

    fn look_at<L: Log>(&mut self, turn: &mut Turn<'_, L>, asker: Asker, job: JobRef) -> Option<()> {
        if let Some(taking) = self.takers.get(job) {
            let channel = self.sessions.channel(taking.session, taking.channel)?;
            let slot = channel.unsettled.get(taking.tag)?;
            let place = (slot.queue, slot.level, slot.seq);
            let holder = Holder { entry: slot.entry(), until: slot.lease_until };
            let worker = Bytes::copy_from_slice(self.worker_of(taking.session));
            return self.show(turn, asker, (place, Some(holder), worker));
        }
        let (level, seq, state) = self.state.queues.get(&job.queue)?.find(Lsn(job.id.0))?;
        if state == JobState::Claimed {
            return None;
        }
        self.show(turn, asker, ((job.queue, level, seq), None, Bytes::new()))
    }

    /// `JobVerb::Look`.
    fn look<L: Log>(&mut self, turn: &mut Turn<'_, L>, asker: Asker, id: JobId) -> Option<()> {
        let (queue, level, seq, holder) = if let Some(slot) = self.anybodys(asker, id) {
            let holder = Holder { entry: slot.entry(), until: slot.lease_until };
            (slot.queue, slot.level, slot.seq, Some(holder))
        } else {
            let found = self.find_job(asker, id)?;
            if found.state == JobState::Claimed {
                // With a consumer of another door.
                return None;
            }
            (found.queue, found.level, found.seq, None)
        };
        self.show(turn, asker, ((queue, level, seq), holder, Bytes::new()))
    }

    /// A claimed job: the asker's own, or that of any session.
    fn anybodys(&self, asker: Asker, id: JobId) -> Option<&Slot> {
        let own = self.sessions.channel(asker.session, asker.channel);
        let own = own.and_then(|channel| channel.unsettled.get(channel.held(id)?));
        own.or_else(|| {
            let vhost = self.entered(asker).ok();
            let sessions = self.sessions.iter().filter(|session| session.vhost == vhost);
            let mut channels = sessions.flat_map(|session| session.channels.values());
            channels.find_map(|channel| channel.unsettled.get(channel.held(id)?))
        })
    }

    /// `Work::LookFirst`.
    pub(super) fn look_first<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, state): (&[u8], JobState),
    ) -> Result<(), Refusal> {
        self.done.count(
            turn.now(),
            match state {
                JobState::Ready | JobState::Claimed => WorkCount::LookReady,
                JobState::Delayed => WorkCount::LookDelayed,
                JobState::Buried => WorkCount::LookBuried,
            },
        );
        let id = self.job_queue(asker, name)?;
        let queue = id.and_then(|id| self.state.queues.get_mut(&id));
        let place = queue.and_then(|queue| {
            queue.ripen(turn.now());
            let lsn = match state {
                JobState::Ready => queue.first()?.1,
                JobState::Delayed | JobState::Buried | JobState::Claimed => {
                    queue.loose()?.first(state)?
                }
            };
            let (level, seq, _) = queue.find(lsn)?;
            Some((queue.id, level, seq))
        });
        let shown = place.and_then(|place| self.show(turn, asker, (place, None, Bytes::new())));
        if shown.is_none() {
            turn.reply(asker, Lsn::ZERO, Reply::Empty);
        }
        Ok(())
    }

    /// Answers with what is known about a job; `holder` when somebody has it.
    fn show<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        ((id, level, seq), holder, worker): ((QueueId, u8, u64), Option<Holder>, Bytes),
    ) -> Option<()> {
        let until = holder.as_ref().map_or(NEVER, |holder| holder.until);
        let claimed = holder.map(|holder| holder.entry);
        let now = turn.now();
        let queue = self.state.queues.get_mut(&id)?;
        queue.ripen(now);
        let is_claimed = claimed.is_some();
        let job = loose::position(seq).and_then(|lsn| queue.loose()?.get(lsn));
        let entry = match (claimed, job) {
            (Some(entry), _) => entry,
            (None, Some(job)) => job.entry.clone(),
            (None, None) => queue.entry(level, seq)?,
        };
        let tally = job.map_or_else(Tally::default, |job| job.tally);
        let state =
            if is_claimed { JobState::Claimed } else { job.map_or(JobState::Ready, Job::state) };
        let until = if state == JobState::Delayed { job.map_or(NEVER, |it| it.due) } else { until };
        let (rank, delay_s) = queue.stays(level, seq);
        let lsn = entry.stored.lsn()?;
        let facts = JobFacts {
            id: JobId::from(lsn),
            queue: queue.name.clone(),
            state,
            rank,
            delay_s,
            lease_s: entry.lease_s,
            left_s: if until == NEVER { 0 } else { until.saturating_sub(now + 1) / 1000 },
            claims: entry.returns.saturating_add(u32::from(is_claimed)),
            timeouts: tally.timeouts,
            releases: tally.releases,
            buries: tally.buries,
            kicks: tally.kicks,
            failures: tally.failures,
            worker,
            attempts: job
                .and_then(|job| job.past.as_ref())
                .map_or(Vec::new(), |past| past.all().to_vec()),
            now: turn.at.now,
        };
        let bytes = entry.body.saturating_add(entry.head);
        let gate = queue.changed.max(lsn.plus(1));
        let push = Push::Job {
            ticket: asker.ticket,
            channel: asker.channel,
            facts: Box::new(facts),
            place: Place::Log(lsn),
            bytes,
        };
        // The record is needed until it was shown, whatever happens to the job meanwhile.
        self.state.holdings.grains.add(lsn, entry.record_bytes());
        let owner = self.sessions.get_mut(asker.session)?;
        owner.flight.hand(bytes, Some(entry));
        turn.out.outputs.push(Output { session: asker.session, gate, push });
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
                let end = (AttemptEnd::Lost, model::Failure::default());
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
