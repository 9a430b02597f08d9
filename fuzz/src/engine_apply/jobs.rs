//! The steps of a history that have to do with jobs: few queues, few keys, ids of jobs that are
//! there, that were there and that never were. What must hold is not here (`job_ledger`).

use bytes::Bytes;
use model::{Consume, ConsumerId, Enqueue, JobId, JobState, JobVerb, Publish, Request, Ties, Work};

use super::acts::{JOB_QUEUES, SHARED};
use super::{SESSIONS, World};
use crate::source::Source;

const RANKS: [u32; 5] = [0, 1_023, 65_280, 65_536, u32::MAX];
const KEYS: [&str; 2] = ["x", "y"];
const STATES: [JobState; 4] =
    [JobState::Ready, JobState::Delayed, JobState::Buried, JobState::Claimed];

impl World {
    /// One step with jobs.
    pub(super) fn job_step(&mut self, session: usize, channel: u16, source: &mut Source<'_>) {
        // The channel that watches from the beginning, mostly.
        let channel = if source.below(8) == 0 { channel } else { 1 };
        let request = match source.below(16) {
            0..=3 => Request::Enqueue(self.job(source)),
            4 | 5 => Request::Claim { is_timed: source.is() },
            6 => Request::Withdraw,
            7..=10 => Request::Job(self.job_id(session, channel, source), verb(source)),
            11 => Request::Work(Box::new(Work::Watch(queue(source)))),
            12 | 13 => Request::Work(Box::new(work(source))),
            14 => return self.wait(u64::from(source.u8()) * 10),
            _ => self.from_elsewhere(source),
        };
        self.send(session, channel, request);
    }

    /// A session begins to work with jobs.
    pub(super) fn watch(&mut self, session: usize) {
        for name in [JOB_QUEUES[0], SHARED] {
            let work = Work::Watch(Bytes::from_static(name.as_bytes()));
            self.send(session, 1, Request::Work(Box::new(work)));
        }
    }

    /// Every job that must be there is found.
    pub(super) fn survey(&mut self) {
        for (id, vhost) in self.jobs.there() {
            let Some(session) = (0..SESSIONS).find(|at| self.vhosts[*at] == vhost) else {
                continue;
            };
            self.send(session, 1, Request::Job(id, JobVerb::Look));
            self.take(session);
        }
    }

    fn job(&mut self, source: &mut Source<'_>) -> Enqueue {
        let mut body = self.ledger.number().to_le_bytes().to_vec();
        body.resize(8 + usize::from(source.u8() % 100), b'.');
        let bits = source.u8();
        Enqueue {
            queue: queue(source),
            body: body.into(),
            properties: Bytes::new(),
            rank: source.pick(&RANKS),
            delay_s: u32::from(bits & 3).saturating_sub(1),
            lease_s: u32::from(bits >> 2 & 3),
            ties: (bits >> 4 == 1).then(|| Box::new(ties(source))),
        }
    }

    /// A job that the channel has, one that came at some time, or any number.
    fn job_id(&self, session: usize, channel: u16, source: &mut Source<'_>) -> JobId {
        let at = source.below(128);
        if at >= 64
            && let Some(id) = self.jobs.held((self.id(session), channel), at - 64)
        {
            return id;
        }
        let at = at % 64;
        let all = &self.jobs.all;
        let newest = all.len().saturating_sub(1 + at % 16);
        if at < 60 && !all.is_empty() { all[newest] } else { JobId(u64::from(source.u16())) }
    }

    /// What the other door does with a queue of jobs.
    fn from_elsewhere(&mut self, source: &mut Source<'_>) -> Request {
        let queue = Bytes::from_static(SHARED.as_bytes());
        match source.below(6) {
            0 => Request::Get { queue, no_ack: source.is() },
            1 => {
                self.consumers += 1;
                let (id, no_ack) = (ConsumerId(self.consumers), source.is());
                let consume = Consume {
                    queue,
                    id,
                    label: Bytes::new(),
                    no_ack,
                    is_exclusive: false,
                    priority: 0,
                };
                Request::Consume(Box::new(consume))
            }
            2 => Request::PurgeQueue(queue),
            3 => Request::DeleteQueue { name: queue, if_unused: source.is(), if_empty: false },
            _ => {
                let publish = self.publish(source);
                let exchange = Bytes::new();
                Request::Publish(Publish { exchange, routing_key: queue, ..publish })
            }
        }
    }
}

fn queue(source: &mut Source<'_>) -> Bytes {
    Bytes::from_static(source.pick(&JOB_QUEUES).as_bytes())
}

fn key(source: &mut Source<'_>) -> Bytes {
    Bytes::from_static(source.pick(&KEYS).as_bytes())
}

fn ties(source: &mut Source<'_>) -> Ties {
    let bits = source.u8();
    Ties {
        idempotency: (bits & 1 != 0).then(|| key(source)),
        idempotency_s: u32::from(bits >> 4 & 3),
        group: (bits & 2 != 0).then(|| key(source)),
        after_group: (bits & 4 != 0).then(|| key(source)),
        concurrency: (bits & 8 != 0).then(|| (key(source), 1 + u32::from(bits >> 6))),
    }
}

fn verb(source: &mut Source<'_>) -> JobVerb {
    match source.below(12) {
        0 | 1 => JobVerb::Claim,
        2..=4 => JobVerb::Delete,
        5 | 6 => {
            JobVerb::Release { rank: source.pick(&RANKS), delay_s: u32::from(source.u8() % 3) }
        }
        7 | 8 => JobVerb::Bury { rank: source.pick(&RANKS) },
        9 => JobVerb::Renew,
        10 => JobVerb::Kick,
        _ => source.pick(&[JobVerb::Look, JobVerb::Describe]),
    }
}

fn work(source: &mut Source<'_>) -> Work {
    let queue = queue(source);
    match source.below(8) {
        0 => Work::Use(queue),
        1 => Work::Ignore(queue),
        2 => Work::LookFirst(queue, source.pick(&STATES)),
        3 => Work::Kick(queue, u64::from(source.u8() % 4)),
        4 => Work::Pause(queue, u32::from(source.u8() % 3)),
        5 => Work::DescribeQueue(queue),
        6 => Work::Describe,
        _ => Work::ListQueues,
    }
}
