//! An engine as simple as can be, in fake time: what the door asks is done by searching all jobs.
//! It exists to be obviously right, and to answer the stories as the original does.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::{
    Enqueue, Envelope, JobCounts, JobFacts, JobId, JobState, JobVerb, Millis, Proof, QueueFacts,
    Refusal, Reply, Request, Ticket, Work, WorkCount, WorkFacts,
};

/// What the engine hands to a session.
#[derive(Debug)]
pub(super) enum Out {
    Reply(u16, Ticket, Reply),
    Got(Ticket, JobId, Bytes),
    Job(Ticket, Box<JobFacts>, Millis, Bytes),
}

#[derive(Debug)]
struct Job {
    facts: JobFacts,
    body: Bytes,
    published: u64,
    /// When its delay or lease ends.
    due: u64,
    owner: usize,
    /// Orders the buried ones.
    buried: u64,
}

#[derive(Debug, Default)]
struct Tube {
    name: Bytes,
    total: u64,
    deletes: u64,
    pauses: u64,
    pause_s: u64,
    paused_until: Option<u64>,
}

#[derive(Debug, Default)]
struct Session {
    is_open: bool,
    used: Option<Bytes>,
    watched: Vec<Bytes>,
    waiting: VecDeque<Ticket>,
    out: VecDeque<Out>,
    has_put: bool,
    has_claimed: bool,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Naive {
    pub(super) now: u64,
    last_id: u64,
    buries: u64,
    total: u64,
    timeouts: u64,
    jobs: BTreeMap<u64, Job>,
    tubes: Vec<Tube>,
    sessions: Vec<Session>,
    /// Sessions with a claim that waits, in the order of the claims.
    line: VecDeque<usize>,
    counts: [u64; WorkCount::ALL],
}

impl Naive {
    pub(super) fn open(&mut self) -> usize {
        self.sessions.push(Session { is_open: true, ..Session::default() });
        self.sessions.len() - 1
    }

    pub(super) fn close(&mut self, session: usize) {
        self.sessions[session] = Session::default();
        self.line.retain(|waiting| *waiting != session);
        for job in self.jobs.values_mut() {
            if job.facts.state == JobState::Claimed && job.owner == session {
                job.facts.state = JobState::Ready;
            }
        }
        self.settle();
    }

    pub(super) fn take(&mut self, session: usize) -> Option<Out> {
        self.sessions[session].out.pop_front()
    }

    pub(super) fn submit(&mut self, session: usize, envelope: Envelope) {
        let Envelope { channel, ticket, request } = envelope;
        let reply = match request {
            Request::Authenticate(credentials) => match &credentials.proof {
                Proof::Password(word) if &word[..] == b"open sesame" => {
                    Some(Reply::Authenticated { tags: Bytes::new() })
                }
                _ => Some(refused()),
            },
            Request::OpenVhost(name) if &name[..] == b"nowhere" => Some(refused()),
            Request::OpenVhost(_) | Request::OpenChannel { .. } | Request::Echo => {
                Some(Reply::Done)
            }
            Request::Enqueue(enqueue) => Some(self.enqueue(session, enqueue)),
            Request::Claim { is_timed } => {
                self.claim(session, ticket, is_timed);
                None
            }
            Request::Withdraw => {
                if let Some(ticket) = self.sessions[session].waiting.pop_front() {
                    let at = self.line.iter().position(|waiting| *waiting == session).unwrap();
                    self.line.remove(at);
                    self.sessions[session].out.push_back(Out::Reply(1, ticket, Reply::Empty));
                }
                None
            }
            Request::Job(id, verb) => self.on_job(session, (ticket, id.0), verb),
            Request::Work(work) => self.on_work(session, ticket, *work),
            other => panic!("the door asked {other:?}"),
        };
        if let Some(reply) = reply {
            self.sessions[session].out.push_back(Out::Reply(channel, ticket, reply));
        }
        self.settle();
    }

    /// Lets time pass up to `now`.
    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        let timed = |job: &Job| matches!(job.facts.state, JobState::Delayed | JobState::Claimed);
        let due = self.jobs.values().filter(|job| timed(job) && job.due <= now);
        let mut due: Vec<_> = due.map(|job| (job.due, job.facts.id.0)).collect();
        due.sort_unstable();
        for (_, id) in due {
            let job = self.jobs.get_mut(&id).unwrap();
            if job.facts.state == JobState::Claimed {
                job.facts.timeouts += 1;
                self.timeouts += 1;
            }
            job.facts.state = JobState::Ready;
            self.settle();
        }
        for tube in &mut self.tubes {
            if tube.paused_until.is_some_and(|until| until <= now) {
                (tube.paused_until, tube.pause_s) = (None, 0);
            }
        }
        self.settle();
    }

