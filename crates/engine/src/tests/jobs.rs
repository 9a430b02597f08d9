//! Jobs: put, claimed under a lease, given back, laid aside, looked at; next to messages of the
//! same queues. Any history against a naive model: `job_check.rs`.

use model::{Enqueue, JobFacts, JobId, JobState, JobVerb, QueueFacts, QueueKind, Work};

use super::*;

/// What a claim brought.
#[derive(Debug)]
pub(super) enum Claimed {
    Job(Seen),
    /// Nothing yet.
    Waits,
    Reply(Reply),
}

impl World {
    pub(super) fn enqueue(&mut self, session: SessionId, job: Enqueue) -> JobId {
        let reply = self.ask(session, Request::Enqueue(job));
        let Reply::Enqueued { job, .. } = reply else { panic!("{reply:?}") };
        job
    }

    pub(super) fn job(&mut self, session: SessionId, id: JobId, verb: JobVerb) -> Reply {
        self.ask(session, Request::Job(id, verb))
    }

    pub(super) fn work(&mut self, session: SessionId, work: Work) -> Reply {
        self.ask(session, Request::Work(Box::new(work)))
    }

    pub(super) fn watch(&mut self, session: SessionId, queue: &'static str) {
        assert!(matches!(self.work(session, Work::Watch(queue.into())), Reply::Watching { .. }));
    }

    pub(super) fn claim(&mut self, session: SessionId) -> Claimed {
        let before = self.deliveries.len();
        self.outputs.clear();
        self.send(session, 1, Request::Claim { is_timed: false });
        if let Some(seen) = self.deliveries.get(before) {
            return Claimed::Job(seen.clone());
        }
        match self.outputs.pop() {
            Some(Output { push: Push::Reply { reply, .. }, .. }) => Claimed::Reply(reply),
            _ => Claimed::Waits,
        }
    }

    /// The body of the next job.
    pub(super) fn claimed(&mut self, session: SessionId) -> String {
        let claimed = self.claim(session);
        let Claimed::Job(seen) = claimed else { panic!("{claimed:?}") };
        seen.body
    }

    pub(super) fn facts(&mut self, id: JobId) -> Option<JobFacts> {
        self.outputs.clear();
        self.send(BOB, 1, Request::Job(id, JobVerb::Look));
        let Push::Job { facts, .. } = self.outputs.pop()?.push else { return None };
        // Whoever looks at a job has taken it in.
        self.engine.taken(BOB, u64::MAX);
        Some(*facts)
    }

    pub(super) fn state(&mut self, id: JobId) -> Option<JobState> {
        self.facts(id).map(|facts| facts.state)
    }

    pub(super) fn queue_facts(&mut self, queue: &'static str) -> Option<QueueFacts> {
        let reply = self.work(BOB, Work::DescribeQueue(queue.into()));
        if let Reply::QueueFacts(facts) = reply { Some(*facts) } else { None }
    }

    fn names(&mut self) -> Vec<Bytes> {
        let reply = self.work(BOB, Work::ListQueues);
        let Reply::Names(names) = reply else { panic!("{reply:?}") };
        names
    }
}

pub(super) fn new_job(queue: &'static str, rank: u32, body: &str) -> Enqueue {
    Enqueue {
        queue: queue.into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        rank,
        lease_s: 60,
        ..Enqueue::default()
    }
}

#[test]
fn the_lowest_rank_then_the_oldest_over_all_watched_queues() {
    let mut world = World::new();
    for (queue, rank, body) in
        [("a", 9, "a9"), ("b", 9, "b9"), ("a", 3, "a3"), ("b", 3, "b3"), ("c", 0, "c0")]
    {
        world.enqueue(ALICE, new_job(queue, rank, body));
    }
    world.watch(BOB, "a");
    world.watch(BOB, "b");
    let order: Vec<String> = (0..4).map(|_| world.claimed(BOB)).collect();
    assert_eq!(order, ["a3", "b3", "a9", "b9"]);
    assert!(matches!(world.claim(BOB), Claimed::Waits), "c is not watched");
    world.check_state();
}

