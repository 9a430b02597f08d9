//! Histories over everything that acts by itself: expiry, limits, dead letters, delays, volatile
//! things, lost sessions, reads that are answered late or never. No model here; what must hold is
//! that the log alone, and any snapshot with the records behind it, give the same state, and that
//! a durable message is never lost: it is somewhere until it was acknowledged or had a reason.

use proptest::prelude::*;

use super::*;
use model::{Overflow, QueueKind};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "v", "w", "x"];

#[derive(Clone, Debug)]
enum Act {
    Declare { name: usize, shape: u8 },
    Delete { name: usize },
    Bind { exchange: usize, name: usize },
    Unbind { exchange: usize, name: usize },
    DeleteExchange { exchange: usize },
    DeclareExchange { exchange: usize, shape: u8 },
    Publish { exchange: usize, name: usize, ttl: Option<u8>, delay: Option<u8> },
    Consume { session: usize, name: usize, no_ack: bool },
    Cancel { session: usize, id: u32 },
    Credit { session: usize, count: u32, is_channel_wide: bool },
    Settle { session: usize, nth: usize, is_multiple: bool, end: u8 },
    Commit { session: usize, nth: usize, end: u8, name: usize },
    Get { name: usize, no_ack: bool },
    Purge { name: usize },
    Close { session: usize },
    Wait { ms: u8 },
    Answer { nth: usize },
    Snapshot,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let session = 0..2_usize;
    let name = 0..8_usize;
    let exchange = 0..4_usize;
    prop_oneof![
        6 => (name.clone(), 0..9_u8).prop_map(|(name, shape)| Act::Declare { name, shape }),
        1 => name.clone().prop_map(|name| Act::Delete { name }),
        4 => (exchange.clone(), name.clone())
            .prop_map(|(exchange, name)| Act::Bind { exchange, name }),
        1 => (exchange.clone(), name.clone())
            .prop_map(|(exchange, name)| Act::Unbind { exchange, name }),
        1 => exchange.clone().prop_map(|exchange| Act::DeleteExchange { exchange }),
        2 => (exchange.clone(), 0..4_u8)
            .prop_map(|(exchange, shape)| Act::DeclareExchange { exchange, shape }),
        16 => (exchange, name.clone(), option(9), option(9)).prop_map(
            |(exchange, name, ttl, delay)| Act::Publish { exchange, name, ttl, delay }
        ),
        4 => (session.clone(), name.clone(), any::<bool>())
            .prop_map(|(session, name, no_ack)| Act::Consume { session, name, no_ack }),
        1 => (session.clone(), 0..20_u32).prop_map(|(session, id)| Act::Cancel { session, id }),
        1 => (session.clone(), 0..4_u32, any::<bool>()).prop_map(
            |(session, count, is_channel_wide)| Act::Credit { session, count, is_channel_wide }
        ),
        10 => (session.clone(), 0..6_usize, any::<bool>(), 0..3_u8).prop_map(
            |(session, nth, is_multiple, end)| Act::Settle { session, nth, is_multiple, end }
        ),
        3 => (session.clone(), 0..6_usize, 0..3_u8, name.clone())
            .prop_map(|(session, nth, end, name)| Act::Commit { session, nth, end, name }),
        2 => (name.clone(), any::<bool>()).prop_map(|(name, no_ack)| Act::Get { name, no_ack }),
        1 => name.prop_map(|name| Act::Purge { name }),
        1 => session.prop_map(|session| Act::Close { session }),
        5 => (0..12_u8).prop_map(|ms| Act::Wait { ms }),
        8 => (0..5_usize).prop_map(|nth| Act::Answer { nth }),
        1 => Just(Act::Snapshot),
        1 => Just(Act::Restart),
    ]
}

fn option(max: u8) -> impl Strategy<Value = Option<u8>> {
    prop_oneof![2 => Just(None), 1 => (0..max).prop_map(Some)]
}

