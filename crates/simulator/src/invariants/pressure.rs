//! When disk or memory is short, publishers are told; nobody is left without a word. And no
//! connection makes the server hold more than named limits allow.
//!
//! A publisher whose connection has ended at the server's end, and who has not noticed yet (the
//! power was cut and nobody was told), waits for nobody: its heartbeat is what tells it.
//!
//! Promise: P13, P14.

use std::collections::BTreeSet;

use super::Invariant;
use crate::fact::{ConnId, Fact};

/// What a connection may leave unparsed: one read on top of what had no room.
const INPUT_BYTES_MAX: usize = 2 * 128 * 1024;
/// What may wait for a connection's peer: the outbox and one command's answer.
const OUTPUT_BYTES_MAX: usize = 256 * 1024 + 64 * 1024;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Connections whose server's end is closed.
    ended: BTreeSet<ConnId>,
}

impl Invariant for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Ended(conn) => {
                self.ended.insert(*conn);
                Ok(())
            }
            Fact::Unanswered { conn, ms } if !self.ended.contains(conn) => {
                Err(format!("the publisher of connection {conn} has heard nothing for {ms} ms"))
            }
            Fact::Holding { conn, input, output }
                if *input > INPUT_BYTES_MAX || *output > OUTPUT_BYTES_MAX =>
            {
                Err(format!(
                    "connection {conn} makes the server hold {input} bytes of input and {output} \
                     of output"
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_hoarding_are_objections() {
        let mut pressure = Pressure::default();
        assert!(pressure.hear(&Fact::Unanswered { conn: 1, ms: 2_000 }).is_err());
        let hold = |input, output| Fact::Holding { conn: 1, input, output };
        assert!(pressure.hear(&hold(INPUT_BYTES_MAX + 1, 0)).is_err());
        assert!(pressure.hear(&hold(0, OUTPUT_BYTES_MAX + 1)).is_err());
        assert_eq!(pressure.hear(&hold(1, 1)), Ok(()));
    }

    #[test]
    fn nobody_answers_over_a_connection_that_has_ended() {
        let unanswered = |conn| Fact::Unanswered { conn, ms: 2_000 };
        let mut pressure = Pressure::default();
        assert_eq!(pressure.hear(&Fact::Ended(1)), Ok(()));
        assert_eq!(pressure.hear(&unanswered(1)), Ok(()));
        assert!(pressure.hear(&unanswered(2)).is_err(), "of another, which lives");
    }
}