#[test]
fn a_claim_waits_and_is_served_in_its_turn() {
    let mut world = World::new();
    world.watch(ALICE, "q");
    world.watch(BOB, "q");
    assert!(matches!(world.claim(BOB), Claimed::Waits));
    assert!(matches!(world.claim(ALICE), Claimed::Waits));
    world.enqueue(ALICE, new_job("q", 0, "first"));
    world.enqueue(ALICE, new_job("q", 0, "second"));
    let seen: Vec<(SessionId, String)> =
        world.deliveries.drain(..).map(|seen| (seen.session, seen.body)).collect();
    assert_eq!(seen, [(BOB, "first".into()), (ALICE, "second".into())]);
}

#[test]
fn a_job_expires_by_its_property_list() {
    let mut world = World::new();
    world.watch(BOB, "q");
    let properties = Builder::new()
        .with(Property::DeliveryMode, vec![2])
        .with(Property::Expiration, &b"1000"[..])
        .build();
    for rank in [5, 3] {
        let short = Enqueue { properties: properties.clone(), ..new_job("q", rank, "short") };
        world.enqueue(ALICE, short);
        world.enqueue(ALICE, new_job("q", rank, "long"));
    }
    world.tick(world.now + 2000);
    assert_eq!([world.claimed(BOB), world.claimed(BOB)], ["long", "long"]);
    assert!(matches!(world.claim(BOB), Claimed::Waits));
    world.check_state();
}

#[test]
fn a_withdrawn_claim_is_answered_once() {
    let mut world = World::new();
    world.watch(BOB, "q");
    world.claim(BOB);
    assert!(matches!(world.ask(BOB, Request::Withdraw), Reply::Empty));
    world.outputs.clear();
    world.send(BOB, 1, Request::Withdraw);
    assert!(world.outputs.is_empty(), "nothing waits any more");
    world.enqueue(ALICE, new_job("q", 0, "x"));
    assert!(world.bodies().is_empty());
}

#[test]
fn a_lease_runs_out_and_is_never_early() {
    let mut world = World::new();
    let id = world.enqueue(ALICE, Enqueue { lease_s: 10, ..new_job("q", 5, "x") });
    world.watch(BOB, "q");
    world.claimed(BOB);
    let start = world.now;
    world.tick(start + 10_000);
    assert_eq!(world.state(id), Some(JobState::Claimed));
    assert!(matches!(world.job(BOB, id, JobVerb::Renew), Reply::Done));
    world.tick(start + 20_000);
    assert_eq!(world.state(id), Some(JobState::Claimed));
    world.tick(start + 20_001);
    let facts = world.facts(id).unwrap();
    assert_eq!((facts.state, facts.timeouts, facts.claims, facts.rank), (JobState::Ready, 1, 1, 5));
    assert!(matches!(world.job(BOB, id, JobVerb::Renew), Reply::Empty));
    world.check_recovery();
}

#[test]
fn who_waits_is_told_that_a_lease_ends() {
    let mut world = World::new();
    world.enqueue(ALICE, Enqueue { lease_s: 3, ..new_job("q", 5, "x") });
    world.watch(BOB, "q");
    world.claimed(BOB);
    assert!(matches!(world.claim(BOB), Claimed::Waits));
    world.outputs.clear();
    let start = world.now;
    world.tick(start + 2_000);
    assert!(world.outputs.is_empty());
    world.tick(start + 2_001);
    assert!(matches!(
        world.outputs.pop().map(|output| output.push),
        Some(Push::Reply { reply: Reply::LeaseEnding, .. })
    ));
    assert!(matches!(world.claim(BOB), Claimed::Reply(Reply::LeaseEnding)));
}