    fn count(&mut self, what: WorkCount) {
        self.counts[what as usize] += 1;
    }

    fn tube(&mut self, name: &Bytes) -> &mut Tube {
        if !self.tubes.iter().any(|tube| tube.name == name) {
            self.tubes.push(Tube { name: name.clone(), ..Tube::default() });
        }
        self.tubes.iter_mut().find(|tube| tube.name == name).unwrap()
    }

    fn is_paused(&self, name: &Bytes) -> bool {
        self.tubes.iter().any(|tube| tube.name == name && tube.paused_until.is_some())
    }

    fn enqueue(&mut self, session: usize, enqueue: Enqueue) -> Reply {
        self.count(WorkCount::Enqueue);
        self.sessions[session].has_put = true;
        if &enqueue.queue[..] == b"full" {
            return Reply::Rejected;
        }
        self.last_id += 1;
        self.total += 1;
        self.tube(&enqueue.queue).total += 1;
        let is_delayed = enqueue.delay_s > 0;
        let facts = JobFacts {
            id: JobId(self.last_id),
            queue: enqueue.queue,
            state: if is_delayed { JobState::Delayed } else { JobState::Ready },
            rank: enqueue.rank,
            delay_s: enqueue.delay_s,
            lease_s: enqueue.lease_s,
            left_s: 0,
            claims: 0,
            timeouts: 0,
            releases: 0,
            buries: 0,
            kicks: 0,
            failures: 0,
            worker: Bytes::new(),
            attempts: Vec::new(),
            now: Millis(0),
        };
        let job = Job {
            facts,
            body: Bytes::copy_from_slice(&enqueue.body),
            published: self.now,
            due: self.now + u64::from(enqueue.delay_s) * 1000,
            owner: 0,
            buried: 0,
        };
        self.jobs.insert(self.last_id, job);
        Reply::Enqueued { job: JobId(self.last_id), queue: model::QueueId(0) }
    }

    fn claim(&mut self, session: usize, ticket: Ticket, is_timed: bool) {
        self.count(if is_timed { WorkCount::ClaimWithin } else { WorkCount::Claim });
        self.sessions[session].has_claimed = true;
        let is_any_ready = self.jobs.values().any(|job| {
            job.facts.state == JobState::Ready
                && self.sessions[session].watched.contains(&job.facts.queue)
        });
        if self.is_lease_ending(session) && !is_any_ready {
            self.sessions[session].out.push_back(Out::Reply(1, ticket, Reply::LeaseEnding));
        } else {
            self.sessions[session].waiting.push_back(ticket);
            self.line.push_back(session);
        }
    }

    fn is_lease_ending(&self, session: usize) -> bool {
        self.jobs.values().any(|job| {
            job.facts.state == JobState::Claimed
                && job.owner == session
                && job.due <= self.now + 1000
        })
    }

    /// Hands out what is ready, tells who has waited into the end of a lease, drops empty tubes.
    fn settle(&mut self) {
        while let Some((at, id)) = self.next_handing_out() {
            let session = self.line.remove(at).unwrap();
            let ticket = self.sessions[session].waiting.pop_front().unwrap();
            self.hand_out(session, ticket, id);
        }
        for session in 0..self.sessions.len() {
            if !self.sessions[session].waiting.is_empty() && self.is_lease_ending(session) {
                self.line.retain(|waiting| *waiting != session);
                let state = &mut self.sessions[session];
                for ticket in state.waiting.drain(..) {
                    state.out.push_back(Out::Reply(1, ticket, Reply::LeaseEnding));
                }
            }
        }
        let mut at = 0;
        while let Some(tube) = self.tubes.get(at) {
            let name = &tube.name;
            let is_held = &name[..] == b"default"
                || self.jobs.values().any(|job| job.facts.queue == name)
                || self.sessions.iter().any(|session| {
                    session.used.as_ref() == Some(name) || session.watched.contains(name)
                });
            if is_held {
                at += 1;
            } else {
                self.tubes.swap_remove(at);
            }
        }
    }

    /// The first in line for whom there is a job, and the job.
    fn next_handing_out(&self) -> Option<(usize, u64)> {
        self.line.iter().enumerate().find_map(|(at, session)| {
            let watched = &self.sessions[*session].watched;
            let ready = self.jobs.values().filter(|job| {
                job.facts.state == JobState::Ready
                    && watched.contains(&job.facts.queue)
                    && !self.is_paused(&job.facts.queue)
            });
            ready.map(|job| (job.facts.rank, job.facts.id.0)).min().map(|(_, id)| (at, id))
        })
    }

