//! When disk or memory is short, publishers are told; nobody is left without a word. And no
//! connection makes the server hold more than named limits allow.
//!
//! Promise: P13, P14.

use super::Invariant;
use crate::fact::Fact;

/// What a connection may leave unparsed: one read on top of what had no room.
const INPUT_BYTES_MAX: usize = 2 * 128 * 1024;
/// What may wait for a connection's peer: the outbox and one command's answer.
const OUTPUT_BYTES_MAX: usize = 256 * 1024 + 64 * 1024;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Pressure;

impl Invariant for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Unanswered { conn, ms } => {
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
        let mut pressure = Pressure;
        assert!(pressure.hear(&Fact::Unanswered { conn: 1, ms: 2_000 }).is_err());
        let hold = |input, output| Fact::Holding { conn: 1, input, output };
        assert!(pressure.hear(&hold(INPUT_BYTES_MAX + 1, 0)).is_err());
        assert!(pressure.hear(&hold(0, OUTPUT_BYTES_MAX + 1)).is_err());
        assert_eq!(pressure.hear(&hold(1, 1)), Ok(()));
    }
}
