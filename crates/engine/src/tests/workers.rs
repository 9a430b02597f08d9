//! Workers that come and go: jobs taken under a lease, renewed together, finished, failed, given
//! back; and results by key. Any interleaving of it: `worker_check.rs`.

use model::{
    AttemptEnd, Enqueue, Failure, GiveBack, Held, Idle, JobFacts, JobId, JobRef, JobState, JobVerb,
    Policy, Results, StoreResult, Take, Work,
};

use super::jobs::new_job;
use super::*;

pub(super) const CAROL: SessionId = SessionId::from_parts(2, 1);

pub(super) fn take(queues: &[&str], most: u32) -> Take {
    let queues = queues.iter().map(|name| Bytes::copy_from_slice(name.as_bytes())).collect();
    Take { queues, most, lease_s: 60, waits: false }
}

pub(super) fn store(key: &str, value: &str, policy: Policy) -> StoreResult {
    let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    StoreResult { key: own(key), value: own(value), policy, ..StoreResult::default() }
}

impl World {
    pub(super) fn hire(&mut self, session: SessionId, name: &'static str) {
        let info = SessionInfo { peer: name.into(), door: "work", ..SessionInfo::default() };
        self.engine.open_session(session, info);
        self.done(session, Request::OpenVhost("/".into()));
        self.open(session, 1);
    }

    /// What a `Take` brings at once.
    pub(super) fn take(&mut self, session: SessionId, take: Take) -> (Vec<Held>, Idle) {
        self.taken.clear();
        let reply = self.ask(session, Request::Take(Box::new(take)));
        let Reply::Taken { count, idle } = reply else { panic!("{reply:?}") };
        assert_eq!(count as usize, self.taken.len());
        let held =
            self.taken.iter().map(|(facts, _)| Held { job: facts.job, attempt: facts.attempt });
        (held.collect(), idle)
    }

    pub(super) fn take_one(&mut self, session: SessionId, queue: &str) -> Held {
        let (held, idle) = self.take(session, take(&[queue], 1));
        *held.first().unwrap_or_else(|| panic!("{idle:?}"))
    }

    pub(super) fn give(&mut self, session: SessionId, held: Held, failure: Option<&str>) -> Reply {
        let failure = failure.map(|class| Failure {
            class: Bytes::copy_from_slice(class.as_bytes()),
            message: "it says".into(),
            is_final: class == "final",
        });
        let give = GiveBack { held, delay_s: 0, failure };
        self.ask(session, Request::GiveBack(Box::new(give)))
    }

    pub(super) fn finish(&mut self, session: SessionId, job: JobRef) -> Reply {
        let mut steps = vec![Op::Finish(job)];
        let key = job.to_string();
        steps.push(Op::Store(Box::new(store(&key, "value", Policy::FirstWins))));
        steps.push(Op::Enqueue(Box::new(new_job("next", 5, &key))));
        self.ask(session, Request::Commit(steps))
    }

    pub(super) fn renew(&mut self, session: SessionId, claims: Vec<Held>) -> Vec<Held> {
        let reply = self.ask(session, Request::Renew { lease_s: 60, claims });
        let Reply::Renewed(held) = reply else { panic!("{reply:?}") };
        held
    }

    pub(super) fn inspect(&mut self, job: JobRef) -> Option<JobFacts> {
        self.outputs.clear();
        self.send(ALICE, 1, Request::Inspect(job));
        let Push::Job { facts, .. } = self.outputs.pop()?.push else { return None };
        self.engine.taken(ALICE, u64::MAX);
        Some(*facts)
    }

    pub(super) fn result(&mut self, key: &str) -> Option<String> {
        self.shown.clear();
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.send(ALICE, 1, Request::Results(Box::new(Results::Get(key))));
        self.engine.taken(ALICE, u64::MAX);
        self.shown.pop().map(|(_, value)| value)
    }

    pub(super) fn results(&mut self, question: Results) -> Reply {
        self.shown.clear();
        let reply = self.ask(ALICE, Request::Results(Box::new(question)));
        self.engine.taken(ALICE, u64::MAX);
        reply
    }

    fn keep(&mut self, result: StoreResult) -> bool {
        let reply = self.results(Results::Put(result));
        let Reply::Stored { is_stored } = reply else { panic!("{reply:?}") };
        is_stored
    }

