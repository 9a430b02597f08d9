//! [`JobLedger`]: what is known of each job that only the requests about jobs have touched, and
//! what must not be answered then. Knows nothing of order (the engine's own tests do).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use engine::Handout;
use model::{Enqueue, JobFacts, JobId, JobState, JobVerb, Reply, Request, SessionId, Ticket, Work};

use super::acts::SHARED;
use super::ledger::{From, Note, Queue};

const READY: u8 = 1;
const CLAIMED: u8 = 2;
const DELAYED: u8 = 4;
const BURIED: u8 = 8;
/// Nobody has it.
const FREE: u8 = READY | DELAYED | BURIED;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct JobLedger {
    jobs: BTreeMap<JobId, Known>,
    /// Seen to be deleted.
    deleted: BTreeSet<JobId>,
    /// Every job that was ever seen, in the order of their coming.
    pub(super) all: Vec<JobId>,
    asked: BTreeMap<Ticket, Asked>,
    /// What comes back too often is buried.
    pub(super) is_limited: bool,
}

#[derive(Debug)]
struct Asked {
    from: From,
    vhost: u8,
    what: What,
}

#[derive(Debug)]
enum What {
    Enqueue(Box<(Enqueue, u64)>),
    Claim,
    Job(JobId, JobVerb),
    Kick(Bytes, u64),
    LookFirst(Bytes, JobState),
    DescribeQueue(Bytes),
}

/// A job that is there.
#[derive(Debug)]
struct Known {
    queue: Queue,
    number: u64,
    /// Where it may be, until `due`.
    states: u8,
    /// When its delay or its lease ends.
    due: u64,
    lease_s: u32,
    /// `None`: a torn log may have brought an older one back.
    rank: Option<u32>,
    holder: Option<(From, u64)>,
    /// Where it was before it was claimed: a restart forgets claims.
    before: (u8, u64),
    key: Option<Bytes>,
    /// Others may hold it back.
    is_tied: bool,
}

impl Known {
    /// Where it may be now.
    fn places(&self, now: u64, is_limited: bool) -> u8 {
        let mut states = self.states;
        let is_over = now >= self.due;
        if states & DELAYED != 0 && is_over {
            states |= READY;
        }
        if states & CLAIMED != 0 && self.lease_s > 0 && is_over {
            states |= returned(is_limited);
        }
        if self.is_tied && states & READY != 0 {
            states |= DELAYED;
        }
        states
    }

    /// Certainly in the hands of a channel.
    fn is_held_by(&self, from: From, now: u64) -> bool {
        self.holder.is_some_and(|(holder, _)| holder == from)
            && (self.lease_s == 0 || now < self.due)
    }

    fn lay(&mut self, states: u8, due: u64) {
        (self.states, self.due, self.holder) = (states, due, None);
    }
}

/// Where a job is that comes back.
const fn returned(is_limited: bool) -> u8 {
    if is_limited { READY | BURIED } else { READY }
}

const fn place(state: JobState) -> u8 {
    match state {
        JobState::Ready => READY,
        JobState::Claimed => CLAIMED,
        JobState::Delayed => DELAYED,
        JobState::Buried => BURIED,
    }
}

impl JobLedger {
    /// Looks at a request before it is made; `number` is that of the last message.
    pub(super) fn note(&mut self, from: From, vhost: u8, ticket: Ticket, request: &Request) {
        let what = match request {
            Request::Enqueue(job) => {
                let number = job.body.first_chunk::<8>().expect("a body of ours");
                What::Enqueue(Box::new((job.clone(), u64::from_le_bytes(*number))))
            }
            Request::Claim { .. } => What::Claim,
            Request::Job(id, verb) => What::Job(*id, *verb),
            Request::Work(work) => match &**work {
                Work::Kick(queue, most) => What::Kick(queue.clone(), *most),
                Work::LookFirst(queue, state) => What::LookFirst(queue.clone(), *state),
                Work::DescribeQueue(queue) => What::DescribeQueue(queue.clone()),
                _ => return,
            },
            _ => return,
        };
        self.asked.insert(ticket, Asked { from, vhost, what });
    }

    /// A request of another door was not refused: deliveries it speaks of may be claims.
    pub(super) fn happened(&mut self, note: &Note) {
        match note {
            Note::Nothing => {}
            Note::Settle(from, ends) => {
                for (tag, is_multiple, _) in ends {
                    let last = if *is_multiple && *tag == 0 { u64::MAX } else { *tag };
                    let first = if *is_multiple { 0 } else { *tag };
                    self.jobs.retain(|_, job| {
                        !job.holder.is_some_and(|(holder, tag)| {
                            holder == *from && (first..=last).contains(&tag)
                        })
                    });
                }
            }
            Note::Back(from) => self.let_go(|holder| holder == *from, FREE),
        }
    }

    fn let_go(&mut self, is_it: impl Fn(From) -> bool, states: u8) {
        for job in self.jobs.values_mut() {
            if job.holder.is_some_and(|(holder, _)| is_it(holder)) {
                job.lay(states, 0);
            }
        }
    }