#[test]
fn released_buried_kicked_and_delayed_jobs_are_where_they_should_be() {
    let mut world = World::new();
    let id = world.enqueue(ALICE, new_job("q", 5, "x"));
    world.watch(BOB, "q");
    world.claimed(BOB);
    let release = JobVerb::Release { rank: 7, delay_s: 4 };
    assert!(matches!(world.job(BOB, id, release), Reply::Released { is_buried: false }));
    let facts = world.facts(id).unwrap();
    assert_eq!(
        (facts.state, facts.rank, facts.delay_s, facts.left_s),
        (JobState::Delayed, 7, 4, 4)
    );
    world.check_recovery();
    world.tick(world.now + 4_001);
    assert_eq!(world.state(id), Some(JobState::Ready));
    world.claimed(BOB);
    let bury = JobVerb::Bury { rank: 8 };
    assert!(matches!(world.job(BOB, id, bury), Reply::Released { is_buried: true }));
    assert_eq!(world.state(id), Some(JobState::Buried));
    world.check_recovery();
    assert!(matches!(world.claim(BOB), Claimed::Waits));
    assert!(matches!(world.work(ALICE, Work::Kick("q".into(), 5)), Reply::Kicked { count: 1 }));
    assert_eq!(world.bodies().len(), 3, "the claim that waits is served");
    let facts = world.facts(id).unwrap();
    assert_eq!(
        (facts.claims, facts.releases, facts.buries, facts.kicks, facts.rank),
        (3, 1, 1, 1, 8)
    );
    assert!(matches!(world.job(BOB, id, JobVerb::Delete), Reply::Done));
    assert_eq!(world.state(id), None);
    world.check_recovery();
}

#[test]
fn buried_jobs_are_kicked_in_the_order_of_their_burials() {
    let mut world = World::new();
    world.watch(BOB, "q");
    let ids: Vec<JobId> =
        ["a", "b", "c"].map(|body| world.enqueue(ALICE, new_job("q", 0, body))).to_vec();
    for _ in &ids {
        world.claimed(BOB);
    }
    for (id, rank) in [(ids[2], 9), (ids[0], 5), (ids[1], 1)] {
        world.job(BOB, id, JobVerb::Bury { rank });
    }
    world.restart();
    assert!(matches!(world.work(ALICE, Work::Kick("q".into(), 1)), Reply::Kicked { count: 1 }));
    assert_eq!(world.state(ids[2]), Some(JobState::Ready));
    world.check_recovery();
}

#[test]
fn a_delayed_job_comes_at_its_time_also_after_a_restart() {
    let mut world = World::new();
    let id = world.enqueue(ALICE, Enqueue { delay_s: 30, ..new_job("q", 0, "later") });
    let start = world.now;
    assert_eq!(world.state(id), Some(JobState::Delayed));
    world.tick(start + 10_000);
    world.restart();
    world.watch(BOB, "q");
    assert!(matches!(world.claim(BOB), Claimed::Waits));
    world.tick(start + 30_000);
    assert!(world.bodies().is_empty(), "early");
    world.tick(start + 30_001);
    assert_eq!(world.bodies(), ["later"]);
    world.check_state();
}

#[test]
fn any_job_that_nobody_has_can_be_deleted_or_claimed_by_its_id() {
    let mut world = World::new();
    let ids: Vec<JobId> =
        (0..9).map(|n| world.enqueue(ALICE, new_job("q", 0, &n.to_string()))).collect();
    world.watch(BOB, "q");
    assert!(matches!(world.job(BOB, ids[4], JobVerb::Delete), Reply::Done));
    assert!(matches!(world.job(BOB, ids[4], JobVerb::Delete), Reply::Empty));
    world.send(BOB, 1, Request::Job(ids[6], JobVerb::Claim));
    assert_eq!(world.bodies(), ["6"]);
    world.check_state();
    world.send(ALICE, 1, Request::Job(ids[6], JobVerb::Delete));
    assert_eq!(world.state(ids[6]), Some(JobState::Claimed), "somebody else has it");
    let order: Vec<String> = (0..7).map(|_| world.claimed(BOB)).collect();
    assert_eq!(order, ["0", "1", "2", "3", "5", "7", "8"]);
    world.close(BOB);
    world.enter(BOB);
    world.watch(BOB, "q");
    world.check_recovery();
    assert_eq!(world.state(ids[6]), Some(JobState::Ready));
    let order: Vec<String> = (0..8).map(|_| world.claimed(BOB)).collect();
    assert_eq!(order, ["0", "1", "2", "3", "5", "6", "7", "8"]);
}

