//! [`Churner`]: declares a durable queue, fills it, empties or deletes it, and begins again.

use proto_amqp::table::Method;

use super::Role;
use crate::fact::{Fact, MessageId, Micros, Place};
use crate::garden::Route;
use crate::io::{Io, Stage, Wish};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Churner {
    place: Place,
    pause: Micros,
    source: u32,
    /// Asked for, and not answered.
    is_emptying: bool,
    /// Published since the queue was last empty for sure.
    inside: Vec<MessageId>,
}

impl Churner {
    pub(crate) fn new(place: Place, pause: Micros) -> Self {
        Self { place, pause, source: 0, is_emptying: false, inside: Vec::new() }
    }

    fn fill(&mut self, io: &mut Io<'_>) {
        let garden = io.garden;
        let Some(bed) = garden.get(self.place) else { return };
        garden.declare_bed(io.out, bed);
        let route = Route { exchange: "", key: bed.name.clone(), targets: vec![self.place] };
        for _ in 0..io.dice.below(6) {
            let bytes = usize::try_from(20 + io.dice.below(900)).unwrap_or(20);
            let wish = Wish { channel: 1, source: self.source, bytes, ..Wish::default() };
            let message = io.publish(&route, wish);
            self.inside.push(message);
        }
    }

    fn empty(&mut self, io: &mut Io<'_>) {
        let Some(bed) = io.garden.get(self.place) else { return };
        let queue = bed.name.as_bytes();
        if io.dice.chance(50) {
            Method::QueuePurge { ticket: 0, queue, nowait: false }.put(io.out, 1);
        } else {
            let (if_unused, if_empty, nowait) = (false, false, false);
            Method::QueueDelete { ticket: 0, queue, if_unused, if_empty, nowait }.put(io.out, 1);
        }
        self.is_emptying = true;
    }
}

impl Role for Churner {
    fn opened(&mut self, io: &mut Io<'_>) {
        self.source = io.new_source();
        self.is_emptying = false;
        // What an earlier connection sent may be there or not, and goes with the rest.
        self.fill(io);
        io.wake_in(self.pause);
    }

    fn on_method(&mut self, io: &mut Io<'_>, channel: u16, method: &Method<'_>) {
        match method {
            Method::QueuePurgeOk { .. } | Method::QueueDeleteOk { .. } => {
                self.is_emptying = false;
                for message in self.inside.drain(..) {
                    io.facts.push(Fact::Emptied(io.conn, self.place, message));
                }
                self.fill(io);
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
                if !self.is_emptying {
                    if io.dice.chance(40) {
                        self.empty(io);
                    } else {
                        self.fill(io);
                    }
                }
                let pause = io.dice.around(self.pause);
                io.wake_in(pause);
            }
            Stage::Calm if self.is_emptying => io.wake_in(50_000),
            Stage::Calm | Stage::Leaving => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Planting | Stage::Gleaning | Stage::Done => {}
        }
    }
}