    /// A session is gone.
    pub(super) fn left(&mut self, session: SessionId) {
        let states = returned(self.is_limited);
        self.let_go(|holder| holder.0 == session, states);
        self.asked.retain(|_, asked| asked.from.0 != session);
    }

    /// A virtual host is gone, with all that was in it.
    pub(super) fn vhost_gone(&mut self, vhost: u8) {
        self.jobs.retain(|_, job| job.queue.0 != vhost);
    }

    /// The process was started again; `kept` says which records are there, when some are lost.
    pub(super) fn restarted(&mut self, now: u64, is_torn: bool, kept: impl Fn(JobId) -> bool) {
        self.asked.clear();
        let is_limited = self.is_limited;
        if is_torn {
            self.deleted.clear();
            self.jobs.retain(|id, _| kept(*id));
        }
        for job in self.jobs.values_mut() {
            if is_torn {
                job.lay(FREE, 0);
                job.rank = None;
            } else if job.holder.is_some() {
                let more = job.places(now, is_limited) & FREE;
                let (states, due) = job.before;
                job.lay(states | more, due);
            }
        }
    }

    /// Whether an answer is about a claim.
    pub(super) fn is_claim(&self, ticket: Ticket) -> bool {
        self.asked.contains_key(&ticket)
    }

    /// A job was handed over.
    pub(super) fn got(
        &mut self,
        ticket: Ticket,
        (id, number): (JobId, u64),
        delivery: &Handout,
        now: u64,
    ) {
        let asked = self.asked.remove(&ticket).expect("a claim");
        let wanted = match asked.what {
            What::Claim => READY,
            What::Job(of, JobVerb::Claim) => {
                assert_eq!(of, id, "another one was asked for");
                FREE
            }
            other => panic!("{other:?} was answered with a job"),
        };
        assert!(!self.deleted.contains(&id), "{id} was deleted");
        let is_limited = self.is_limited;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        assert_eq!((job.number, job.queue.0), (number, asked.vhost), "{id}: {job:?}");
        let places = job.places(now, is_limited);
        assert!(places & wanted != 0, "{id} is handed over at {now}: {job:?}");
        job.before = (places & FREE, job.due);
        job.states = CLAIMED;
        job.due = now + u64::from(job.lease_s) * 1000;
        job.holder = Some((asked.from, delivery.tag));
    }

    /// A job was looked at.
    pub(super) fn shown(&mut self, ticket: Ticket, facts: &JobFacts, now: u64) {
        let asked = self.asked.remove(&ticket).expect("a question");
        assert!(!self.deleted.contains(&facts.id), "{facts:?} was deleted");
        if let What::Job(id, _) = asked.what {
            assert_eq!(id, facts.id, "another one was asked for");
        }
        let Some(job) = self.jobs.get(&facts.id) else { return };
        assert_eq!(job.queue, (asked.vhost, facts.queue.clone()), "{facts:?}");
        let places = job.places(now, self.is_limited);
        assert!(places & place(facts.state) != 0, "at {now}: {facts:?}, {job:?}");
        assert!(job.rank.is_none_or(|rank| rank == facts.rank), "{facts:?}, {job:?}");
    }

    /// Anything else was answered. `stored` is the number of the message at a position.
    pub(super) fn answered(
        &mut self,
        ticket: Ticket,
        reply: &Reply,
        now: u64,
        stored: impl Fn(JobId) -> Option<u64>,
    ) {
        let Some(asked) = self.asked.remove(&ticket) else { return };
        match (asked.what, reply) {
            (_, Reply::Refused(_)) => {}
            (What::Enqueue(job), Reply::Enqueued { job: id, .. }) => {
                let is_new = stored(*id) == Some(job.1);
                self.came(asked.vhost, *id, *job, (now, is_new));
            }
            (What::Job(id, verb), reply) => {
                let is_done = !matches!(reply, Reply::Empty);
                let is_buried = matches!(reply, Reply::Released { is_buried: true });
                self.job(asked.from, asked.vhost, (id, verb), (is_done, is_buried, now));
            }
            (What::Kick(queue, most), Reply::Kicked { count }) => {
                self.kicked(&(asked.vhost, queue), most, *count, now);
            }
            (What::LookFirst(queue, state), Reply::Empty) => {
                let is_limited = self.is_limited;
                let queue = (asked.vhost, queue);
                let mut there = self.of(&queue);
                let seen = there.find(|job| job.places(now, is_limited) == place(state));
                let seen = seen.filter(|_| state != JobState::Claimed);
                assert!(seen.is_none(), "at {now}: none is {state:?}, but {seen:?}");
            }
            (What::DescribeQueue(queue), Reply::QueueFacts(facts)) if queue != SHARED => {
                let jobs = facts.jobs;
                let sum = jobs.ready + jobs.claimed + jobs.delayed + jobs.buried;
                let queue = (asked.vhost, queue);
                let there = self.of(&queue).count() as u64;
                assert!(sum >= there, "{there} jobs: {facts:?}");
            }
            _ => {}
        }
    }