    fn changes(&mut self, after: Lsn) -> (Vec<String>, Lsn) {
        let question = Results::Changes { prefix: Bytes::new(), after, most: 100, waits: false };
        self.shown.clear();
        self.outputs.clear();
        self.send(ALICE, 1, Request::Results(Box::new(question)));
        self.engine.taken(ALICE, u64::MAX);
        let mut seen: Vec<String> =
            self.shown.drain(..).map(|(facts, value)| format!("{:?}={value}", facts.key)).collect();
        let mut end = Lsn::ZERO;
        for output in self.outputs.drain(..) {
            if let Push::ResultGone { key, .. } = output.push {
                seen.push(format!("{key:?} gone"));
            } else if let Push::Reply { reply: Reply::Results { revision, .. }, .. } = output.push {
                end = revision;
            } else {
                panic!("{output:?}");
            }
        }
        (seen, end)
    }
}

fn hired() -> World {
    let mut world = World::new();
    world.close(BOB);
    world.hire(BOB, "bob");
    world.hire(CAROL, "carol");
    world
}

#[test]
fn several_jobs_are_taken_at_once_and_belong_to_the_worker() {
    let mut world = hired();
    for body in ["a", "b", "c"] {
        world.enqueue(ALICE, new_job("q", 5, body));
    }
    world.enqueue(ALICE, new_job("other", 1, "first"));
    let (held, _) = world.take(BOB, take(&["q", "other"], 3));
    let bodies: Vec<&str> = world.taken.iter().map(|(_, seen)| seen.body.as_str()).collect();
    assert_eq!(bodies, ["first", "a", "b"]);
    assert!(held.iter().all(|held| held.attempt == 1));
    let (_, idle) = world.take(CAROL, take(&["other"], 3));
    assert_eq!(idle, Idle::Claimed);
    assert_eq!(world.renew(BOB, Vec::new()), held);
    world.check_state();
}

#[test]
fn a_worker_that_waits_is_given_the_next_job_or_told_why_there_is_none() {
    let mut world = hired();
    let waits = Take { waits: true, ..take(&["q"], 5) };
    world.outputs.clear();
    world.send(BOB, 1, Request::Take(Box::new(waits.clone())));
    assert!(world.outputs.is_empty());
    world.send(ALICE, 1, Request::Enqueue(new_job("q", 5, "late")));
    assert_eq!(world.taken.len(), 1);
    let told = world.outputs.iter().any(|output| {
        matches!(output.push, Push::Reply { reply: Reply::Taken { count: 1, .. }, .. })
    });
    assert!(told && world.outputs.iter().any(|output| output.session == BOB));
    world.outputs.clear();
    world.send(BOB, 1, Request::Take(Box::new(waits)));
    let reply = world.ask(BOB, Request::Withdraw);
    assert!(matches!(reply, Reply::Taken { count: 0, idle: Idle::Claimed }), "{reply:?}");
    assert!(matches!(world.work(ALICE, Work::Pause("q".into(), 60)), Reply::Done));
    world.enqueue(ALICE, new_job("q", 5, "paused"));
    assert_eq!(world.take(CAROL, take(&["q"], 1)), (Vec::new(), Idle::Paused));
}

#[test]
fn a_finished_job_its_result_and_the_next_one_are_one_group() {
    let mut world = hired();
    world.enqueue(ALICE, new_job("q", 5, "work"));
    let held = world.take_one(BOB, "q");
    let before = world.tape.records.len();
    assert!(matches!(world.finish(BOB, held.job), Reply::Stored { is_stored: true }));
    let made: Vec<(u8, bool)> =
        world.tape.records[before..].iter().map(|record| (record.1, record.2)).collect();
    // The queue that was missing; then acknowledgement, next job and result together.
    assert_eq!(made, [(16, false), (2, true), (1, true), (10, false)]);
    assert_eq!(world.result(&held.job.to_string()).as_deref(), Some("value"));
    assert_eq!(world.ready("next"), 1);
    let again = world.finish(BOB, held.job);
    let Reply::Refused(refusal) = again else { panic!("{again:?}") };
    assert_eq!(*refusal, Refusal::UnknownJob { job: held.job });
    assert_eq!(world.ready("next"), 1);
    world.check_recovery();
    world.restart();
    assert_eq!(world.result(&held.job.to_string()).as_deref(), Some("value"));
}

