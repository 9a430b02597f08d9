//! Any history of jobs against a naive model: a map from ids to where each job should be. After
//! each step the engine must know the same of every job, and recovery must find it again.

use std::collections::BTreeMap;

use model::{Enqueue, JobId, JobState, JobVerb, Work};
use proptest::prelude::*;

use super::jobs::{Claimed, new_job};
use super::*;

const QUEUES: [&str; 2] = ["left", "right"];
/// More ranks than a queue has lines would need too many jobs; two of these have one of AMQP.
const RANKS: [u32; 5] = [0, 1023, 65_536, 65_280, u32::MAX];

#[derive(Clone, Debug)]
enum Step {
    Put {
        queue: usize,
        rank: usize,
        delay_s: u32,
        lease_s: u32,
    },
    Claim {
        is_bob: bool,
    },
    /// With the n-th job that ever was.
    Job {
        is_bob: bool,
        at: usize,
        verb: JobVerb,
    },
    Kick {
        queue: usize,
        most: u64,
    },
    Wait {
        ms: u64,
    },
    Leave {
        is_bob: bool,
    },
    Restart,
}

/// Where a job should be.
#[derive(Clone, Debug)]
struct Known {
    queue: usize,
    rank: u32,
    state: JobState,
    /// Of a delay or a lease.
    until: u64,
    owner: Option<SessionId>,
    /// Where it was before it was claimed, and until when: a restart forgets claims.
    before: (JobState, u64),
    lease_s: u32,
    burial: u64,
    /// Claims, timeouts, releases, buries, kicks.
    tally: [u32; 5],
}

#[derive(Default)]
struct Naive {
    jobs: BTreeMap<JobId, Known>,
    burials: u64,
}

impl Naive {
    fn pass(&mut self, now: u64) {
        for job in self.jobs.values_mut() {
            let is_over = job.until <= now;
            match job.state {
                JobState::Delayed if is_over => job.state = JobState::Ready,
                JobState::Claimed if is_over => {
                    job.state = JobState::Ready;
                    job.owner = None;
                    job.tally[1] += 1;
                }
                JobState::Ready | JobState::Claimed | JobState::Delayed | JobState::Buried => {}
            }
        }
    }

    fn next(&self) -> Option<JobId> {
        let ready = self.jobs.iter().filter(|(_, job)| job.state == JobState::Ready);
        ready.min_by_key(|(id, job)| (job.rank, **id)).map(|(id, _)| *id)
    }

    fn claim(&mut self, id: JobId, owner: SessionId, now: u64) {
        let job = self.jobs.get_mut(&id).unwrap();
        job.before = (job.state, job.until);
        job.state = JobState::Claimed;
        job.owner = Some(owner);
        job.until = end_of(now, job.lease_s);
        job.tally[0] += 1;
    }

    /// Whether it can be done, and does it.
    fn act(&mut self, who: SessionId, id: JobId, verb: JobVerb, now: u64) -> bool {
        let burials = self.burials;
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let is_own = job.owner == Some(who);
        let is_free = job.state != JobState::Claimed;
        match verb {
            JobVerb::Delete if is_own || is_free => {
                self.jobs.remove(&id);
            }
            JobVerb::Release { rank, delay_s } if is_own => {
                job.owner = None;
                job.rank = rank;
                job.until = end_of(now, delay_s);
                job.state = if delay_s > 0 { JobState::Delayed } else { JobState::Ready };
                job.tally[2] += 1;
            }
            JobVerb::Bury { rank } if is_own => {
                job.owner = None;
                job.rank = rank;
                job.state = JobState::Buried;
                job.burial = burials;
                job.tally[3] += 1;
                self.burials += 1;
            }
            JobVerb::Renew if is_own => job.until = end_of(now, job.lease_s),
            JobVerb::Kick if matches!(job.state, JobState::Buried | JobState::Delayed) => {
                job.state = JobState::Ready;
                job.tally[4] += 1;
            }
            JobVerb::Claim if is_free => self.claim(id, who, now),
            JobVerb::Delete
            | JobVerb::Release { .. }
            | JobVerb::Bury { .. }
            | JobVerb::Renew
            | JobVerb::Kick
            | JobVerb::Claim
            | JobVerb::Look
            | JobVerb::Describe => return false,
        }
        true
    }

    fn kick(&mut self, queue: usize, most: u64) -> u64 {
        let of = |state| {
            let of_it = self.jobs.iter().filter(|(_, job)| job.queue == queue);
            let mut list: Vec<(u64, JobId)> = of_it
                .filter(|(_, job)| job.state == state)
                .map(|(id, job)| {
                    (if state == JobState::Buried { job.burial } else { job.until }, *id)
                })
                .collect();
            list.sort_unstable();
            list
        };
        let buried = of(JobState::Buried);
        let list = if buried.is_empty() { of(JobState::Delayed) } else { buried };
        let some: Vec<JobId> =
            list.into_iter().take(usize::try_from(most).unwrap()).map(|(_, id)| id).collect();
        for id in &some {
            let job = self.jobs.get_mut(id).unwrap();
            job.state = JobState::Ready;
            job.tally[4] += 1;
        }
        some.len() as u64
    }

    fn leave(&mut self, who: SessionId) {
        for job in self.jobs.values_mut().filter(|job| job.owner == Some(who)) {
            job.owner = None;
            job.state = JobState::Ready;
        }
    }

