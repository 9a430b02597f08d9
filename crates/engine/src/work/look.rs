//! Looking at a job: by its id, by its name, or the first of a queue in some state. Nothing
//! changes.

use bytes::Bytes;
use model::{
    JobFacts, JobId, JobRef, JobState, Log, Lsn, QueueId, Refusal, Reply, Verb, WorkCount,
};

use crate::Engine;
use crate::channel::{Asker, Slot, Turn};
use crate::effects::{Output, Place, Push};
use crate::fifo::{Entry, NEVER};
use crate::loose::{self, Job, Tally};

/// How somebody has a job.
struct Holder {
    entry: Entry,
    /// When the lease ends, ms since 1970.
    until: u64,
}

impl Engine {
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
    pub(super) fn look<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        id: JobId,
    ) -> Option<()> {
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
}
