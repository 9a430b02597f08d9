//! Jobs that hang together: one key one job, groups, and how many of a key are claimed at a time.

use model::{Enqueue, JobId, JobState, JobVerb, Ties, Work};

use super::jobs::{Claimed, new_job};
use super::*;

fn tied(queue: &'static str, rank: u32, body: &str, ties: Ties) -> Enqueue {
    Enqueue { ties: Some(Box::new(ties)), ..new_job(queue, rank, body) }
}

fn keyed(key: &'static str, seconds: u32) -> Ties {
    Ties { idempotency: Some(key.into()), idempotency_s: seconds, ..Ties::default() }
}

fn of_group(name: &'static str) -> Ties {
    Ties { group: Some(name.into()), ..Ties::default() }
}

fn after(name: &'static str) -> Ties {
    Ties { after_group: Some(name.into()), ..Ties::default() }
}

fn lane(key: &'static str, most: u32) -> Ties {
    Ties { concurrency: Some((key.into(), most)), ..Ties::default() }
}

impl World {
    fn put_tied(&mut self, queue: &'static str, rank: u32, ties: Ties) -> JobId {
        self.enqueue(ALICE, tied(queue, rank, "x", ties))
    }

    fn delete(&mut self, session: SessionId, id: JobId) {
        assert!(matches!(self.job(session, id, JobVerb::Delete), Reply::Done));
    }

    fn claimed_id(&mut self, session: SessionId) -> Option<JobId> {
        match self.claim(session) {
            Claimed::Job(seen) => seen.job,
            Claimed::Waits => {
                self.send(session, 1, Request::Withdraw);
                None
            }
            Claimed::Reply(reply) => panic!("{reply:?}"),
        }
    }
}

#[test]
fn a_key_is_one_job_as_long_as_the_job_is_there() {
    let mut world = World::new();
    let first = world.put_tied("q", 5, keyed("a", 0));
    assert_eq!(world.put_tied("q", 1, keyed("a", 0)), first);
    assert_ne!(world.put_tied("other", 1, keyed("a", 0)), first, "keys are of their queue");
    world.restart();
    assert_eq!(world.put_tied("q", 1, keyed("a", 0)), first);
    world.check_state();
    world.delete(BOB, first);
    assert_ne!(world.put_tied("q", 1, keyed("a", 0)), first);
    world.check_recovery();
}

#[test]
fn a_key_may_outlive_its_job() {
    let mut world = World::new();
    let first = world.put_tied("q", 5, keyed("a", 60));
    world.delete(BOB, first);
    let start = world.now;
    assert_eq!(world.put_tied("q", 5, keyed("a", 60)), first);
    world.check_recovery();
    world.restart();
    world.tick(start + 59_999);
    assert_eq!(world.put_tied("q", 5, keyed("a", 60)), first);
    world.tick(start + 60_000);
    let second = world.put_tied("q", 5, keyed("a", 1));
    assert_ne!(second, first);
    world.delete(BOB, second);
    world.tick(world.now + 1_000);
    assert!(world.queue_facts("q").is_none(), "nothing is kept for ever");
    world.check_recovery();
}

#[test]
fn a_job_waits_for_a_group_in_any_queue() {
    let mut world = World::new();
    let parts: Vec<JobId> =
        ["a", "b"].iter().map(|queue| world.put_tied(queue, 5, of_group("g"))).collect();
    let last = world.put_tied("c", 5, after("g"));
    let free = world.put_tied("c", 9, after("nobody"));
    world.watch(BOB, "c");
    assert_eq!(world.claimed_id(BOB), Some(free));
    assert_eq!(world.claimed_id(BOB), None);
    assert_eq!(world.state(last), Some(JobState::Delayed));
    world.check_state();
    world.delete(ALICE, parts[0]);
    world.restart();
    assert_eq!(world.state(last), Some(JobState::Delayed), "one is left");
    world.watch(BOB, "c");
    world.delete(BOB, free);
    assert!(matches!(world.claim(BOB), Claimed::Waits));
    world.delete(ALICE, parts[1]);
    assert_eq!(world.bodies().len(), 1, "who waits is served");
    assert_eq!(world.state(last), Some(JobState::Claimed));
    world.check_state();
}

#[test]
fn a_group_whose_queue_is_deleted_holds_nobody() {
    let mut world = World::new();
    world.put_tied("a", 5, of_group("g"));
    let last = world.put_tied("c", 5, after("g"));
    let delete = Request::DeleteQueue { name: "a".into(), if_unused: false, if_empty: false };
    world.done(ALICE, delete);
    assert_eq!(world.state(last), Some(JobState::Ready));
    world.put_tied("a", 5, of_group("g"));
    let last = world.put_tied("c", 5, after("g"));
    world.ask(ALICE, Request::PurgeQueue("a".into()));
    assert_eq!(world.state(last), Some(JobState::Ready));
    world.check_recovery();
}

#[test]
fn so_many_of_a_key_are_claimed_at_a_time() {
    let mut world = World::new();
    let ids: Vec<JobId> = (0..4).map(|_| world.put_tied("q", 5, lane("k", 2))).collect();
    let urgent = world.put_tied("q", 1, lane("k", 2));
    world.watch(ALICE, "q");
    world.watch(BOB, "q");
    assert_eq!(world.claimed_id(ALICE), Some(urgent), "a less urgent one gives way");
    assert_eq!(world.claimed_id(BOB), Some(ids[0]));
    assert_eq!(world.claimed_id(BOB), None);
    world.check_state();
    let release = JobVerb::Release { rank: 9, delay_s: 0 };
    assert!(matches!(world.job(ALICE, urgent, release), Reply::Released { .. }));
    assert_eq!(world.claimed_id(ALICE), Some(ids[1]));
    world.close(BOB);
    world.enter(BOB);
    world.watch(BOB, "q");
    assert_eq!(world.claimed_id(BOB), Some(ids[0]), "it keeps its turn");
    world.delete(BOB, ids[0]);
    assert_eq!(world.claimed_id(BOB), Some(ids[2]));
    assert!(matches!(world.job(BOB, ids[2], JobVerb::Bury { rank: 0 }), Reply::Released { .. }));
    assert_eq!(world.claimed_id(BOB), Some(ids[3]), "a buried one holds nobody");
    world.restart();
    world.watch(BOB, "q");
    let order: Vec<JobId> = std::iter::from_fn(|| world.claimed_id(BOB)).collect();
    assert_eq!(order, [ids[1], ids[3]]);
    world.check_state();
    assert!(matches!(world.work(ALICE, Work::Kick("q".into(), 9)), Reply::Kicked { count: 1 }));
    world.delete(BOB, ids[1]);
    assert_eq!(world.claimed_id(BOB), Some(ids[2]));
    world.check_state();
}

#[test]
fn a_tied_job_can_be_delayed_too() {
    let mut world = World::new();
    let part = world.put_tied("q", 5, of_group("g"));
    let job = Enqueue { delay_s: 5, ..tied("q", 5, "later", after("g")) };
    let last = world.enqueue(ALICE, job);
    world.tick(world.now + 5_001);
    assert_eq!(world.state(last), Some(JobState::Delayed), "its time has come, the group has not");
    world.delete(ALICE, part);
    assert_eq!(world.state(last), Some(JobState::Ready));
    world.check_recovery();
}