    fn hand_out(&mut self, session: usize, ticket: Ticket, id: u64) {
        let job = self.jobs.get_mut(&id).unwrap();
        job.facts.state = JobState::Claimed;
        job.facts.claims += 1;
        job.owner = session;
        job.due = self.now + u64::from(job.facts.lease_s) * 1000;
        let body = job.body.clone();
        self.sessions[session].out.push_back(Out::Got(ticket, JobId(id), body));
    }

    fn on_job(&mut self, session: usize, of: (Ticket, u64), verb: JobVerb) -> Option<Reply> {
        let (ticket, id) = of;
        match verb {
            JobVerb::Claim => self.count(WorkCount::ClaimById),
            JobVerb::Delete => self.count(WorkCount::Delete),
            JobVerb::Release { .. } => self.count(WorkCount::Release),
            JobVerb::Bury { .. } => self.count(WorkCount::Bury),
            JobVerb::Renew => self.count(WorkCount::Renew),
            JobVerb::Kick => self.count(WorkCount::KickById),
            JobVerb::Describe => self.count(WorkCount::DescribeJob),
            JobVerb::Look => self.count(WorkCount::Look),
        }
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else { return Some(Reply::Empty) };
        let state = job.facts.state;
        let is_own = state == JobState::Claimed && job.owner == session;
        match verb {
            JobVerb::Look | JobVerb::Describe => {
                self.look(session, ticket, id);
                return None;
            }
            JobVerb::Claim if state != JobState::Claimed => {
                self.sessions[session].has_claimed = true;
                self.hand_out(session, ticket, id);
                return None;
            }
            JobVerb::Delete if is_own || state != JobState::Claimed => {
                let queue = self.jobs.remove(&id).unwrap().facts.queue;
                self.tube(&queue).deletes += 1;
                return Some(Reply::Done);
            }
            JobVerb::Release { rank, delay_s } if is_own => {
                job.facts.rank = rank;
                job.facts.delay_s = delay_s;
                job.facts.releases += 1;
                job.due = now + u64::from(delay_s) * 1000;
                job.facts.state = if delay_s > 0 { JobState::Delayed } else { JobState::Ready };
                return Some(Reply::Released { is_buried: false });
            }
            JobVerb::Bury { rank } if is_own => {
                self.buries += 1;
                job.buried = self.buries;
                job.facts.rank = rank;
                job.facts.buries += 1;
                job.facts.state = JobState::Buried;
                return Some(Reply::Released { is_buried: true });
            }
            JobVerb::Renew if is_own => {
                job.due = now + u64::from(job.facts.lease_s) * 1000;
                return Some(Reply::Done);
            }
            JobVerb::Kick if matches!(state, JobState::Buried | JobState::Delayed) => {
                job.facts.state = JobState::Ready;
                job.facts.kicks += 1;
                return Some(Reply::Done);
            }
            _ => {}
        }
        Some(Reply::Empty)
    }

    fn look(&mut self, session: usize, ticket: Ticket, id: u64) {
        let job = &self.jobs[&id];
        let mut facts = job.facts.clone();
        facts.now = Millis(self.now);
        if matches!(facts.state, JobState::Delayed | JobState::Claimed) {
            facts.left_s = job.due.saturating_sub(self.now) / 1000;
        }
        let out = Out::Job(ticket, Box::new(facts), Millis(job.published), job.body.clone());
        self.sessions[session].out.push_back(out);
    }

    fn on_work(&mut self, session: usize, ticket: Ticket, work: Work) -> Option<Reply> {
        Some(match work {
            Work::Use(name) => {
                self.count_client(WorkCount::Use, self.sessions[session].used.is_some());
                self.tube(&name);
                self.sessions[session].used = Some(name);
                Reply::Done
            }
            Work::Watch(name) => {
                let is_first = self.sessions[session].watched.is_empty();
                self.count_client(WorkCount::Watch, !is_first);
                self.tube(&name);
                let watched = &mut self.sessions[session].watched;
                if !watched.contains(&name) {
                    watched.push(name);
                }
                Reply::Watching { count: u32::try_from(watched.len()).unwrap(), is_last: false }
            }
            Work::Ignore(name) => {
                self.count(WorkCount::Ignore);
                let watched = &mut self.sessions[session].watched;
                let is_last = watched.len() == 1 && watched.contains(&name);
                if !is_last {
                    watched.retain(|other| *other != name);
                }
                Reply::Watching { count: u32::try_from(watched.len()).unwrap(), is_last }
            }
            Work::LookFirst(name, state) => {
                self.count(match state {
                    JobState::Ready | JobState::Claimed => WorkCount::LookReady,
                    JobState::Delayed => WorkCount::LookDelayed,
                    JobState::Buried => WorkCount::LookBuried,
                });
                let Some(id) = self.in_order(&name, state).into_iter().next() else {
                    return Some(Reply::Empty);
                };
                self.look(session, ticket, id);
                return None;
            }
            Work::Kick(name, count) => self.kick(&name, count),
            Work::Pause(name, seconds) => self.pause(&name, seconds),
            Work::DescribeQueue(name) => {
                self.count(WorkCount::DescribeQueue);
                self.describe_queue(&name)
            }
            Work::Describe => {
                self.count(WorkCount::Describe);
                self.describe()
            }
            Work::ListQueues => {
                self.count(WorkCount::ListQueues);
                Reply::Names(self.tubes.iter().map(|tube| tube.name.clone()).collect())
            }
        })
    }

