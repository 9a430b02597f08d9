//! [`Gleaner`]: reads back what is left in every queue when everybody else has gone.

use proto_amqp::table::Method;

use super::Role;
use crate::fact::{Fact, Place};
use crate::io::{Io, Letter, Stage, Way};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Gleaner {
    place: Place,
}

impl Gleaner {
    fn ask(&self, io: &mut Io<'_>) {
        let garden = io.garden;
        let Some(bed) = garden.get(self.place) else {
            *io.wants_close = true;
            *io.is_done = true;
            return;
        };
        let get = Method::BasicGet { ticket: 0, queue: bed.name.as_bytes(), no_ack: false };
        io.say(1, &get);
    }

    fn go_on(&mut self, io: &mut Io<'_>) {
        self.place += 1;
        self.ask(io);
    }
}

impl Role for Gleaner {
    fn opened(&mut self, io: &mut Io<'_>) {
        self.place = 0;
        self.ask(io);
    }

    fn on_method(&mut self, io: &mut Io<'_>, channel: u16, method: &Method<'_>) {
        match method {
            Method::BasicGetEmpty { .. } | Method::ChannelOpenOk { .. } => self.go_on(io),
            Method::ChannelClose { .. } => {
                let bed = io.garden.get(self.place);
                let is_kept = bed.is_some_and(crate::garden::Bed::is_kept);
                if is_kept && let Some(bed) = bed {
                    io.tell(Fact::Missing(bed.name.clone()));
                }
                io.say(channel, &Method::ChannelCloseOk {});
                io.say(channel, &Method::ChannelOpen { out_of_band: b"" });
            }
            _ => {}
        }
    }

    fn on_letter(&mut self, io: &mut Io<'_>, from: (u16, &Method<'_>), letter: &Letter) {
        let (channel, Method::BasicGetOk { delivery_tag, redelivered, .. }) = from else { return };
        let subscription = io.new_subscription();
        let way = Way { is_gleaned: true, ..Way::consumer(self.place, subscription, *redelivered) };
        if let Some(message) = io.receive(letter, way) {
            let held = io.held(message, self.place);
            io.tell(Fact::Acked(held));
        }
        let ack = Method::BasicAck { delivery_tag: *delivery_tag, multiple: false };
        io.say(channel, &ack);
        self.ask(io);
    }

    fn on_turn(&mut self, _io: &mut Io<'_>) {}

    fn begins(&self) -> Stage {
        Stage::Gleaning
    }
}