#[test]
fn the_first_result_stays_and_nothing_is_published_again() {
    let mut world = hired();
    assert!(world.keep(store("k", "first", Policy::FirstWins)));
    world.enqueue(ALICE, new_job("q", 5, "again"));
    let held = world.take_one(BOB, "q");
    let steps = vec![
        Op::Finish(held.job),
        Op::Store(Box::new(store("k", "second", Policy::FirstWins))),
        Op::Enqueue(Box::new(new_job("next", 5, "once"))),
    ];
    let reply = world.ask(BOB, Request::Commit(steps));
    assert!(matches!(reply, Reply::Stored { is_stored: false }), "{reply:?}");
    assert_eq!(world.result("k").as_deref(), Some("first"));
    assert!(world.row("next").is_none(), "nothing was published");
    assert!(world.inspect(held.job).is_none(), "the input is acknowledged");
    assert!(world.keep(store("k", "third", Policy::LastWins)));
    assert_eq!(world.result("k").as_deref(), Some("third"));
    world.check_recovery();
}

#[test]
fn a_lease_that_is_not_renewed_ends_and_a_late_result_is_taken() {
    let mut world = hired();
    world.enqueue(ALICE, new_job("q", 5, "slow"));
    let late = world.take_one(BOB, "q");
    world.tick(world.now + 50_000);
    assert_eq!(world.renew(BOB, Vec::new()), [late]);
    world.tick(world.now + 50_000);
    assert_eq!(world.inspect(late.job).unwrap().state, JobState::Claimed);
    world.tick(world.now + 10_001);
    let facts = world.inspect(late.job).unwrap();
    assert_eq!((facts.state, facts.failures, facts.claims), (JobState::Ready, 0, 1));
    assert_eq!(facts.attempts[0].end, AttemptEnd::Expired);
    assert_eq!(facts.attempts[0].worker, "bob");
    let held = world.take_one(CAROL, "q");
    assert_eq!(held.attempt, 2);
    assert_eq!(world.inspect(late.job).unwrap().worker, "carol");
    assert!(world.renew(BOB, vec![late]).is_empty(), "it is somebody else's now");
    assert!(matches!(world.give(BOB, late, Some("late")), Reply::Empty));
    assert!(matches!(world.finish(BOB, late.job), Reply::Stored { is_stored: true }));
    assert!(world.renew(CAROL, vec![held]).is_empty(), "it is done");
    let Reply::Refused(refusal) = world.finish(CAROL, held.job) else { panic!("twice") };
    assert_eq!(*refusal, Refusal::UnknownJob { job: held.job });
    world.check_recovery();
}

#[test]
fn a_worker_goes_on_with_its_jobs_after_a_restart() {
    let mut world = hired();
    for body in ["a", "b"] {
        world.enqueue(ALICE, new_job("q", 5, body));
    }
    let (held, _) = world.take(BOB, take(&["q"], 2));
    world.restart();
    world.close(BOB);
    world.hire(BOB, "bob");
    world.hire(CAROL, "carol");
    let first = world.take_one(CAROL, "q");
    assert_eq!(first.job, held[0].job);
    let gone = Held { job: JobRef { id: JobId(1), ..held[0].job }, attempt: 1 };
    let kept = world.renew(BOB, vec![held[0], held[1], gone]);
    assert_eq!(kept, [held[1]]);
    assert_eq!(world.take(CAROL, take(&["q"], 1)), (Vec::new(), Idle::Claimed));
    assert!(matches!(world.finish(BOB, held[1].job), Reply::Stored { .. }));
    world.check_recovery();
}

