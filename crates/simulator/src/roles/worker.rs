//! [`Worker`]: does jobs in transactions: acknowledges the input, publishes a result and what comes
//! next, all in one commit; at times it changes its mind and rolls back.

use std::collections::VecDeque;

use proto_amqp::table::Method;

use super::Role;
use crate::fact::{Fact, Held, MessageId, Micros, Place};
use crate::garden::{Route, Use};
use crate::io::{Io, Letter, Stage, Way, Wish};

/// One job of the transaction under way.
#[derive(Clone, Copy, Debug)]
struct Step {
    tag: u64,
    input: Held,
    result: MessageId,
    next: MessageId,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Worker {
    place: Place,
    pause: Micros,
    rollbacks: u64,
    prefetch: u16,
    subscription: u32,
    source: u32,
    waiting: VecDeque<(u64, MessageId)>,
    /// Sent with a commit, or to be rolled back, and not answered.
    under_way: Vec<Step>,
    is_open: bool,
}

impl Worker {
    pub(crate) fn new(place: Place, pause: Micros, rollbacks: u64, prefetch: u16) -> Self {
        Self {
            place,
            pause,
            rollbacks,
            prefetch,
            subscription: 0,
            source: 0,
            waiting: VecDeque::new(),
            under_way: Vec::new(),
            is_open: false,
        }
    }

    fn work(&mut self, io: &mut Io<'_>) {
        if !self.under_way.is_empty() || self.waiting.is_empty() {
            return;
        }
        let count = 1 + io.dice.below(3);
        for _ in 0..count {
            let Some((tag, message)) = self.waiting.pop_front() else { break };
            self.step(io, tag, message);
        }
        if io.stage == Stage::Busy && io.dice.chance(self.rollbacks) {
            for step in &self.under_way {
                io.facts.push(Fact::RolledBack(step.result));
                io.facts.push(Fact::RolledBack(step.next));
            }
            io.say(1, &Method::TxRollback {});
            return;
        }
        for step in &self.under_way {
            let (input, result, next) = (step.input, step.result, step.next);
            io.facts.push(Fact::Step { input, result, next });
            io.facts.push(Fact::Acked(input));
        }
        io.say(1, &Method::TxCommit {});
    }

    fn step(&mut self, io: &mut Io<'_>, tag: u64, message: MessageId) {
        let input = io.held(message, self.place);
        let bytes = usize::try_from(20 + io.dice.below(600)).unwrap_or(20);
        let wish =
            Wish { channel: 1, source: self.source, job: Some(message), bytes, ..Wish::default() };
        let result = Self::publish(io, Use::Outcome, wish);
        let next = Self::publish(io, Use::Next, wish);
        io.say(1, &Method::BasicAck { delivery_tag: tag, multiple: false });
        self.under_way.push(Step { tag, input, result, next });
    }

    fn publish(io: &mut Io<'_>, purpose: Use, wish: Wish) -> MessageId {
        let garden = io.garden;
        let place = garden.find(purpose).unwrap_or_default();
        let key = garden.get(place).map(|bed| bed.name.clone()).unwrap_or_default();
        io.publish(&Route { exchange: "", key, targets: vec![place] }, wish)
    }
}

impl Role for Worker {
    fn opened(&mut self, io: &mut Io<'_>) {
        self.waiting.clear();
        self.under_way.clear();
        self.is_open = true;
        self.source = io.new_source();
        self.subscription = io.new_subscription();
        io.qos(1, self.prefetch);
        io.say(1, &Method::TxSelect {});
        io.consume(1, self.place, false);
        io.wake_in(1_000);
    }

    fn on_method(&mut self, io: &mut Io<'_>, channel: u16, method: &Method<'_>) {
        match method {
            Method::TxCommitOk {} => {
                for step in self.under_way.drain(..) {
                    io.facts.push(Fact::Confirmed(step.result, io.log_ms));
                    io.facts.push(Fact::Confirmed(step.next, io.log_ms));
                    io.facts.push(Fact::Settled(step.input));
                }
            }
            Method::TxRollbackOk {} => {
                for step in self.under_way.drain(..).rev() {
                    self.waiting.push_front((step.tag, step.input.message));
                }
            }
            Method::ChannelClose { .. } => {
                // The answer to a commit comes first: what is unanswered now was not done.
                for step in self.under_way.drain(..) {
                    io.facts.push(Fact::Undone(step.input));
                }
                io.say(channel, &Method::ChannelCloseOk {});
                *io.wants_close = true;
                self.is_open = false;
            }
            _ => {}
        }
    }

    fn on_letter(&mut self, io: &mut Io<'_>, from: (u16, &Method<'_>), letter: &Letter) {
        let (_, Method::BasicDeliver { delivery_tag, redelivered, .. }) = from else { return };
        let way = Way::consumer(self.place, self.subscription, *redelivered);
        if let Some(message) = io.receive(letter, way) {
            self.waiting.push_back((*delivery_tag, message));
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        if !self.is_open {
            return;
        }
        match io.stage {
            Stage::Busy | Stage::Calm => {
                self.work(io);
                let pause = if io.stage == Stage::Busy { self.pause } else { 20_000 };
                let pause = io.dice.around(pause);
                io.wake_in(pause);
            }
            Stage::Leaving => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Planting | Stage::Gleaning | Stage::Done => {}
        }
    }

    fn lost(&mut self, _io: &mut Io<'_>) {
        self.is_open = false;
        self.waiting.clear();
        self.under_way.clear();
    }
}
