//! [`Consumer`]: takes messages from one queue and settles them in every way there is.

use std::collections::VecDeque;

use proto_amqp::table::Method;

use super::Role;
use crate::fact::{Fact, Held, MessageId, Micros, Place};
use crate::io::{Io, Letter, Stage, Way};

/// How it consumes; shares out of a hundred.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) place: Place,
    pub(crate) prefetch: u16,
    /// Mean time before it settles something.
    pub(crate) pause: Micros,
    /// Given back to the queue.
    pub(crate) returns: u64,
    /// Refused for good.
    pub(crate) rejects: u64,
    /// Acknowledged together with everything before.
    pub(crate) multiples: u64,
    /// Says goodbye and comes again, per turn.
    pub(crate) leaves: u64,
    /// Stops consuming and starts again, per turn.
    pub(crate) cancels: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Consumer {
    manner: Manner,
    subscription: u32,
    /// Not settled, by delivery tag, oldest first.
    held: VecDeque<(u64, MessageId)>,
    /// Acknowledged over this connection.
    acked: Vec<Held>,
    /// What was given back before each question that is not answered yet.
    asked: VecDeque<Vec<Held>>,
    is_open: bool,
    is_consuming: bool,
}

impl Consumer {
    pub(crate) fn new(manner: Manner) -> Self {
        Self {
            manner,
            subscription: 0,
            held: VecDeque::new(),
            acked: Vec::new(),
            asked: VecDeque::new(),
            is_open: false,
            is_consuming: false,
        }
    }

    fn subscribe(&mut self, io: &mut Io<'_>) {
        self.subscription = io.new_subscription();
        io.consume(1, self.manner.place, false);
        self.is_consuming = true;
    }

    /// Settles one thing, or several at once.
    fn settle(&mut self, io: &mut Io<'_>) {
        let at = usize::try_from(io.dice.below(self.held.len() as u64)).unwrap_or(0);
        let Some((tag, message)) = self.held.get(at).copied() else { return };
        let held = io.held(message, self.manner.place);
        let is_calm = io.stage != Stage::Busy;
        let choice = io.dice.below(100);
        if is_calm || choice >= self.manner.returns + self.manner.rejects {
            let multiple = io.dice.chance(self.manner.multiples);
            self.acknowledge(io, at, multiple);
            return;
        }
        self.held.remove(at);
        if choice < self.manner.returns {
            let nack = Method::BasicNack { delivery_tag: tag, multiple: false, requeue: true };
            io.say(1, &nack);
            io.tell(Fact::Returned(held));
            // An answer to whatever is asked next shows that the server knows.
            io.qos(1, self.manner.prefetch);
            self.asked.push_back(vec![held]);
        } else {
            io.say(1, &Method::BasicReject { delivery_tag: tag, requeue: false });
            io.tell(Fact::Rejected(held));
        }
    }

    fn acknowledge(&mut self, io: &mut Io<'_>, at: usize, multiple: bool) {
        let Some((tag, _)) = self.held.get(at).copied() else { return };
        io.say(1, &Method::BasicAck { delivery_tag: tag, multiple });
        let first = if multiple { 0 } else { at };
        let settled: Vec<(u64, MessageId)> = self.held.drain(first..=at).collect();
        for (_, message) in settled {
            let held = io.held(message, self.manner.place);
            io.tell(Fact::Acked(held));
            self.acked.push(held);
        }
    }

    fn wander(&mut self, io: &mut Io<'_>) {
        if io.dice.chance(self.manner.leaves) {
            *io.wants_close = true;
        } else if io.dice.chance(self.manner.cancels) {
            if self.is_consuming {
                if let Some(bed) = io.garden.get(self.manner.place) {
                    let consumer_tag = bed.name.as_bytes();
                    Method::BasicCancel { consumer_tag, nowait: false }.put(io.out, 1);
                }
                self.is_consuming = false;
            }
        } else if !self.is_consuming {
            self.subscribe(io);
        }
    }
}

impl Role for Consumer {
    fn opened(&mut self, io: &mut Io<'_>) {
        let garden = io.garden;
        if let Some(bed) = garden.get(self.manner.place).filter(|bed| !bed.is_kept()) {
            garden.declare_bed(io.out, bed);
        }
        self.held.clear();
        self.acked.clear();
        self.asked.clear();
        self.is_open = true;
        io.qos(1, self.manner.prefetch);
        self.asked.push_back(Vec::new());
        self.subscribe(io);
        io.wake_in(1_000);
    }

    fn on_method(&mut self, io: &mut Io<'_>, channel: u16, method: &Method<'_>) {
        match *method {
            Method::BasicQosOk {} => {
                for held in self.asked.pop_front().unwrap_or_default() {
                    io.tell(Fact::ReturnSeen(held));
                }
            }
            Method::BasicCancel { .. } => self.is_consuming = false,
            Method::ChannelClose { .. } => {
                if let Some(bed) = io.garden.get(self.manner.place).filter(|bed| bed.is_kept()) {
                    io.tell(Fact::Missing(bed.name.clone()));
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
        let way = Way::consumer(self.manner.place, self.subscription, *redelivered);
        if let Some(message) = io.receive(letter, way) {
            self.held.push_back((*delivery_tag, message));
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        if !self.is_open {
            return;
        }
        match io.stage {
            Stage::Busy => {
                self.settle(io);
                self.wander(io);
                let pause = io.dice.around(self.manner.pause);
                io.wake_in(pause);
            }
            Stage::Calm => {
                for _ in 0..self.held.len() {
                    self.acknowledge(io, 0, false);
                }
                if !self.is_consuming {
                    self.subscribe(io);
                }
                io.wake_in(10_000);
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
        self.held.clear();
        self.asked.clear();
        self.acked.clear();
    }

    fn parted(&mut self, io: &mut Io<'_>) {
        for held in self.acked.drain(..) {
            io.facts.push(Fact::Settled(held));
        }
    }
}
