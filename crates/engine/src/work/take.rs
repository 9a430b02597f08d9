//! Workers without a connection of their own: a door keeps a session for each, takes jobs for it
//! under one lease, and renews them all at once. Not here: how such a job ends (`attempt.rs`,
//! `finish.rs`).
//!
//! A worker's jobs are claims like any other: they stand among the unsettled deliveries of the
//! channel on which they were taken. [`Takers`] finds them by the job, whoever asks.

use bytes::Bytes;
use model::limits::{TAKE_JOBS_MAX, TAKE_QUEUES_MAX};
use model::{Held, Idle, JobId, JobRef, JobState, Log, Lsn, Refusal, Reply, SessionId, Take, Verb};

use super::give::{Given, Wish, keep_job};
use super::seconds_from;
use crate::Engine;
use crate::channel::{Asker, Slot, Turn};
use crate::dispatch::Parcel;
use crate::loose;
use crate::map::Map;
use crate::queue::Queue;

/// Where a job is that a worker took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taking {
    pub session: SessionId,
    pub channel: u16,
    pub tag: u64,
}

/// Jobs that workers took. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Takers {
    by_job: Map<JobRef, Taking>,
}

impl Takers {
    pub(crate) fn get(&self, job: JobRef) -> Option<Taking> {
        self.by_job.get(&job).copied()
    }

    pub(super) fn note(&mut self, job: JobRef, taking: Taking) {
        self.by_job.insert(job, taking);
    }

    /// The delivery has ended.
    pub(crate) fn forget(&mut self, slot: &Slot) {
        if let Some(job) = job_of(slot) {
            self.by_job.remove(&job);
        }
    }
}

/// The name of a delivered job.
pub(super) fn job_of(slot: &Slot) -> Option<JobRef> {
    let id = JobId::from(slot.stored.lsn()?);
    Some(JobRef { queue: slot.queue, id })
}

/// A delivery as its holder knows it.
pub(super) fn held_of(slot: &Slot) -> Option<Held> {
    Some(Held { job: job_of(slot)?, attempt: slot.returns.saturating_add(1) })
}

