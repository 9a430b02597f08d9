//! [`Getter`]: takes single messages with `basic.get` and settles them.
//!
//! Not here: consumers (`consumer`), reading back at the end (`gleaner`). Planned by `plan`.

use proto_amqp::table::Method;

use super::Role;
use crate::fact::{Fact, Micros, Place};
use crate::io::{Io, Letter, Stage, Way};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Getter {
    place: Place,
    pause: Micros,
    /// Asked, and not answered.
    asked_ms: Option<u64>,
}

impl Getter {
    pub(crate) fn new(place: Place, pause: Micros) -> Self {
        Self { place, pause, asked_ms: None }
    }
}

impl Role for Getter {
    fn opened(&mut self, io: &mut Io<'_>) {
        self.asked_ms = None;
        io.tell(Fact::Subscribed(io.conn, self.place));
        io.wake_in(self.pause);
    }

    fn on_method(&mut self, io: &mut Io<'_>, channel: u16, method: &Method<'_>) {
        match method {
            Method::BasicGetEmpty { .. } => self.asked_ms = None,
            Method::ChannelClose { .. } => {
                if let Some(bed) = io.garden.get(self.place) {
                    io.facts.push(Fact::Missing(bed.name.clone()));
                }
                io.say(channel, &Method::ChannelCloseOk {});
                *io.wants_close = true;
            }
            _ => {}
        }
    }

    fn on_letter(&mut self, io: &mut Io<'_>, from: (u16, &Method<'_>), letter: &Letter) {
        let (channel, Method::BasicGetOk { delivery_tag, redelivered, .. }) = from else { return };
        let subscription = io.new_subscription();
        let way = Way {
            asked_ms: self.asked_ms.take(),
            ..Way::consumer(self.place, subscription, *redelivered)
        };
        let Some(message) = io.receive(letter, way) else { return };
        let held = io.held(message, self.place);
        let delivery_tag = *delivery_tag;
        if io.stage == Stage::Busy && io.dice.chance(20) {
            io.say(channel, &Method::BasicReject { delivery_tag, requeue: true });
            io.tell(Fact::Returned(held));
        } else {
            io.say(channel, &Method::BasicAck { delivery_tag, multiple: false });
            io.tell(Fact::Acked(held));
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) {
        match io.stage {
            Stage::Busy => {
                if self.asked_ms.is_none()
                    && let Some(bed) = io.garden.get(self.place)
                {
                    let queue = bed.name.as_bytes();
                    Method::BasicGet { ticket: 0, queue, no_ack: false }.put(io.out, 1);
                    self.asked_ms = Some(io.shown_ms);
                }
                let pause = io.dice.around(self.pause);
                io.wake_in(pause);
            }
            Stage::Calm | Stage::Leaving => {
                *io.wants_close = true;
                *io.is_done = true;
            }
            Stage::Planting | Stage::Gleaning | Stage::Done => {}
        }
    }
}