    fn kick(&mut self, name: &Bytes, count: u64) -> Reply {
        self.count(WorkCount::Kick);
        let buried = self.in_order(name, JobState::Buried);
        let delayed = self.in_order(name, JobState::Delayed);
        let from = if buried.is_empty() { delayed } else { buried };
        let kicked: Vec<u64> = from.into_iter().take(usize::try_from(count).unwrap()).collect();
        for id in &kicked {
            let facts = &mut self.jobs.get_mut(id).unwrap().facts;
            facts.state = JobState::Ready;
            facts.kicks += 1;
        }
        Reply::Kicked { count: kicked.len() as u64 }
    }

    fn pause(&mut self, name: &Bytes, seconds: u32) -> Reply {
        self.count(WorkCount::Pause);
        let until = self.now + u64::from(seconds) * 1000;
        let Some(tube) = self.tubes.iter_mut().find(|tube| tube.name == name) else {
            return Reply::Empty;
        };
        tube.pauses += 1;
        tube.pause_s = seconds.into();
        tube.paused_until = (seconds > 0).then_some(until);
        Reply::Done
    }

    /// What the door asks when a client comes is not a client's command.
    fn count_client(&mut self, what: WorkCount, is_client: bool) {
        if is_client {
            self.count(what);
        }
    }

    fn in_order(&self, name: &Bytes, state: JobState) -> Vec<u64> {
        let mut jobs: Vec<&Job> = self
            .jobs
            .values()
            .filter(|job| job.facts.queue == name && job.facts.state == state)
            .collect();
        jobs.sort_by_key(|job| match state {
            JobState::Ready | JobState::Claimed => (u64::from(job.facts.rank), job.facts.id.0),
            JobState::Delayed => (job.due, job.facts.id.0),
            JobState::Buried => (job.buried, 0),
        });
        jobs.into_iter().map(|job| job.facts.id.0).collect()
    }

    fn counts_of(&self, name: Option<&Bytes>) -> JobCounts {
        let mut counts = JobCounts::default();
        for job in self.jobs.values().filter(|job| name.is_none_or(|name| job.facts.queue == name))
        {
            match job.facts.state {
                JobState::Ready => {
                    counts.ready += 1;
                    counts.urgent += u64::from(job.facts.rank < 1024);
                }
                JobState::Claimed => counts.claimed += 1,
                JobState::Delayed => counts.delayed += 1,
                JobState::Buried => counts.buried += 1,
            }
        }
        counts
    }

    fn sessions_that(&self, is: impl Fn(&Session) -> bool) -> u32 {
        u32::try_from(self.sessions.iter().filter(|session| session.is_open && is(session)).count())
            .unwrap()
    }

    fn describe_queue(&self, name: &Bytes) -> Reply {
        let Some(tube) = self.tubes.iter().find(|tube| tube.name == name) else {
            return Reply::Empty;
        };
        let watching = |session: &Session| session.watched.contains(name);
        Reply::QueueFacts(Box::new(QueueFacts {
            name: name.clone(),
            jobs: JobCounts { total: tube.total, ..self.counts_of(Some(name)) },
            using: self.sessions_that(|session| session.used.as_ref() == Some(name)),
            watching: self.sessions_that(watching),
            waiting: self.sessions_that(|session| watching(session) && !session.waiting.is_empty()),
            deletes: tube.deletes,
            pauses: tube.pauses,
            pause_s: tube.pause_s,
            pause_left_s: tube.paused_until.map_or(0, |until| (until - self.now) / 1000),
        }))
    }

    fn describe(&self) -> Reply {
        Reply::WorkFacts(Box::new(WorkFacts {
            jobs: JobCounts { total: self.total, ..self.counts_of(None) },
            timeouts: self.timeouts,
            queues: self.tubes.len() as u64,
            sessions: 0,
            producers: self.sessions_that(|session| session.has_put).into(),
            workers: self.sessions_that(|session| session.has_claimed).into(),
            waiting: self.sessions_that(|session| !session.waiting.is_empty()).into(),
            sessions_total: 0,
            counts: self.counts,
        }))
    }
}

fn refused() -> Reply {
    Reply::Refused(Box::new(Refusal::AccessRefused { reason: "not you".to_owned() }))
}
