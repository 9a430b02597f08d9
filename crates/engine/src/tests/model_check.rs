//! The engine against a naive model: an ordered set of ready messages per queue and a map of what
//! is out. No loss, no duplicate without a return, first in first out within a priority, credit
//! never exceeded; and after any history a restart finds the same state.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Queue names: durable, durable with priorities, volatile.
const QUEUES: [&str; 3] = ["plain", "urgent", "brief"];
const CREDIT: u32 = 3;

#[derive(Clone, Debug)]
enum Act {
    Publish { queue: usize, priority: u8 },
    Fanout,
    Consume { session: usize, queue: usize },
    Cancel { session: usize, nth: usize },
    Settle { nth: usize, is_multiple: bool, end: u8 },
    Get { queue: usize },
    Commit { nth: usize, queue: usize, end: u8 },
    Purge { queue: usize },
    Recover { session: usize },
    Close { session: usize },
    Check,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..3_usize, 0..4_u8).prop_map(|(queue, priority)| Act::Publish { queue, priority }),
        4 => Just(Act::Fanout),
        4 => (0..2_usize, 0..3_usize).prop_map(|(session, queue)| Act::Consume { session, queue }),
        1 => (0..2_usize, 0..3_usize).prop_map(|(session, nth)| Act::Cancel { session, nth }),
        12 => (0..9_usize, any::<bool>(), 0..4_u8)
            .prop_map(|(nth, is_multiple, end)| Act::Settle { nth, is_multiple, end }),
        3 => (0..3_usize).prop_map(|queue| Act::Get { queue }),
        4 => (0..9_usize, 0..3_usize, 0..4_u8)
            .prop_map(|(nth, queue, end)| Act::Commit { nth, queue, end }),
        1 => (0..3_usize).prop_map(|queue| Act::Purge { queue }),
        1 => (0..2_usize).prop_map(|session| Act::Recover { session }),
        1 => (0..2_usize).prop_map(|session| Act::Close { session }),
        1 => Just(Act::Check),
        1 => Just(Act::Restart),
    ]
}

/// Ready order: highest priority first, then age.
type Place = (u8, u64);

#[derive(Debug, Default)]
struct Naive {
    ready: [BTreeSet<Place>; 3],
    /// By session and tag: queue, place, consumer (if any).
    out: BTreeMap<(SessionId, u64), (usize, Place, Option<u32>)>,
    returned: BTreeSet<(usize, u64)>,
    /// The queue of the last `Get`.
    got_from: usize,
    consumers: Vec<(SessionId, u32, usize)>,
    next_id: u64,
    next_consumer: u32,
}

struct Run {
    world: World,
    naive: Naive,
}

const SESSIONS: [SessionId; 2] = [ALICE, BOB];

impl Run {
    fn new() -> Self {
        let mut world = World::new();
        world.declare("plain", durable(QueueOptions::default()));
        let options = QueueOptions { priority_max: 2, ..QueueOptions::default() };
        world.declare("urgent", durable(options));
        world.declare("brief", QueueSpec::default());
        for queue in QUEUES {
            world.bind("amq.fanout", queue, "");
        }
        for session in SESSIONS {
            world.credit(session, CREDIT);
        }
        Self { world, naive: Naive::default() }
    }

    fn place(queue: usize, priority: u8, id: u64) -> Place {
        let level = if queue == 1 { priority.min(2) } else { 0 };
        (u8::MAX - level, id)
    }