#[test]
fn failures_are_counted_apart_from_interruptions() {
    let mut world = hired();
    world.enqueue(ALICE, new_job("q", 5, "poison"));
    for round in 0..3 {
        for _ in 0..5 {
            let held = world.take_one(BOB, "q");
            assert!(matches!(world.give(BOB, held, None), Reply::Released { is_buried: false }));
        }
        let held = world.take_one(CAROL, "q");
        let reply = world.give(CAROL, held, Some("engine_died"));
        let is_last = round == 2;
        assert!(
            matches!(reply, Reply::Released { is_buried } if is_buried == is_last),
            "{round} {reply:?}"
        );
        let facts = world.inspect(held.job).unwrap();
        assert_eq!((facts.failures, facts.releases), (round + 1, 5 * (round + 1)));
        world.check_state();
    }
    assert_eq!(world.take(BOB, take(&["q"], 1)), (Vec::new(), Idle::Buried));
    let job = world.take(BOB, take(&["q"], 1));
    assert!(job.0.is_empty());
    world.restart();
    let facts = world.queue_facts("q").unwrap();
    assert_eq!(facts.jobs.buried, 1);
    let Reply::Kicked { count: 1 } = world.work(ALICE, Work::Kick("q".into(), 1)) else {
        panic!("not kicked")
    };
    world.close(BOB);
    world.hire(BOB, "bob");
    let held = world.take_one(BOB, "q");
    let facts = world.inspect(held.job).unwrap();
    assert_eq!((facts.attempts.len(), facts.failures), (18, 3));
    assert!(facts.attempts.iter().any(|it| it.failure.class == "engine_died"));
}

#[test]
fn what_failed_for_good_goes_to_the_dead_letter_exchange_with_its_attempts() {
    let mut world = hired();
    let options = QueueOptions {
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some("dead".into()),
        ..QueueOptions::default()
    };
    world.declare("q", durable(options));
    world.durable("dead");
    world.enqueue(ALICE, new_job("q", 5, "poison"));
    let held = world.take_one(BOB, "q");
    assert!(matches!(world.give(BOB, held, Some("x")), Reply::Released { is_buried: false }));
    let held = world.take_one(BOB, "q");
    assert!(matches!(world.give(BOB, held, Some("final")), Reply::Released { is_buried: true }));
    assert_eq!((world.ready("q"), world.ready("dead")), (0, 1));
    let letter = world.get("dead").unwrap();
    assert_eq!(letter.body, "poison");
    let attempts = letter.header("x-attempts").unwrap();
    assert!(attempts.contains("Array"), "{attempts}");
    assert!(world.inspect(held.job).is_none());
    world.check_recovery();
}

#[test]
fn a_worker_whose_session_ends_loses_its_jobs_at_once() {
    let mut world = hired();
    world.enqueue(ALICE, new_job("q", 5, "x"));
    let held = world.take_one(BOB, "q");
    world.close(BOB);
    let facts = world.inspect(held.job).unwrap();
    assert_eq!((facts.state, facts.attempts[0].end), (JobState::Ready, AttemptEnd::Lost));
    assert_eq!(world.take_one(CAROL, "q").attempt, 2);
    world.check_recovery();
}

#[test]
fn a_job_that_a_client_of_another_door_has_is_not_finished() {
    let mut world = hired();
    let id = world.enqueue(ALICE, new_job("q", 5, "x"));
    let seen = world.get("q").unwrap();
    let queue = *world.engine.state.queues.keys().next().unwrap();
    let job = JobRef { queue, id };
    let Reply::Refused(refusal) = world.finish(CAROL, job) else { panic!("finished") };
    assert_eq!(*refusal, Refusal::JobHeldElsewhere { job });
    world.release(BOB, seen.tag, true);
    assert!(matches!(world.finish(CAROL, job), Reply::Stored { .. }));
    assert!(matches!(world.job(ALICE, id, JobVerb::Look), Reply::Empty));
    world.check_recovery();
}

#[test]
fn a_commit_that_cannot_be_whole_is_nothing() {
    let limits = Limits { job_queue_length_max: Some(1), ..Limits::default() };
    let mut world = World::with_limits(limits);
    world.hire(CAROL, "carol");
    world.enqueue(ALICE, new_job("next", 5, "full"));
    world.enqueue(ALICE, new_job("q", 5, "x"));
    let held = world.take_one(CAROL, "q");
    let Reply::Refused(refusal) = world.finish(CAROL, held.job) else { panic!("stored") };
    assert!(matches!(*refusal, Refusal::LimitReached { .. }), "{refusal:?}");
    assert_eq!(world.renew(CAROL, Vec::new()), [held]);
    assert_eq!(world.result(&held.job.to_string()), None);
    let twice = vec![Op::Finish(held.job), Op::Finish(held.job)];
    let refusal = world.refusal(CAROL, Request::Commit(twice));
    assert_eq!(refusal, Refusal::UnknownJob { job: held.job });
    world.check_state();
}

