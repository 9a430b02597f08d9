//! Figures about queues of jobs and about the work that is done with them. Nothing changes here but
//! a pause.

use bytes::Bytes;
use model::{JobCounts, Log, Lsn, QueueFacts, Refusal, Reply, Verb, VhostId, WorkCount, WorkFacts};

use super::seconds_from;
use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::loose::Loose;
use crate::queue::Queue;

impl Queue {
    pub(super) fn job_counts(&self) -> JobCounts {
        let (_, delayed, buried) = self.loose().map_or((0, 0, 0), Loose::counts);
        JobCounts {
            urgent: self.urgent(),
            ready: self.ready,
            claimed: self.unsettled,
            delayed,
            buried,
            total: self.total,
        }
    }
}

impl Engine {
    /// `Work::Pause`.
    pub(super) fn pause_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, seconds): (&[u8], u32),
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), WorkCount::Pause);
        let id = self.job_queue(asker, name)?;
        let Some(queue) = id.and_then(|id| self.state.queues.get_mut(&id)) else {
            turn.reply(asker, Lsn::ZERO, Reply::Empty);
            return Ok(());
        };
        // No time at all is over at once.
        let until = if seconds == 0 { turn.now() } else { seconds_from(turn.now(), seconds) };
        queue.pause = (until, seconds);
        queue.pauses += 1;
        let id = queue.id;
        self.state.wake(id);
        turn.reply(asker, Lsn::ZERO, Reply::Done);
        Ok(())
    }

    /// `Work::DescribeQueue`.
    pub(super) fn describe_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &[u8],
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), WorkCount::DescribeQueue);
        let now = turn.now();
        let id = self.job_queue(asker, name)?;
        let Some(queue) = id.and_then(|id| self.state.queues.get_mut(&id)) else {
            turn.reply(asker, Lsn::ZERO, Reply::Empty);
            return Ok(());
        };
        queue.ripen(now);
        let is_paused = queue.is_paused(now);
        let mut facts = QueueFacts {
            name: queue.name.clone(),
            jobs: queue.job_counts(),
            using: queue.users,
            watching: 0,
            waiting: 0,
            deletes: queue.deletes,
            pauses: queue.pauses,
            pause_s: if is_paused { u64::from(queue.pause.1) } else { 0 },
            pause_left_s: queue.pause.0.saturating_sub(now + 1).div_ceil(1000),
        };
        let gate = queue.changed;
        let keys = queue.consumers.as_ref().map_or(&[][..], |consumers| &consumers.all);
        for key in keys {
            let Some(consumer) = self.sessions.consumer(*key) else { continue };
            let channel = self.sessions.channel(consumer.session, consumer.channel);
            let claims = channel.and_then(|channel| channel.claims.as_ref());
            facts.watching += 1;
            facts.waiting += u32::from(claims.is_some_and(|claims| claims.has_credit()));
        }
        turn.reply(asker, gate, Reply::QueueFacts(Box::new(facts)));
        Ok(())
    }

    /// The queues of a virtual host in which there can be jobs.
    fn queues_of(&self, asker: Asker, vhost: VhostId) -> impl Iterator<Item = &Queue> {
        let all = self.state.queues.values().map(|queue| &**queue);
        all.filter(move |queue| {
            queue.vhost == vhost
                && !queue.id.is_volatile()
                && self.check_queue(asker, Verb::Read, &queue.name).is_ok()
        })
    }

    /// `Work::Describe`.
    pub(super) fn describe_work<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), WorkCount::Describe);
        let vhost = self.entered(asker)?;
        let now = turn.now();
        for queue in self.state.queues.values_mut().filter(|queue| queue.vhost == vhost) {
            queue.ripen(now);
        }
        let done = &self.done.now;
        let mut facts = WorkFacts {
            timeouts: done.timeouts,
            sessions_total: done.sessions,
            counts: done.counts,
            ..WorkFacts::default()
        };
        for queue in self.queues_of(asker, vhost) {
            let jobs = queue.job_counts();
            facts.queues += 1;
            facts.jobs.urgent += jobs.urgent;
            facts.jobs.ready += jobs.ready;
            facts.jobs.claimed += jobs.claimed;
            facts.jobs.delayed += jobs.delayed;
            facts.jobs.buried += jobs.buried;
        }
        facts.jobs.total = self.state.done.jobs;
        let channels = self.sessions.iter().flat_map(|session| session.channels.values());
        for claims in channels.filter_map(|channel| channel.claims.as_ref()) {
            facts.sessions += 1;
            facts.producers += u64::from(claims.has_put);
            facts.workers += u64::from(claims.has_claimed);
            facts.waiting += u64::from(claims.has_credit());
        }
        let gate = turn.log.next_lsn();
        turn.reply(asker, gate, Reply::WorkFacts(Box::new(facts)));
        Ok(())
    }

    /// `Work::ListQueues`.
    pub(super) fn name_queues<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), WorkCount::ListQueues);
        let vhost = self.entered(asker)?;
        let mut queues: Vec<&Queue> = self.queues_of(asker, vhost).collect();
        queues.sort_unstable_by_key(|queue| queue.id);
        let names: Vec<Bytes> = queues.into_iter().map(|queue| queue.name.clone()).collect();
        turn.reply(asker, Lsn::ZERO, Reply::Names(names));
        Ok(())
    }
}