impl Engine {
    /// `Request::Take`.
    pub(crate) fn take<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        take: &Take,
    ) -> Result<(), Refusal> {
        if take.queues.len() > TAKE_QUEUES_MAX {
            let limit = format!("queues of one request ({TAKE_QUEUES_MAX})");
            return Err(Refusal::LimitReached { limit });
        }
        let claims = self.claims(turn, asker)?;
        (claims.is_worker, claims.has_claimed) = (true, true);
        self.watch_only(turn, asker, &take.queues)?;
        let wish = Wish { ticket: asker.ticket, lease_s: Some(take.lease_s.max(1)) };
        let mut count = 0;
        while count < take.most.min(TAKE_JOBS_MAX)
            && let Some(queue) = self.best_watched(asker, turn.now())
        {
            match self.claim_next(turn, asker, (queue, wish)) {
                Given::One => count += 1,
                Given::None => {}
                Given::Later => break,
            }
        }
        if count == 0 && take.waits && take.most > 0 {
            self.claims(turn, asker)?.waiting.push_back(wish);
            self.unpark_channel(asker.session, asker.channel);
            return Ok(());
        }
        let idle = if count == 0 { self.why_idle(asker, turn.now()) } else { Idle::Empty };
        turn.reply(asker, Lsn::ZERO, Reply::Taken { count, idle });
        Ok(())
    }

    /// Watches these queues and no others.
    fn watch_only<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        names: &[Bytes],
    ) -> Result<(), Refusal> {
        let mut wanted = Vec::with_capacity(names.len());
        for name in names {
            let id = self.make_job_queue(turn, asker, name)?;
            if self.watcher(asker, id).is_none() {
                self.check_consumers(asker)?;
                self.add_watcher(asker, id)?;
            }
            wanted.push(id);
        }
        let channel = self.sessions.channel(asker.session, asker.channel);
        let keys = channel.map(|channel| channel.consumers.clone()).unwrap_or_default();
        for key in keys {
            let queue = self.sessions.consumer(key).map(|consumer| consumer.queue);
            if queue.is_some_and(|queue| !wanted.contains(&queue)) {
                self.end_consumer(turn, key);
            }
        }
        Ok(())
    }

    /// Why nothing of the watched queues can be handed over.
    pub(super) fn why_idle(&mut self, asker: Asker, now: u64) -> Idle {
        let channel = self.sessions.channel(asker.session, asker.channel);
        let keys = channel.map(|channel| channel.consumers.clone()).unwrap_or_default();
        let queues = keys.into_iter().filter_map(|key| {
            let id = self.sessions.consumer(key)?.queue;
            self.state.queues.get(&id).map(|queue| why_idle(queue, now))
        });
        queues.max().unwrap_or_default()
    }

    /// `Request::Renew`.
    pub(crate) fn renew_all<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (lease_s, claims): (u32, &[Held]),
    ) -> Result<(), Refusal> {
        if claims.len() > TAKE_JOBS_MAX as usize * 16 {
            return Err(Refusal::LimitReached { limit: "jobs of one renewal".to_owned() });
        }
        self.claims(turn, asker)?.is_worker = true;
        let lease_s = lease_s.max(1);
        for claim in claims {
            if self.takers.get(claim.job).is_none() {
                self.take_again(turn, asker, (claim.job, lease_s));
            }
        }
        let until = seconds_from(turn.now(), lease_s);
        let mut all = Vec::new();
        let session = self.sessions.get_mut(asker.session).ok_or(Refusal::NotOpen)?;
        let numbers = session.channels.numbers();
        for number in &numbers {
            let Some(channel) = session.channels.get_mut(*number) else { continue };
            if channel.claims.as_ref().is_none_or(|claims| !claims.is_worker) {
                continue;
            }
            channel.unsettled.for_each_mut(&mut |slot| {
                slot.lease_until = until;
                all.extend(held_of(slot));
            });
        }
        for number in numbers {
            // Only where there is something to be watched.
            let channel = self.sessions.channel(asker.session, number);
            if channel.is_some_and(|channel| channel.unsettled.len() > 0) {
                self.leases.arm(&mut self.sessions, (asker.session, number), until);
            }
        }
        // What is shown to be held was handed over behind its own gate.
        turn.reply(asker, Lsn::ZERO, Reply::Renewed(all));
        Ok(())
    }

    /// A worker goes on with a job that nobody has: the server was away, or the lease was over.
    fn take_again<L: Log>(
        &mut self,
        turn: &Turn<'_, L>,
        asker: Asker,
        (job, lease_s): (JobRef, u32),
    ) -> Option<()> {
        let vhost = self.entered(asker).ok()?;
        let queue = self.state.queues.get(&job.queue).filter(|queue| queue.vhost == vhost)?;
        self.check_queue(asker, Verb::Read, &queue.name).ok()?;
        let queue = self.state.queues.get_mut(&job.queue)?;
        queue.ripen(turn.now());
        let (level, seq, state) = queue.find(Lsn(job.id.0))?;
        if state != JobState::Ready {
            return None;
        }
        let (head, is_picked) = match loose::position(seq) {
            Some(lsn) => (queue.pop_loose(lsn)?, false),
            None => (queue.pick(level, seq)?, true),
        };
        let parcel = Parcel::new(queue, head);
        queue.unsettled += 1;
        self.timers.arm(queue);
        let channel = self.sessions.channel_mut(asker.session, asker.channel)?;
        let wish = Wish { ticket: asker.ticket, lease_s: Some(lease_s) };
        let tag = keep_job(channel, wish, (&parcel, turn.now(), is_picked)).tag;
        let Asker { session, channel, .. } = asker;
        self.takers.note(job, Taking { session, channel, tag });
        Some(())
    }
}

fn why_idle(queue: &Queue, now: u64) -> Idle {
    let counts = queue.job_counts();
    if counts.ready > 0 && queue.is_paused(now) {
        Idle::Paused
    } else if counts.delayed > 0 {
        Idle::Delayed
    } else if counts.buried > 0 {
        Idle::Buried
    } else if counts.claimed > 0 {
        Idle::Claimed
    } else {
        Idle::Empty
    }
}