    /// What was claimed is forgotten with those who had it.
    fn restart(&mut self) {
        for job in self.jobs.values_mut() {
            if job.owner.take().is_some() {
                job.tally[0] -= 1;
                (job.state, job.until) = job.before;
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verb = prop_oneof![
        3 => Just(JobVerb::Delete),
        3 => (0..RANKS.len(), 0..3_u32)
            .prop_map(|(rank, delay_s)| JobVerb::Release { rank: RANKS[rank], delay_s }),
        2 => (0..RANKS.len()).prop_map(|rank| JobVerb::Bury { rank: RANKS[rank] }),
        1 => Just(JobVerb::Renew),
        1 => Just(JobVerb::Kick),
        2 => Just(JobVerb::Claim),
    ];
    let step = prop_oneof![
        6 => (0..2_usize, 0..RANKS.len(), 0..3_u32, 1..4_u32)
            .prop_map(|(queue, rank, delay_s, lease_s)| {
                Step::Put { queue, rank, delay_s, lease_s }
            }),
        5 => any::<bool>().prop_map(|is_bob| Step::Claim { is_bob }),
        6 => (any::<bool>(), 0..40_usize, verb)
            .prop_map(|(is_bob, at, verb)| Step::Job { is_bob, at, verb }),
        1 => (0..2_usize, 0..4_u64).prop_map(|(queue, most)| Step::Kick { queue, most }),
        2 => (1..2_500_u64).prop_map(|ms| Step::Wait { ms }),
        1 => any::<bool>().prop_map(|is_bob| Step::Leave { is_bob }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// The clock is cut to milliseconds, and nothing is early.
fn end_of(now: u64, seconds: u32) -> u64 {
    now + u64::from(seconds) * 1000 + 1
}

const fn who(is_bob: bool) -> SessionId {
    if is_bob { BOB } else { ALICE }
}

fn enter(world: &mut World, session: SessionId) {
    for queue in QUEUES {
        world.watch(session, queue);
    }
}

/// Carries a step out in both and compares what was answered.
fn step(world: &mut World, naive: &mut Naive, ids: &mut Vec<JobId>, step: &Step) {
    match *step {
        Step::Put { queue, rank, delay_s, lease_s } => {
            let job = new_job(QUEUES[queue], RANKS[rank], "x");
            let id = world.enqueue(ALICE, Enqueue { delay_s, lease_s, ..job });
            ids.push(id);
            let state = if delay_s > 0 { JobState::Delayed } else { JobState::Ready };
            let until = end_of(world.now, delay_s);
            let (rank, owner, burial, tally) = (RANKS[rank], None, 0, [0; 5]);
            let before = (state, until);
            naive.jobs.insert(
                id,
                Known { queue, rank, state, until, owner, before, lease_s, burial, tally },
            );
        }
        Step::Claim { is_bob } => {
            let expected = naive.next();
            match world.claim(who(is_bob)) {
                Claimed::Job(seen) => {
                    assert_eq!(seen.job, expected, "another one is next");
                    naive.claim(expected.unwrap(), who(is_bob), world.now);
                }
                Claimed::Waits => {
                    assert_eq!(expected, None, "it waits although there is one");
                    world.send(who(is_bob), 1, Request::Withdraw);
                }
                Claimed::Reply(reply) => {
                    assert!(matches!(reply, Reply::LeaseEnding), "{reply:?}");
                    assert_eq!(expected, None, "warned although there is one");
                }
            }
        }
        Step::Job { is_bob, at, verb } => {
            let Some(id) = ids.get(at % ids.len().max(1)).copied() else { return };
            let can = naive.act(who(is_bob), id, verb, world.now);
            world.outputs.clear();
            world.send(who(is_bob), 1, Request::Job(id, verb));
            let is_empty = world
                .outputs
                .iter()
                .any(|output| matches!(output.push, Push::Reply { reply: Reply::Empty, .. }));
            assert_eq!(can, !is_empty, "{verb:?} of {id}");
        }
        Step::Kick { queue, most } => {
            let expected = naive.kick(queue, most);
            let reply = world.work(ALICE, Work::Kick(QUEUES[queue].into(), most));
            assert!(matches!(reply, Reply::Kicked { count } if count == expected), "{reply:?}");
        }
        Step::Wait { ms } => {
            world.tick(world.now + ms);
            naive.pass(world.now);
        }
        Step::Leave { is_bob } => {
            world.close(who(is_bob));
            naive.leave(who(is_bob));
            world.enter(who(is_bob));
            enter(world, who(is_bob));
        }
        Step::Restart => {
            world.restart();
            naive.restart();
            naive.pass(world.now);
            enter(world, ALICE);
            enter(world, BOB);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_jobs_agrees_with_the_model(steps in steps()) {
        let mut world = World::new();
        let mut naive = Naive::default();
        let mut ids = Vec::new();
        enter(&mut world, ALICE);
        enter(&mut world, BOB);
        for one in &steps {
            step(&mut world, &mut naive, &mut ids, one);
            for id in &ids {
                let facts = world.facts(*id);
                let found = facts.map(|it| {
                    (it.state, it.rank, [it.claims, it.timeouts, it.releases, it.buries, it.kicks])
                });
                let known = naive.jobs.get(id).map(|job| (job.state, job.rank, job.tally));
                prop_assert_eq!(found, known, "{} after {:?}", id, one);
            }
            world.check_state();
        }
    }
}