#[test]
fn a_job_taken_from_the_middle_of_a_long_line_leaves_the_others_where_they_are() {
    let mut world = World::new();
    let ids: Vec<JobId> = (0..10_000).map(|_| world.enqueue(ALICE, new_job("q", 0, "x"))).collect();
    for id in ids.iter().skip(5_000).step_by(3) {
        assert!(matches!(world.job(ALICE, *id, JobVerb::Delete), Reply::Done));
    }
    world.check_recovery();
    world.restart();
    let left = 10_000 - 5_000_u64.div_ceil(3);
    assert_eq!(world.ready("q"), left);
    world.check_recovery();
}

#[test]
fn jobs_and_messages_share_a_queue() {
    let mut world = World::new();
    let id = world.enqueue(ALICE, new_job("q", 0, "a job"));
    world.put("q", "a message");
    // Who declares a queue that a door made has one that stays.
    world.durable("q");
    world.consume(BOB, "q", 1);
    let seen = std::mem::take(&mut world.deliveries);
    assert_eq!(seen.iter().map(|it| it.body.as_str()).collect::<Vec<_>>(), ["a job", "a message"]);
    let properties = Properties::parse(&seen[0].properties).unwrap();
    assert_eq!(properties.get(Property::DeliveryMode), Some(&[2][..]));
    world.release(BOB, seen[0].tag, true);
    world.ack(BOB, seen[1].tag);
    world.check_state();
    world.close(BOB);
    world.enter(BOB);
    world.watch(BOB, "q");
    assert_eq!(world.claimed(BOB), "a job");
    assert!(matches!(world.job(BOB, id, JobVerb::Delete), Reply::Done));
    world.put("q", "without a lease");
    let Claimed::Job(seen) = world.claim(BOB) else { panic!("nothing") };
    world.tick(world.now + 1_000_000_000);
    assert_eq!(world.ready("q"), 0, "a claim of a message lasts as long as its session");
    assert_eq!(seen.body, "without a lease");
    world.check_recovery();
}