#[test]
fn changes_come_in_order_and_a_reader_may_wait_for_them() {
    let mut world = hired();
    world.keep(store("a", "1", Policy::LastWins));
    world.keep(store("b", "1", Policy::LastWins));
    world.keep(store("a", "2", Policy::LastWins));
    let (seen, end) = world.changes(Lsn::ZERO);
    assert_eq!(seen, [r#"b"b"=1"#, r#"b"a"=2"#]);
    assert!(matches!(world.results(Results::Delete("b".into())), Reply::Done));
    assert!(matches!(world.results(Results::Delete("b".into())), Reply::Empty));
    let (seen, end) = world.changes(end);
    assert_eq!(seen, [r#"b"b" gone"#]);
    let ask = |prefix: &'static str| {
        let prefix = prefix.into();
        let question = Results::Changes { prefix, after: end, most: 10, waits: true };
        Request::Results(Box::new(question))
    };
    world.outputs.clear();
    world.shown.clear();
    world.send(BOB, 1, ask("x/"));
    world.send(CAROL, 1, ask(""));
    assert!(world.outputs.is_empty());
    world.send(
        ALICE,
        1,
        Request::Results(Box::new(Results::Put(store("c", "3", Policy::LastWins)))),
    );
    assert_eq!(world.shown.len(), 1);
    let reply = world.ask(BOB, Request::Withdraw);
    assert!(matches!(reply, Reply::Results { is_more: false, .. }), "{reply:?}");
    world.engine.taken(CAROL, u64::MAX);
    world.check_recovery();
}

#[test]
fn a_result_is_forgotten_when_its_time_is_over() {
    let mut world = hired();
    let result = StoreResult { ttl_s: 10, ..store("k", "v", Policy::FirstWins) };
    world.keep(result.clone());
    let start = world.now;
    world.tick(start + 9_999);
    assert!(world.result("k").is_some());
    world.check_recovery();
    world.tick(start + 10_001);
    assert!(world.result("k").is_none());
    assert_eq!(world.changes(Lsn::ZERO).0, [r#"b"k" gone"#]);
    assert!(world.keep(result));
    world.check_recovery();
}

#[test]
fn a_list_is_cut_into_pages() {
    let mut world = hired();
    for at in 0..5 {
        world.keep(store(&format!("p/{at}"), "v", Policy::FirstWins));
    }
    let list = |after: Option<&str>| Results::List {
        prefix: "p/".into(),
        after: after.map(|text| Bytes::copy_from_slice(text.as_bytes())),
        most: 3,
    };
    let reply = world.results(list(None));
    assert!(matches!(reply, Reply::Results { is_more: true, .. }), "{reply:?}");
    assert_eq!(world.shown.last().unwrap().0.key, "p/2");
    let reply = world.results(list(Some("p/2")));
    assert!(matches!(reply, Reply::Results { is_more: false, .. }), "{reply:?}");
    assert_eq!(world.shown.len(), 2);
}

#[test]
fn a_deleted_virtual_host_takes_its_results_with_it() {
    let mut world = hired();
    world.done(ALICE, Request::Admin(Box::new(Admin::PutVhost("v".into()))));
    let session = SessionId::from_parts(3, 1);
    world.engine.open_session(session, SessionInfo::default());
    world.done(session, Request::OpenVhost("v".into()));
    world.open(session, 1);
    world
        .done(session, Request::Results(Box::new(Results::Put(store("k", "v", Policy::LastWins)))));
    assert!(world.result("k").is_none(), "it is in another virtual host");
    world.check_recovery();
    world.done(ALICE, Request::Admin(Box::new(Admin::DeleteVhost("v".into()))));
    world.check_recovery();
}

#[test]
fn a_job_keeps_its_properties() {
    let mut world = hired();
    let properties = Builder::new().with(Property::MessageId, "row-1").build();
    world.enqueue(ALICE, Enqueue { properties: properties.clone(), ..new_job("q", 5, "x") });
    world.take_one(BOB, "q");
    assert_eq!(world.taken[0].1.properties, properties);
}