    fn message(&mut self, priority: u8) -> (u64, Publish) {
        let id = self.naive.next_id;
        self.naive.next_id += 1;
        let mut message = publish("", "", &id.to_string());
        message.options.priority = priority;
        (id, message)
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Publish { queue, priority } => {
                let (id, mut message) = self.message(priority);
                message.routing_key = QUEUES[queue].into();
                self.naive.ready[queue].insert(Self::place(queue, priority, id));
                self.world.send(ALICE, 1, Request::Publish(message));
            }
            Act::Fanout => {
                let (id, mut message) = self.message(0);
                message.exchange = "amq.fanout".into();
                for queue in 0..3 {
                    self.naive.ready[queue].insert(Self::place(queue, 0, id));
                }
                self.world.send(BOB, 1, Request::Publish(message));
            }
            Act::Consume { session, queue } => {
                let id = self.naive.next_consumer;
                self.naive.next_consumer += 1;
                self.naive.consumers.push((SESSIONS[session], id, queue));
                self.world.consume(SESSIONS[session], QUEUES[queue], id);
            }
            Act::Cancel { session, nth } => {
                let mut own = self.naive.consumers.iter().filter(|it| it.0 == SESSIONS[session]);
                if let Some((session, id, _)) = own.nth(nth).copied() {
                    self.naive.consumers.retain(|consumer| consumer.1 != id);
                    self.world.done(session, Request::Cancel(ConsumerId(id)));
                    let out = self.naive.out.values_mut().filter(|it| it.2 == Some(id));
                    out.for_each(|it| it.2 = None);
                }
            }
            Act::Settle { nth, is_multiple, end } => self.settle(nth, is_multiple, end),
            Act::Get { queue } => {
                self.naive.got_from = queue;
                self.world.send(
                    BOB,
                    1,
                    Request::Get { queue: QUEUES[queue].into(), no_ack: false },
                );
            }
            Act::Commit { nth, queue, end } => self.commit(nth, queue, end),
            Act::Purge { queue } => {
                self.naive.ready[queue].clear();
                self.world.done(ALICE, Request::PurgeQueue(QUEUES[queue].into()));
            }
            Act::Recover { session } => {
                self.give_back(SESSIONS[session]);
                self.world.done(SESSIONS[session], Request::Recover);
            }
            Act::Close { session } => {
                self.naive.consumers.retain(|consumer| consumer.0 != SESSIONS[session]);
                self.give_back(SESSIONS[session]);
                self.world.close(SESSIONS[session]);
                self.take_deliveries();
                self.world.enter(SESSIONS[session]);
                self.world.credit(SESSIONS[session], CREDIT);
            }
            Act::Check => self.world.check_recovery(),
            Act::Restart => self.restart(),
        }
        self.take_deliveries();
        self.compare();
    }

    fn settle(&mut self, nth: usize, is_multiple: bool, end: u8) {
        let Some((session, tag)) = self.naive.out.keys().nth(nth).copied() else { return };
        let is_requeue = end == 2;
        let gone: Vec<u64> = self
            .naive
            .out
            .range((session, if is_multiple { 0 } else { tag })..=(session, tag))
            .map(|((_, tag), _)| *tag)
            .collect();
        for tag in gone {
            self.end(session, tag, is_requeue);
        }
        let request = if end < 2 {
            Request::Ack { tag, is_multiple }
        } else {
            Request::Release { tag, is_multiple, is_requeue }
        };
        self.world.send(session, 1, request);
    }

    fn end(&mut self, session: SessionId, tag: u64, is_requeue: bool) {
        let (queue, place, _) = self.naive.out.remove(&(session, tag)).unwrap();
        if is_requeue {
            self.naive.ready[queue].insert(place);
            self.naive.returned.insert((queue, place.1));
        }
    }

    fn commit(&mut self, nth: usize, queue: usize, end: u8) {
        let Some((session, tag)) = self.naive.out.keys().nth(nth).copied() else { return };
        let is_requeue = end == 2;
        self.end(session, tag, is_requeue);
        let first = if end < 2 {
            Op::Ack { tag, is_multiple: false }
        } else {
            Op::Release { tag, is_multiple: false, is_requeue }
        };
        let mut ops = vec![first];
        for _ in 0..2 {
            let (id, mut message) = self.message(1);
            message.routing_key = QUEUES[queue].into();
            self.naive.ready[queue].insert(Self::place(queue, 1, id));
            ops.push(Op::Publish(message));
        }
        self.world.done(session, Request::Commit(ops));
    }

    fn give_back(&mut self, session: SessionId) {
        let tags: Vec<u64> =
            self.naive.out.keys().filter(|key| key.0 == session).map(|key| key.1).collect();
        for tag in tags {
            self.end(session, tag, true);
        }
    }

    fn restart(&mut self) {
        self.world.check_recovery();
        for session in SESSIONS {
            self.give_back(session);
        }
        self.naive.consumers.clear();
        self.naive.ready[2].clear();
        let all = (0..3).flat_map(|queue| (0..self.naive.next_id).map(move |id| (queue, id)));
        self.naive.returned.extend(all);
        self.world.restart();
        self.world.declare("brief", QueueSpec::default());
        self.world.bind("amq.fanout", "brief", "");
        for session in SESSIONS {
            self.world.credit(session, CREDIT);
        }
    }

    fn take_deliveries(&mut self) {
        for seen in std::mem::take(&mut self.world.deliveries) {
            let id: u64 = seen.body.parse().unwrap();
            let consumer = Some(seen.consumer).filter(|id| *id != u32::MAX);
            let queue = match consumer {
                Some(id) => self.naive.consumers.iter().find(|it| it.1 == id).unwrap().2,
                None => self.naive.got_from,
            };
            let place = self.naive.ready[queue].pop_first().unwrap();
            assert_eq!(place.1, id, "{} out of order", QUEUES[queue]);
            assert_eq!(
                seen.is_redelivered,
                self.naive.returned.contains(&(queue, id)),
                "message {id}"
            );
            let before = self.naive.out.insert((seen.session, seen.tag), (queue, place, consumer));
            assert!(before.is_none(), "tag {} twice", seen.tag);
        }
    }

    fn compare(&mut self) {
        for (session, id, queue) in &self.naive.consumers {
            let out = self.naive.out.values().filter(|it| it.2 == Some(*id)).count();
            assert!(out <= CREDIT as usize, "{out} out with consumer {id} of {session:?}");
            let is_idle = out < CREDIT as usize;
            assert!(!is_idle || self.naive.ready[*queue].is_empty(), "consumer {id} starves");
        }
        for (queue, name) in QUEUES.iter().enumerate() {
            assert_eq!(self.world.ready(name), self.naive.ready[queue].len() as u64, "{name}");
            let out = self.naive.out.values().filter(|it| it.0 == queue).count() as u64;
            assert_eq!(self.world.column(name, "messages_unacknowledged"), out, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    /// Promise: P3, P5.
    #[test]
    fn any_history_agrees_with_the_model(acts in proptest::collection::vec(act(), 1..120)) {
        let mut run = Run::new();
        for act in &acts {
            run.act(act);
        }
        run.world.check_recovery();
    }
}
