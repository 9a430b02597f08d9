//! [`Publisher`]: sends messages over one route, with confirms or without.
//!
//! Not here: what a message looks like (`io`, `letter`). Planned by `plan`.

use std::collections::VecDeque;

use proto_amqp::table::Method;

use super::Role;
use crate::fact::{Fact, MessageId, Micros};
use crate::garden::{Route, Use};
use crate::io::{Io, Stage, Wish};

/// A publisher hears something within this time, unless something else is wrong.
const ANSWER_MS_MAX: u64 = 1_500;

/// How it publishes.
#[derive(Clone, Debug)]
pub(crate) struct Habit {
    pub(crate) route: Route,
    /// Asks for confirms.
    pub(crate) has_confirms: bool,
    /// Most unconfirmed messages.
    pub(crate) window: usize,
    /// Mean time between bursts.
    pub(crate) pause: Micros,
    /// Most messages of a burst.
    pub(crate) burst: u64,
    /// Largest body.
    pub(crate) bytes_max: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Publisher {
    habit: Habit,
    source: u32,
    /// The next confirm's number.
    tag: u64,
    /// Unconfirmed, oldest first, each with when it was sent.
    pending: VecDeque<(MessageId, Micros)>,
    is_ready: bool,
    is_blocked: bool,
}

impl Publisher {
    pub(crate) fn new(habit: Habit) -> Self {
        let pending = VecDeque::new();
        Self { habit, source: 0, tag: 1, pending, is_ready: false, is_blocked: false }
    }

    fn burst(&mut self, io: &mut Io<'_>) {
        let count = 1 + io.dice.below(self.habit.burst);
        for _ in 0..count {
            let is_full = self.habit.has_confirms && self.pending.len() >= self.habit.window;
            // What does not leave this client would only wait in its memory.
            if is_full || io.out.len() > 32 * 1024 {
                return;
            }
            let wish = self.wish(io);
            let message = io.publish(&self.habit.route, wish);
            if self.habit.has_confirms {
                self.pending.push_back((message, io.now));
            }
        }
    }

    /// A publisher is answered, or told why not.
    fn complain(&self, io: &mut Io<'_>) {
        let since = self.pending.front().map_or(io.now, |(_, since)| *since);
        let ms = io.now.saturating_sub(since) / 1_000;
        if io.is_smooth && !self.is_blocked && ms > ANSWER_MS_MAX {
            io.tell(Fact::Unanswered { conn: io.conn, ms });
        }
    }

    fn wish(&self, io: &mut Io<'_>) -> Wish {
        let bed = self.habit.route.targets.first().and_then(|place| io.garden.get(*place));
        let purpose = bed.map(|bed| bed.purpose);
        let priority_max = bed.map_or(0, |bed| bed.priority_max);
        let bytes = 20 + io.dice.below(self.habit.bytes_max);
        let is_timed = purpose == Some(Use::Timed) && io.dice.chance(30);
        Wish {
            channel: 1,
            source: self.source,
            priority: u8::try_from(io.dice.below(u64::from(priority_max) + 1)).unwrap_or(0),
            ttl_ms: is_timed.then(|| io.dice.below(3_000)),
            delay_ms: (purpose == Some(Use::Delayed)).then(|| io.dice.below(4_000)),
            job: None,
            bytes: usize::try_from(bytes).unwrap_or(20),
        }
    }

    fn settle(&mut self, io: &mut Io<'_>, (tag, multiple): (u64, bool), is_yes: bool) {
        let count = usize::try_from((tag + 1).saturating_sub(self.tag)).unwrap_or(0);
        if !multiple && count != 1 {
            // Confirms of single messages may come in any order.
            if let Some((message, _)) = self.pending.remove(count.saturating_sub(1)) {
                io.tell(answer(io, message, is_yes));
                self.pending.insert(count.saturating_sub(1), (u32::MAX, io.now));
            }
        } else {
            for _ in 0..count {
                let Some((message, _)) = self.pending.pop_front() else { break };
                self.tag += 1;
                if message != u32::MAX {
                    io.tell(answer(io, message, is_yes));
                }
            }
        }
        while let Some((u32::MAX, _)) = self.pending.front() {
            self.pending.pop_front();
            self.tag += 1;
        }
    }
}

fn answer(io: &Io<'_>, message: MessageId, is_yes: bool) -> Fact {
    if is_yes { Fact::Confirmed(message, io.log_ms) } else { Fact::Refused(message) }
}

impl Role for Publisher {
    fn opened(&mut self, io: &mut Io<'_>) {
        self.source = io.new_source();
        self.tag = 1;
        self.pending.clear();
        self.is_ready = !self.habit.has_confirms;
        self.is_blocked = false;
        if self.habit.has_confirms {
            io.say(1, &Method::ConfirmSelect { nowait: false });
        }
        let garden = io.garden;
        for place in &self.habit.route.targets {
            if let Some(bed) = garden.get(*place).filter(|bed| !bed.is_kept()) {
                garden.declare_bed(io.out, bed);
            }
        }
        io.wake_in(1_000);
    }

    fn on_method(&mut self, io: &mut Io<'_>, channel: u16, method: &Method<'_>) {
        match *method {
            Method::ConfirmSelectOk {} => self.is_ready = true,
            Method::BasicAck { delivery_tag, multiple } => {
                self.settle(io, (delivery_tag, multiple), true);
            }
            Method::BasicNack { delivery_tag, multiple, .. } => {
                self.settle(io, (delivery_tag, multiple), false);
            }
            Method::ConnectionBlocked { .. } => {
                self.is_blocked = true;
                io.tell(Fact::Blocked(io.conn, true));
            }
            Method::ConnectionUnblocked {} => {
                self.is_blocked = false;
                // What was sent before may be answered only from now on.
                for (_, since) in &mut self.pending {
                    *since = io.now;
                }
                io.tell(Fact::Blocked(io.conn, false));
            }
            Method::ChannelClose { .. } => {
                io.say(channel, &Method::ChannelCloseOk {});
                *io.wants_close = true;
            }
            _ => {}
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        match io.stage {
            Stage::Busy => {
                self.complain(io);
                if self.is_ready && !self.is_blocked {
                    self.burst(io);
                }
                let pause = io.dice.around(self.habit.pause);
                io.wake_in(pause);
            }
            Stage::Calm | Stage::Leaving if self.pending.is_empty() => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Calm => io.wake_in(50_000),
            Stage::Leaving => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Planting | Stage::Gleaning | Stage::Done => {}
        }
    }

    fn lost(&mut self, _io: &mut Io<'_>) {
        self.is_ready = false;
        self.pending.clear();
    }
}