    fn of(&self, queue: &Queue) -> impl Iterator<Item = &Known> {
        self.jobs.values().filter(move |job| job.queue == *queue)
    }

    fn came(
        &mut self,
        vhost: u8,
        id: JobId,
        (job, number): (Enqueue, u64),
        (now, is_new): (u64, bool),
    ) {
        let ties = job.ties.unwrap_or_default();
        if !is_new {
            assert!(ties.idempotency.is_some(), "{id} is not message {number}");
            let first = self.jobs.get(&id);
            assert!(first.is_none_or(|first| first.key == ties.idempotency), "{first:?}");
            return;
        }
        self.all.push(id);
        if job.queue == SHARED {
            return;
        }
        assert!(!self.deleted.contains(&id), "{id} is used again");
        let states = if job.delay_s > 0 { DELAYED } else { READY };
        let due = now + u64::from(job.delay_s) * 1000;
        let known = Known {
            queue: (vhost, job.queue),
            number,
            states,
            due,
            lease_s: job.lease_s,
            rank: Some(job.rank),
            holder: None,
            before: (states, due),
            is_tied: ties.after_group.is_some() || ties.concurrency.is_some(),
            key: ties.idempotency,
        };
        let other = self.jobs.insert(id, known);
        assert!(other.is_none(), "{id} is used again: {other:?}");
    }

    fn job(
        &mut self,
        from: From,
        vhost: u8,
        (id, verb): (JobId, JobVerb),
        (is_done, is_buried, now): (bool, bool, u64),
    ) {
        assert!(!is_done || !self.deleted.contains(&id), "{verb:?} of {id}, which was deleted");
        let is_limited = self.is_limited;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.queue.0 != vhost {
            assert!(!is_done, "{verb:?} of {id} in another virtual host: {job:?}");
            return;
        }
        let places = job.places(now, is_limited);
        let is_own = job.is_held_by(from, now);
        let (may, must) = match verb {
            JobVerb::Delete => (
                job.holder.is_some_and(|(holder, _)| holder == from) || places & FREE != 0,
                is_own || places & CLAIMED == 0,
            ),
            JobVerb::Release { .. } | JobVerb::Bury { .. } | JobVerb::Renew => {
                (job.holder.is_some_and(|(holder, _)| holder == from), is_own)
            }
            JobVerb::Kick => {
                let aside = DELAYED | BURIED;
                (places & aside != 0, places & !aside == 0)
            }
            JobVerb::Claim => (places & FREE != 0, places & CLAIMED == 0),
            JobVerb::Look | JobVerb::Describe => (true, true),
        };
        assert!(is_done || !must, "at {now}: no {verb:?} of {id}: {job:?}");
        assert!(!is_done || may, "at {now}: {verb:?} of {id}: {job:?}");
        if !is_done {
            return;
        }
        match verb {
            JobVerb::Delete => {
                self.jobs.remove(&id);
                self.deleted.insert(id);
            }
            JobVerb::Release { rank, .. } | JobVerb::Bury { rank } if is_buried => {
                job.lay(BURIED, 0);
                job.rank = Some(rank);
            }
            JobVerb::Release { rank, delay_s } => {
                let states = if delay_s > 0 { DELAYED } else { READY };
                job.lay(states, now + u64::from(delay_s) * 1000);
                job.rank = Some(rank);
            }
            JobVerb::Bury { .. } => panic!("{id} was not buried: {job:?}"),
            JobVerb::Renew => job.due = now + u64::from(job.lease_s) * 1000,
            JobVerb::Kick => job.lay(READY, 0),
            JobVerb::Claim | JobVerb::Look | JobVerb::Describe => {}
        }
    }

    fn kicked(&mut self, queue: &Queue, most: u64, count: u64, now: u64) {
        assert!(count <= most, "{count} were kicked, not {most}");
        let is_limited = self.is_limited;
        let buried = self.of(queue).find(|job| job.places(now, is_limited) == BURIED);
        assert!(count > 0 || most == 0 || buried.is_none(), "none was kicked, but {buried:?}");
        for job in self.jobs.values_mut().filter(|job| job.queue == *queue) {
            if count > 0 && job.places(now, is_limited) & (DELAYED | BURIED) != 0 {
                job.states |= READY;
            }
        }
    }

    /// One of the jobs that a channel has.
    pub(super) fn held(&self, from: From, nth: usize) -> Option<JobId> {
        let all = self.jobs.iter();
        let mut own = all.filter(|(_, job)| job.holder.is_some_and(|(holder, _)| holder == from));
        let count = own.clone().count();
        own.nth(nth % count.max(1)).map(|(id, _)| *id)
    }

    /// The jobs that must be there, and their virtual hosts.
    pub(super) fn there(&self) -> Vec<(JobId, u8)> {
        self.jobs.iter().map(|(id, job)| (*id, job.queue.0)).collect()
    }
}