fn shape(shape: u8) -> QueueSpec {
    let letters = |key: &'static str| QueueOptions {
        dead_letter_exchange: Some(Bytes::new()),
        dead_letter_routing_key: Some(key.into()),
        ..QueueOptions::default()
    };
    let to_exchange = QueueOptions {
        dead_letter_exchange: Some("e2".into()),
        length_max: Some(2),
        ..QueueOptions::default()
    };
    match shape {
        0 => durable(QueueOptions::default()),
        1 => durable(QueueOptions { message_ttl_ms: Some(5), ..letters("b") }),
        2 => durable(to_exchange),
        3 => durable(QueueOptions {
            length_max: Some(2),
            overflow: Overflow::RejectPublishDeadLetter,
            ..letters("a")
        }),
        4 => {
            durable(QueueOptions { kind: QueueKind::Quorum, delivery_max: Some(1), ..letters("v") })
        }
        5 => durable(QueueOptions { expires_ms: Some(9), priority_max: 3, ..letters("c") }),
        6 => QueueSpec { is_auto_delete: true, ..durable(QueueOptions::default()) },
        7 => QueueSpec { options: letters("a"), ..QueueSpec::default() },
        _ => QueueSpec { is_exclusive: true, ..durable(to_exchange) },
    }
}

struct Run {
    world: World,
    consumers: u32,
    /// A snapshot, and how many records it covers.
    snapshot: Option<(Vec<u8>, usize)>,
}

const SESSIONS: [SessionId; 2] = [ALICE, BOB];

