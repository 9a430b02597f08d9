//! Jobs: which queues a session puts them into and claims them from, and the claims that wait. What
//! is done with one job is `work/job.rs`, leases `work/lease.rs`, figures `work/facts.rs`, the
//! counters that survive a restart `work/done.rs`. Handing one over is `work/give.rs`; workers
//! without a connection are `work/take.rs`, and how their jobs end `work/attempt.rs` and
//! `work/finish.rs`.
//!
//! Watching a queue is to be its consumer; a claim is the credit for one delivery. So a waiting
//! claim stands in the same ring as every other consumer of the queue.

mod attempt;
mod done;
mod end;
mod facts;
mod finish;
mod give;
mod job;
mod lease;
mod look;
mod take;

use std::collections::VecDeque;

use bytes::Bytes;
use model::properties::Property;
use model::{
    ConsumerId, Enqueue, JobId, Log, Lsn, MessageRef, Overflow, Properties, QueueId, QueueKind,
    QueueOptions, QueueSpec, Refusal, Reply, SessionId, Verb, VhostId, Work, WorkCount,
};

pub(crate) use attempt::Past;
pub(crate) use done::{Counting, Done};
pub(crate) use finish::Finishing;
pub(crate) use give::Giving;
pub(crate) use lease::Leases;
pub(crate) use take::Takers;

use crate::Engine;
use crate::channel::{Asker, Channel, Consumer, ConsumerKey, Turn};
use crate::dispatch::{Loss, Parcel};
use crate::fifo::NEVER;
use crate::map::Map;
use crate::perform::State;
use crate::queue::Head;
use crate::record::{self, JobHead};
use crate::ties::put_ties;

use give::{Given, Wish};

/// The queue that stays although nobody needs it: clients expect it to be there.
/// Source: beanstalkd protocol 1.13, "the default tube".
const DEFAULT_QUEUE: &[u8] = b"default";

/// The end of a time that begins now, ms since 1970. Now is cut to whole milliseconds: without one
/// more it would end early.
pub(crate) const fn seconds_from(now: u64, seconds: u32) -> u64 {
    now.saturating_add(seconds as u64 * 1000 + 1)
}

/// What a channel that works with jobs has going on. Volatile.
#[derive(Debug)]
pub(crate) struct Claims {
    /// Where it puts its jobs.
    used: Option<QueueId>,
    /// Tags of what it has claimed, by job.
    held: Map<u64, u64>,
    /// Claims that nothing was ready for, oldest first.
    waiting: VecDeque<Wish>,
    /// When its earliest lease needs a look, ms since 1970; [`NEVER`] when none does.
    timer: u64,
    has_put: bool,
    has_claimed: bool,
    /// A door works on it for somebody who is not there all the time.
    is_worker: bool,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            used: None,
            held: Map::default(),
            waiting: VecDeque::new(),
            timer: NEVER,
            has_put: false,
            has_claimed: false,
            is_worker: false,
        }
    }
}

