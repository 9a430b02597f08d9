//! Any interleaving of taking, renewing, finishing, failing, giving back, expiring, leaving and
//! restarting: a job's result exists if and only if its input is acknowledged if and only if what
//! comes next was published, exactly once; and nobody else is given a job while its holder renews.
//!
//! Promise: P2, P4, P7.

use std::collections::{BTreeMap, BTreeSet};

use model::{Held, JobRef, JobState};
use proptest::prelude::*;

use super::jobs::new_job;
use super::workers::{CAROL, take};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put,
    Take {
        is_bob: bool,
        most: u32,
    },
    Renew {
        is_bob: bool,
    },
    /// The n-th job that ever was, whoever has it.
    Finish {
        is_bob: bool,
        at: usize,
    },
    /// What the worker believes to have.
    Give {
        is_bob: bool,
        at: usize,
        fails: bool,
    },
    Wait {
        ms: u64,
    },
    Leave {
        is_bob: bool,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Put),
        4 => (any::<bool>(), 1..4_u32).prop_map(|(is_bob, most)| Step::Take { is_bob, most }),
        2 => any::<bool>().prop_map(|is_bob| Step::Renew { is_bob }),
        4 => (any::<bool>(), 0..12_usize).prop_map(|(is_bob, at)| Step::Finish { is_bob, at }),
        3 => (any::<bool>(), 0..4_usize, any::<bool>())
            .prop_map(|(is_bob, at, fails)| Step::Give { is_bob, at, fails }),
        3 => (1..70_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => any::<bool>().prop_map(|is_bob| Step::Leave { is_bob }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

struct Check {
    world: World,
    jobs: Vec<JobRef>,
    finished: BTreeSet<JobRef>,
    /// What each worker believes to have, and until when at least it has.
    beliefs: BTreeMap<SessionId, BTreeMap<JobRef, (u32, u64)>>,
}

impl Check {
    fn new() -> Self {
        let mut check = Self {
            world: World::new(),
            jobs: Vec::new(),
            finished: BTreeSet::new(),
            beliefs: BTreeMap::new(),
        };
        check.hire();
        check
    }

    fn hire(&mut self) {
        self.world.close(BOB);
        self.world.hire(BOB, "bob");
        self.world.hire(CAROL, "carol");
    }

    fn step(&mut self, step: &Step) {
        let who = |is_bob: bool| if is_bob { BOB } else { CAROL };
        match *step {
            Step::Put => {
                let body = self.jobs.len().to_string();
                let id = self.world.enqueue(ALICE, new_job("q", 5, &body));
                let queue = self.world.engine.state.queues.values();
                let queue = queue.filter(|queue| queue.name == "q").map(|queue| queue.id).next();
                self.jobs.push(JobRef { queue: queue.unwrap(), id });
            }
            Step::Take { is_bob, most } => {
                let (held, _) = self.world.take(who(is_bob), take(&["q"], most));
                for Held { job, attempt } in held {
                    self.check_free(who(is_bob), job);
                    self.believe(who(is_bob), job, attempt);
                }
            }
            Step::Renew { is_bob } => self.renew(who(is_bob)),
            Step::Finish { is_bob, at } => self.finish(who(is_bob), at),
            Step::Give { is_bob, at, fails } => self.give(who(is_bob), at, fails),
            Step::Wait { ms } => self.world.tick(self.world.now + ms),
            Step::Leave { is_bob } => {
                self.world.close(who(is_bob));
                self.world.hire(who(is_bob), if is_bob { "bob" } else { "carol" });
                // It believes to have its jobs still, but nobody owes it that.
                for (_, until) in self.beliefs.entry(who(is_bob)).or_default().values_mut() {
                    *until = 0;
                }
            }
            Step::Restart => {
                self.world.check_recovery();
                self.world.restart();
                self.hire();
                for (_, until) in self.beliefs.values_mut().flat_map(BTreeMap::values_mut) {
                    *until = 0;
                }
            }
        }
        self.check();
    }

    /// Nobody else has it, with a lease that is good.
    fn check_free(&self, who: SessionId, job: JobRef) {
        for (other, beliefs) in &self.beliefs {
            let until = beliefs.get(&job).map_or(0, |(_, until)| *until);
            assert!(*other == who || until < self.world.now, "{job} was taken from {other:?}");
        }
        assert!(!self.finished.contains(&job), "{job} is done and was handed out");
    }

    fn believe(&mut self, who: SessionId, job: JobRef, attempt: u32) {
        let until = self.world.now + 60_000;
        self.beliefs.entry(who).or_default().insert(job, (attempt, until));
    }

    fn renew(&mut self, who: SessionId) {
        let believed = self.beliefs.entry(who).or_default().clone();
        let claims =
            believed.iter().map(|(job, (attempt, _))| Held { job: *job, attempt: *attempt });
        let held = self.world.renew(who, claims.collect());
        for (job, (_, until)) in &believed {
            let is_good = *until >= self.world.now && !self.finished.contains(job);
            let is_held = held.iter().any(|held| held.job == *job);
            assert!(is_held || !is_good, "{job} was lost although its lease was good");
        }
        self.beliefs.insert(who, BTreeMap::new());
        for Held { job, attempt } in held {
            self.check_free(who, job);
            self.believe(who, job, attempt);
        }
    }

    fn finish(&mut self, who: SessionId, at: usize) {
        let Some(job) = self.jobs.get(at).copied() else { return };
        let reply = self.world.finish(who, job);
        let is_new = self.finished.insert(job);
        if let Reply::Refused(refusal) = reply {
            assert_eq!(*refusal, Refusal::UnknownJob { job });
            assert!(!is_new, "{job} was open and could not be finished");
        } else {
            assert!(matches!(reply, Reply::Stored { is_stored: true }), "{reply:?}");
            assert!(is_new, "{job} was finished twice");
        }
        self.beliefs.values_mut().for_each(|beliefs| {
            beliefs.remove(&job);
        });
    }

    fn give(&mut self, who: SessionId, at: usize, fails: bool) {
        let beliefs = self.beliefs.entry(who).or_default();
        let Some((job, (attempt, until))) = beliefs.iter().nth(at).map(|it| (*it.0, *it.1)) else {
            return;
        };
        beliefs.remove(&job);
        let reply = self.world.give(who, Held { job, attempt }, fails.then_some("class"));
        let is_good = until >= self.world.now;
        assert!(!is_good || matches!(reply, Reply::Released { .. }), "{job}: {reply:?}");
    }

    fn check(&mut self) {
        let facts = self.world.queue_facts("q");
        let counts = facts.map(|facts| facts.jobs).unwrap_or_default();
        let open = counts.ready + counts.claimed + counts.delayed + counts.buried;
        assert_eq!(open + self.finished.len() as u64, self.jobs.len() as u64, "{counts:?}");
        let next = self.world.row("next").map_or(0, |_| self.world.ready("next"));
        assert_eq!(next, self.finished.len() as u64, "published next");
        for job in self.jobs.clone() {
            let is_done = self.finished.contains(&job);
            assert_eq!(self.world.result(&job.to_string()).is_some(), is_done, "result of {job}");
            let state = self.world.inspect(job).map(|facts| facts.state);
            assert_eq!(state.is_none(), is_done, "{job} is {state:?}");
            for (who, beliefs) in &self.beliefs {
                let is_good = beliefs.get(&job).is_some_and(|(_, until)| *until >= self.world.now);
                assert!(
                    !is_good || state == Some(JobState::Claimed),
                    "{job} of {who:?}: {state:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn a_result_is_there_when_its_input_is_gone_and_the_next_is_published(steps in steps()) {
        let mut check = Check::new();
        for step in &steps {
            check.step(step);
        }
        check.world.check_recovery();
    }
}
