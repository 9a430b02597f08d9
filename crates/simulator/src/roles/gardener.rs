//! [`Gardener`]: declares the garden. Everybody else relies on what the server confirmed to it.

use proto_amqp::table::Method;

use super::Role;
use crate::io::{Io, Stage};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Gardener {
    missing: usize,
}

impl Role for Gardener {
    fn opened(&mut self, io: &mut Io<'_>) {
        self.missing = io.garden.declare(io.out);
    }

    fn on_method(&mut self, io: &mut Io<'_>, _channel: u16, method: &Method<'_>) {
        let is_answer = matches!(
            method,
            Method::QueueDeclareOk { .. } | Method::ExchangeDeclareOk {} | Method::QueueBindOk {}
        );
        if is_answer {
            self.missing = self.missing.saturating_sub(1);
            if self.missing == 0 {
                *io.wants_close = true;
                *io.is_done = true;
            }
        }
    }

    fn on_turn(&mut self, _io: &mut Io<'_>) {}

    fn begins(&self) -> Stage {
        Stage::Planting
    }
}