impl Claims {
    /// Whether a job may be handed over.
    pub(crate) fn has_credit(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Engine {
    /// `Request::Work`.
    pub(crate) fn work<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        work: Work,
    ) -> Result<(), Refusal> {
        match work {
            Work::Use(name) => self.use_queue(turn, asker, &name),
            Work::Watch(name) => self.watch_queue(turn, asker, &name),
            Work::Ignore(name) => self.ignore_queue(turn, asker, &name),
            Work::LookFirst(name, state) => self.look_first(turn, asker, (&name, state)),
            Work::Kick(name, most) => self.kick(turn, asker, (&name, most)),
            Work::Pause(name, seconds) => self.pause_queue(turn, asker, (&name, seconds)),
            Work::DescribeQueue(name) => self.describe_queue(turn, asker, &name),
            Work::Describe => self.describe_work(turn, asker),
            Work::ListQueues => self.name_queues(turn, asker),
        }
    }

    /// What the channel has going on with jobs; it begins with the first request about them.
    fn claims(&mut self, turn: &Turn<'_, impl Log>, asker: Asker) -> Result<&mut Claims, Refusal> {
        let channel = self.sessions.channel_mut(asker.session, asker.channel);
        let channel = channel.ok_or(Refusal::NotOpen)?;
        if channel.claims.is_none() {
            self.done.begin_session(turn.now());
        }
        Ok(channel.claims.get_or_insert_default())
    }

    /// A queue of the asker's virtual host, if it is there and jobs can be in it.
    fn job_queue(&self, asker: Asker, name: &[u8]) -> Result<Option<QueueId>, Refusal> {
        let vhost = self.entered(asker)?;
        let found = self.state.vhost(vhost).and_then(|vhost| vhost.router.queue(name));
        if found.is_some_and(QueueId::is_volatile) {
            return Err(Refusal::Locked { queue: Bytes::copy_from_slice(name) });
        }
        Ok(found)
    }

    /// As [`Engine::job_queue`]; the queue is made when it is missing.
    pub(crate) fn make_job_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<QueueId, Refusal> {
        if let Some(id) = self.job_queue(asker, name)? {
            return Ok(id);
        }
        self.check_queue(asker, Verb::Configure, name)?;
        let vhost = self.entered(asker)?;
        let limits = &self.limits;
        let options = QueueOptions {
            kind: QueueKind::Jobs,
            length_max: limits.job_queue_length_max,
            bytes_max: limits.job_queue_bytes_max,
            delivery_max: limits.job_deliveries_max,
            overflow: Overflow::RejectPublish,
            ..QueueOptions::default()
        };
        let spec = QueueSpec { is_durable: true, options, ..QueueSpec::default() };
        self.create_queue(turn, (asker, vhost), name, spec)?;
        self.job_queue(asker, name)?.ok_or(Refusal::NotOpen)
    }

    fn use_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<(), Refusal> {
        // The first one is how its session begins.
        if self.claims(turn, asker)?.used.is_some() {
            self.done.count(turn.now(), WorkCount::Use);
        }
        let id = self.make_job_queue(turn, asker, name)?;
        let claims = self.claims(turn, asker)?;
        let before = claims.used.replace(id);
        if let Some(queue) = self.state.queues.get_mut(&id) {
            queue.users += 1;
        }
        self.leave(before);
        turn.reply(asker, Lsn::ZERO, Reply::Done);
        Ok(())
    }

    /// A session puts its jobs there no longer.
    fn leave(&mut self, queue: Option<QueueId>) {
        let Some(queue) = queue.and_then(|id| self.state.queues.get_mut(&id)) else { return };
        queue.users = queue.users.saturating_sub(1);
        let id = queue.id;
        self.state.wake(id);
    }

    fn watch_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<(), Refusal> {
        self.claims(turn, asker)?;
        if self.watched(asker) > 0 {
            self.done.count(turn.now(), WorkCount::Watch);
        }
        let is_known = self.job_queue(asker, name)?.is_some_and(|id| {
            let key = self.watcher(asker, id);
            key.is_some()
        });
        if !is_known {
            self.check_consumers(asker)?;
            let id = self.make_job_queue(turn, asker, name)?;
            self.add_watcher(asker, id)?;
        }
        let count = self.watched(asker);
        turn.reply(asker, Lsn::ZERO, Reply::Watching { count, is_last: false });
        Ok(())
    }

    fn add_watcher(&mut self, asker: Asker, id: QueueId) -> Result<(), Refusal> {
        let Some(queue) = self.state.queues.get_mut(&id) else { return Ok(()) };
        if queue.spec.options.is_single_active_consumer {
            return Err(Refusal::SingleActiveConsumer { queue: queue.name.clone() });
        }
        let others = queue.consumers.get_or_insert_default();
        if others.is_exclusive {
            return Err(Refusal::ExclusiveConsumer { queue: queue.name.clone() });
        }
        let key = self.sessions.add_consumer(Consumer {
            session: asker.session,
            channel: asker.channel,
            id: ConsumerId(id.0),
            queue: id,
            no_ack: false,
            is_exclusive: false,
            is_single: false,
            is_claim: true,
            priority: 0,
            label: Bytes::from_static(b"watch"),
            unsettled: 0,
            // It takes part while it has a claim that waits.
            is_parked: true,
        });
        others.all.push(key);
        if let Some(channel) = self.sessions.channel_mut(asker.session, asker.channel) {
            channel.consumers.push(key);
        }
        self.unpark(key);
        Ok(())
    }

    /// How the asker watches a queue.
    fn watcher(&self, asker: Asker, id: QueueId) -> Option<ConsumerKey> {
        let channel = self.sessions.channel(asker.session, asker.channel)?;
        let is_it = |key: &&ConsumerKey| {
            self.sessions.consumer(**key).is_some_and(|it| it.is_claim && it.queue == id)
        };
        channel.consumers.iter().find(is_it).copied()
    }

    fn watched(&self, asker: Asker) -> u32 {
        let channel = self.sessions.channel(asker.session, asker.channel);
        channel.map_or(0, |it| u32::try_from(it.consumers.len()).unwrap_or(u32::MAX))
    }

    fn ignore_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), WorkCount::Ignore);
        let key = self.job_queue(asker, name)?.and_then(|id| self.watcher(asker, id));
        let is_last = key.is_some() && self.watched(asker) < 2;
        if let Some(key) = key.filter(|_| !is_last) {
            self.end_consumer(turn, key);
        }
        let count = self.watched(asker);
        turn.reply(asker, Lsn::ZERO, Reply::Watching { count, is_last });
        Ok(())
    }

    /// `Request::Enqueue`.
    pub(crate) fn enqueue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        job: &Enqueue,
    ) -> Result<(), Refusal> {
        self.done.count(turn.now(), WorkCount::Enqueue);
        self.check_body(&job.body)?;
        let id = self.make_job_queue(turn, asker, &job.queue)?;
        self.claims(turn, asker)?.has_put = true;
        if let Some(first) = self.holder(id, job, turn.now()) {
            let gate = turn.log.next_lsn();
            turn.reply(asker, gate, Reply::Enqueued { job: first, queue: id });
            return Ok(());
        }
        let Some(queue) = self.state.queues.get(&id) else { return Err(Refusal::NotOpen) };
        let is_full = queue.spec.options.overflow != Overflow::DropHead
            && queue.is_over(1, job.body.len() as u64);
        if is_full {
            let gate = queue.changed;
            turn.reply(asker, gate, Reply::Rejected);
            return Ok(());
        }
        let vhost = queue.vhost;
        let lsn = turn.log.next_lsn();
        self.store_job(turn, (vhost, id), (job, false));
        let gate = turn.log.next_lsn();
        turn.reply(asker, gate, Reply::Enqueued { job: JobId::from(lsn), queue: id });
        Ok(())
    }

    /// # Errors
    /// When a body is too large.
    pub(crate) fn check_body(&self, body: &[u8]) -> Result<(), Refusal> {
        let max = self.limits.message_bytes_max;
        if body.len() > max as usize {
            return Err(Refusal::LimitReached { limit: format!("bytes of one message ({max})") });
        }
        Ok(())
    }

    /// The job of a queue that has the idempotency key of a new one.
    pub(crate) fn holder(&self, id: QueueId, job: &Enqueue, now: u64) -> Option<JobId> {
        let key = job.ties.as_ref()?.idempotency.as_ref()?;
        self.state.queues.get(&id)?.keys.as_ref()?.holder(key, now)
    }

    /// Writes a job that its queue takes.
    pub(crate) fn store_job<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (vhost, id): (VhostId, QueueId),
        (job, has_more): (&Enqueue, bool),
    ) {
        let mut ties = Vec::new();
        if let Some(job_ties) = &job.ties {
            put_ties(&mut ties, job_ties);
        }
        let head = record::Head { ties: &ties, ..job_head(vhost, turn.now(), job) };
        self.store(turn, &head, (&[id], &[]), has_more);
    }

    /// `Request::Claim`.
    pub(crate) fn claim<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        is_timed: bool,
    ) -> Result<(), Refusal> {
        let count = if is_timed { WorkCount::ClaimWithin } else { WorkCount::Claim };
        self.done.count(turn.now(), count);
        let claims = self.claims(turn, asker)?;
        claims.has_claimed = true;
        let wish = Wish { ticket: asker.ticket, lease_s: None };
        let mut may_wait = true;
        if claims.waiting.is_empty() {
            while may_wait && let Some(queue) = self.best_watched(asker, turn.now()) {
                match self.claim_next(turn, asker, (queue, wish)) {
                    Given::One => return Ok(()),
                    Given::None => {}
                    Given::Later => may_wait = false,
                }
            }
            if may_wait && !self.has_ready(asker) && self.is_lease_ending(turn.now(), asker) {
                turn.reply(asker, Lsn::ZERO, Reply::LeaseEnding);
                return Ok(());
            }
        }
        self.claims(turn, asker)?.waiting.push_back(wish);
        self.unpark_channel(asker.session, asker.channel);
        self.watch_leases(asker);
        Ok(())
    }

    /// The watched queue that has the next job for the asker.
    fn best_watched(&mut self, asker: Asker, now: u64) -> Option<QueueId> {
        let channel = self.sessions.channel(asker.session, asker.channel)?;
        let mut best = None;
        for key in &channel.consumers {
            let Some(consumer) = self.sessions.consumer(*key) else { continue };
            let Some(queue) = self.state.queues.get_mut(&consumer.queue) else { continue };
            queue.ripen(now);
            if queue.ready == 0 || queue.is_paused(now) {
                continue;
            }
            let Some((rank, lsn)) = queue.first() else { continue };
            if best.is_none_or(|(other, _)| (rank, lsn) < other) {
                best = Some(((rank, lsn), queue.id));
            }
        }
        best.map(|(_, queue)| queue)
    }

    /// Whether a watched queue has something ready, paused or not.
    fn has_ready(&self, asker: Asker) -> bool {
        let channel = self.sessions.channel(asker.session, asker.channel);
        let mut keys = channel.into_iter().flat_map(|channel| &channel.consumers);
        keys.any(|key| {
            let queue = self.sessions.consumer(*key).map(|consumer| consumer.queue);
            let queue = queue.and_then(|id| self.state.queues.get(&id));
            queue.is_some_and(|queue| queue.ready > 0)
        })
    }

    /// Hands the next job of a queue to the asker.
    fn claim_next<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (id, wish): (QueueId, Wish),
    ) -> Given {
        let State { queues, holdings, .. } = &mut self.state;
        let Some(queue) = queues.get_mut(&id) else { return Given::None };
        let mut loss =
            Loss { now: turn.now(), graves: &mut self.graves, runs: &mut self.scratch.runs };
        let head = loss.pop_alive(queue, holdings);
        let has_lost = !self.scratch.runs.is_empty();
        if has_lost {
            queue.will_change(turn.log.next_lsn());
            self.write_settles(turn);
        }
        let Some(head) = head else {
            // Expired ones that cannot leave now must not be asked for again.
            return if has_lost { Given::None } else { Given::Later };
        };
        let given = self.hand_over(turn, (asker, wish), (id, head, false));
        given.map_or(Given::None, |()| Given::One)
    }

    /// Gives a job that was taken from its queue to the asker, under a lease.
    fn hand_over<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, wish): (Asker, Wish),
        (id, head, is_picked): (QueueId, Head, bool),
    ) -> Option<()> {
        let queue = self.state.queues.get_mut(&id)?;
        let parcel = Parcel::new(queue, head);
        queue.unsettled += 1;
        let mut giving = Giving {
            now: turn.now(),
            sessions: &mut self.sessions,
            leases: &mut self.leases,
            takers: &mut self.takers,
            out: turn.out,
        };
        giving.give((asker.session, asker.channel), wish, (queue, &parcel, is_picked))?;
        self.timers.arm(queue);
        Some(())
    }

    /// `Request::Withdraw`.
    pub(crate) fn withdraw<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
    ) -> Result<(), Refusal> {
        let Some(wish) = self.claims(turn, asker)?.waiting.pop_front() else {
            self.withdraw_waiter(turn, asker);
            return Ok(());
        };
        let reply = if wish.lease_s.is_some() {
            Reply::Taken { count: 0, idle: self.why_idle(asker, turn.now()) }
        } else {
            Reply::Empty
        };
        turn.reply(Asker { ticket: wish.ticket, ..asker }, Lsn::ZERO, reply);
        Ok(())
    }

    /// A channel ends: what it used may go away, and its leases are nobody's.
    pub(crate) fn end_claims(&mut self, session: SessionId, number: u16, claims: &Claims) {
        self.leases.forget((session, number), claims.timer);
        self.leave(claims.used);
    }

    /// A queue that a door made is not needed any more.
    pub(crate) fn drop_vacant<L: Log>(&mut self, turn: &mut Turn<'_, L>, id: QueueId) {
        let queue = self.state.queues.get(&id);
        if queue.is_some_and(|queue| queue.is_vacant(turn.now()) && queue.name != DEFAULT_QUEUE) {
            self.remove_queue(turn, id);
        }
    }

    /// A queue that a door made for jobs and that holds none, whoever needs it.
    pub(crate) fn wake_vacant(&mut self, now: u64) {
        let vacant = self.state.queues.values().filter(|queue| queue.is_vacant(now));
        let mut vacant: Vec<QueueId> = vacant.map(|queue| queue.id).collect();
        vacant.sort_unstable();
        for id in vacant {
            self.state.wake(id);
        }
    }
}

impl Channel {
    /// The tag of a job it has claimed.
    fn held(&self, id: JobId) -> Option<u64> {
        self.claims.as_ref()?.held.get(&id.0).copied()
    }
}

/// The record head of a job.
fn job_head(vhost: VhostId, now: u64, job: &Enqueue) -> record::Head<'_> {
    let Enqueue { rank, delay_s, lease_s, .. } = *job;
    let properties = if job.properties.is_empty() { PERSISTENT } else { &job.properties };
    record::Head {
        vhost,
        at: now,
        job: Some(JobHead { rank, lease_s, delay_s }),
        ttl: time_to_live(properties),
        message: MessageRef { routing_key: &job.queue, body: &job.body, properties, exchange: b"" },
        ..record::Head::default()
    }
}

/// What a property list says about how long a job is wanted, in ms.
fn time_to_live(properties: &[u8]) -> Option<u64> {
    if properties == PERSISTENT {
        return None;
    }
    let list = Properties::parse(properties).ok()?;
    std::str::from_utf8(list.get(Property::Expiration)?).ok()?.parse().ok()
}

/// The property list of a job: delivery mode 2 and nothing else.
const PERSISTENT: &[u8] = &[0x10, 0x00, 0x02];