impl Run {
    fn send(&mut self, session: usize, request: Request) {
        self.world.send(SESSIONS[session], 1, request);
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the other half stands below")]
    fn act(&mut self, act: &Act) {
        match *act {
            Act::Declare { name, shape: index } => {
                let spec = shape(index);
                self.send(0, declare(NAMES[name], spec));
            }
            Act::Delete { name } => {
                let name = NAMES[name].into();
                self.send(0, Request::DeleteQueue { name, if_unused: false, if_empty: false });
            }
            Act::Bind { exchange, name } => {
                let binding = binding(&exchange_name(exchange), NAMES[name], NAMES[name]);
                self.send(0, Request::Bind(Box::new(binding)));
            }
            Act::Unbind { exchange, name } => {
                let binding = binding(&exchange_name(exchange), NAMES[name], NAMES[name]);
                self.send(0, Request::Unbind(Box::new(binding)));
            }
            Act::DeleteExchange { exchange } => {
                let name = exchange_name(exchange).into();
                self.send(0, Request::DeleteExchange { name, if_unused: false });
            }
            Act::DeclareExchange { exchange, shape } => {
                let spec = ExchangeSpec {
                    is_auto_delete: shape == 1,
                    is_durable: shape != 2,
                    is_delayed: shape == 3,
                    ..exchange_spec(ExchangeKind::Fanout)
                };
                self.send(1, declare_exchange(&exchange_name(exchange), spec));
            }
            Act::Publish { exchange, name, ttl, delay } => {
                let exchange = if exchange == 0 { String::new() } else { exchange_name(exchange) };
                let mut message = publish(&exchange, NAMES[name], "body");
                message.options.expiration_ms = ttl.map(u64::from);
                message.options.delay_ms = delay.map(u64::from);
                message.options.priority = delay.unwrap_or(0);
                message.options.wants_confirm = name % 2 == 0;
                self.send(0, Request::Publish(message));
            }
            _ => self.act_on_deliveries(act),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the other half stands above")]
    fn act_on_deliveries(&mut self, act: &Act) {
        match *act {
            Act::Consume { session, name, no_ack } => {
                self.consumers += 1;
                let request = Consume { no_ack, ..consume(NAMES[name], self.consumers) };
                self.send(session, Request::Consume(Box::new(request)));
            }
            Act::Cancel { session, id } => self.send(session, Request::Cancel(ConsumerId(id))),
            Act::Credit { session, count, is_channel_wide } => {
                self.send(session, Request::SetCredit { count, is_channel_wide });
            }
            Act::Settle { session, nth, is_multiple, end } => {
                let tag = self.tag(session, nth);
                let request = match end {
                    0 => Request::Ack { tag, is_multiple },
                    end => Request::Release { tag, is_multiple, is_requeue: end == 1 },
                };
                self.send(session, request);
            }
            Act::Commit { session, nth, end, name } => {
                let tag = self.tag(session, nth);
                let first = match end {
                    0 => Op::Ack { tag, is_multiple: true },
                    end => Op::Release { tag, is_multiple: false, is_requeue: end == 1 },
                };
                let ops = vec![Op::Publish(publish("", NAMES[name], "next")), first];
                self.send(session, Request::Commit(ops));
            }
            Act::Get { name, no_ack } => {
                self.send(1, Request::Get { queue: NAMES[name].into(), no_ack });
            }
            Act::Purge { name } => self.send(0, Request::PurgeQueue(NAMES[name].into())),
            Act::Close { session } => {
                self.world.close(SESSIONS[session]);
                self.world.enter(SESSIONS[session]);
            }
            Act::Wait { ms } => self.wait(u64::from(ms)),
            Act::Answer { nth } => self.answer(nth),
            Act::Snapshot => {
                let mut bytes = Vec::new();
                self.world.engine.snapshot().write(&mut bytes).unwrap();
                self.snapshot = Some((bytes, self.world.tape.records.len()));
            }
            _ => self.world.restart(),
        }
    }

    /// A tag that is out with the session, if any is.
    fn tag(&self, session: usize, nth: usize) -> u64 {
        let channel = self.world.engine.sessions.channel(SESSIONS[session], 1).unwrap();
        let tags: Vec<u64> = channel.unsettled.iter().map(|slot| slot.tag).collect();
        tags.get(nth).or_else(|| tags.last()).copied().unwrap_or(77)
    }

    fn wait(&mut self, ms: u64) {
        self.world.now += ms;
        for _ in 0..4 {
            if self.world.engine.next_deadline().is_some_and(|due| due.0 <= self.world.now) {
                let at = self.world.stamp();
                let mut out = Effects::default();
                self.world.engine.tick(at, &mut self.world.tape, &mut out);
                self.world.take_in(out);
            }
        }
    }

    /// Answers one read, in any order.
    fn answer(&mut self, nth: usize) {
        if nth >= self.world.reads.len() {
            return;
        }
        let read = self.world.reads.remove(nth);
        let mut live = Vec::new();
        self.world.engine.live(read.lsn..read.lsn.plus(1), &mut live);
        let records = self.world.tape.records.len();
        let payload = self.world.tape.payload(read.lsn);
        let what = Resume::Record { token: read.token, lsn: read.lsn, payload: &payload };
        let at = self.world.stamp();
        let mut out = Effects::default();
        self.world.engine.resume(at, what, &mut self.world.tape, &mut out);
        self.world.take_in(out);
        // A record that is being read is needed, unless its queue was deleted meanwhile.
        let is_needed = self.world.tape.records.len() > records;
        assert!(!is_needed || live == [read.lsn], "{live:?} does not list {}", read.lsn);
    }

    fn check(&self) {
        self.world.check_state();
        let Some((bytes, from)) = &self.snapshot else { return };
        let mut engine = Engine::restore(bytes, Limits::default()).unwrap();
        for (lsn, kind, _, payload) in &self.world.tape.records[*from..] {
            engine.replay(*lsn, *kind, payload).unwrap();
        }
        assert_eq!(engine.state_hash(), self.world.engine.state_hash(), "snapshot and records");
    }

    /// Lets everything come to rest: nothing may be left over.
    fn finish(&mut self) {
        for session in SESSIONS {
            self.world.close(session);
        }
        for _ in 0..2_000 {
            self.wait(20);
            if self.world.reads.is_empty() {
                break;
            }
            self.answer(0);
        }
        self.check();
        self.world.enter(ALICE);
        for name in NAMES {
            self.send(
                0,
                Request::DeleteQueue { name: name.into(), if_unused: false, if_empty: false },
            );
        }
        let usage = self.world.engine.usage(Lsn::ZERO..Lsn(u64::MAX));
        assert_eq!(usage.records, 0, "records are held for nothing");
        assert_eq!(self.world.engine.state.holdings.volatile_bytes, 0);
        self.world.check_recovery();
    }
}

fn exchange_name(exchange: usize) -> String {
    format!("e{exchange}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    /// Promise: P1, P18.
    #[test]
    fn any_history_can_be_recovered(acts in proptest::collection::vec(act(), 1..150)) {
        let mut run = Run { world: World::new(), consumers: 0, snapshot: None };
        run.world.serves_reads = false;
        for act in &acts {
            run.act(act);
        }
        run.check();
        run.finish();
    }
}