#[test]
fn a_job_of_any_rank_that_a_consumer_gives_back_keeps_its_place() {
    let mut world = World::new();
    for rank in 0..300_u32 {
        world.enqueue(ALICE, new_job("q", rank * 7, &rank.to_string()));
    }
    world.credit(BOB, 2);
    world.consume(BOB, "q", 1);
    let seen = std::mem::take(&mut world.deliveries);
    assert_eq!(seen.iter().map(|it| it.body.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    world.release(BOB, seen[0].tag, true);
    assert_eq!(world.bodies(), ["0"]);
    world.check_state();
    world.close(BOB);
    world.check_recovery();
    world.enter(BOB);
    world.watch(BOB, "q");
    for rank in 0..300 {
        assert_eq!(world.claimed(BOB), rank.to_string());
    }
    world.check_state();
}

#[test]
fn a_queue_made_for_jobs_goes_when_nobody_needs_it() {
    let mut world = World::new();
    world.work(ALICE, Work::Use("q".into()));
    assert_eq!(world.names(), ["q"]);
    let id = world.enqueue(ALICE, new_job("q", 0, "x"));
    world.work(ALICE, Work::Use("other".into()));
    assert_eq!(world.names(), ["q", "other"]);
    world.check_recovery();
    world.job(BOB, id, JobVerb::Delete);
    assert_eq!(world.names(), ["other"]);
    world.watch(BOB, "watched");
    world.watch(BOB, "too");
    world.work(BOB, Work::Ignore("watched".into()));
    assert_eq!(world.names(), ["other", "too"]);
    world.check_recovery();
    world.restart();
    assert!(world.names().is_empty(), "nobody is left");
    world.check_recovery();
}

#[test]
fn a_paused_queue_hands_nothing_out_for_so_long() {
    let mut world = World::new();
    world.watch(BOB, "q");
    assert!(matches!(world.work(ALICE, Work::Pause("q".into(), 10)), Reply::Done));
    assert!(matches!(world.work(ALICE, Work::Pause("none".into(), 10)), Reply::Empty));
    world.enqueue(ALICE, new_job("q", 0, "x"));
    assert!(matches!(world.claim(BOB), Claimed::Waits));
    let facts = world.queue_facts("q").unwrap();
    assert_eq!(
        (facts.pause_s, facts.pause_left_s, facts.waiting, facts.jobs.ready),
        (10, 10, 1, 1)
    );
    let start = world.now;
    world.tick(start + 10_000);
    assert!(world.bodies().is_empty());
    world.tick(start + 10_001);
    assert_eq!(world.bodies(), ["x"]);
}

#[test]
fn a_pause_of_no_time_is_none() {
    let mut world = World::new();
    world.watch(BOB, "q");
    world.enqueue(ALICE, new_job("q", 0, "x"));
    assert!(matches!(world.work(ALICE, Work::Pause("q".into(), 0)), Reply::Done));
    assert_eq!(world.claimed(BOB), "x");
}

#[test]
fn a_job_that_comes_back_too_often_is_buried() {
    let limits = Limits { job_deliveries_max: Some(2), ..Limits::default() };
    let mut world = World::with_limits(limits);
    let id = world.enqueue(ALICE, new_job("q", 3, "poison"));
    world.watch(BOB, "q");
    let again = JobVerb::Release { rank: 3, delay_s: 0 };
    for _ in 0..2 {
        world.claimed(BOB);
        assert!(matches!(world.job(BOB, id, again), Reply::Released { is_buried: false }));
    }
    world.claimed(BOB);
    world.close(BOB);
    world.enter(BOB);
    assert_eq!(world.state(id), Some(JobState::Buried));
    world.check_recovery();
}

#[test]
fn a_full_queue_refuses_a_job() {
    let limits = Limits { job_queue_length_max: Some(2), ..Limits::default() };
    let mut world = World::with_limits(limits);
    world.enqueue(ALICE, new_job("q", 3, "1"));
    world.enqueue(ALICE, Enqueue { delay_s: 9, ..new_job("q", 3, "2") });
    let third = world.ask(ALICE, Request::Enqueue(new_job("q", 3, "3")));
    assert!(matches!(third, Reply::Rejected), "{third:?}");
    assert!(matches!(
        world.ask(ALICE, Request::PurgeQueue("q".into())),
        Reply::Deleted { messages: 2 }
    ));
    world.check_recovery();
}

#[test]
fn what_was_done_is_still_known_after_a_restart() {
    let mut world = World::new();
    world.enqueue(ALICE, new_job("q", 3, "1"));
    world.enqueue(ALICE, new_job("q", 3, "2"));
    world.tick(world.now + 10_000);
    world.check_recovery();
    world.restart();
    let Reply::WorkFacts(facts) = world.work(BOB, Work::Describe) else { panic!("no facts") };
    assert_eq!(facts.counts[model::WorkCount::Enqueue as usize], 2);
    assert_eq!((facts.jobs.total, facts.jobs.ready), (2, 2));
    assert_eq!(world.queue_facts("q").unwrap().jobs.total, 2);
}

#[test]
fn a_queue_kind_of_its_own_is_listed() {
    let mut world = World::new();
    world.enqueue(ALICE, new_job("q", 3, "1"));
    let kind = |world: &mut World| {
        let row = world.row("q").unwrap();
        row.into_iter().find(|(column, _)| *column == "type").unwrap().1
    };
    assert_eq!(kind(&mut world), Cell::Text("jobs".into()));
    world.durable("q");
    assert_eq!(kind(&mut world), Cell::Text("classic".into()));
    world.check_recovery();
    let quorum = QueueOptions { kind: QueueKind::Quorum, ..QueueOptions::default() };
    assert!(matches!(
        world.refusal(ALICE, declare("q", durable(quorum))),
        Refusal::Inequivalent { .. }
    ));
}
