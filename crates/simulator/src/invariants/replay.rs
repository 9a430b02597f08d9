//! The log is the state: a second node that opens a copy of the disk comes to the state that the
//! running node has, and so does the next start after an end without losses.
//!
//! Promise: P18.

use super::Invariant;
use crate::fact::Fact;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// The last moment at which everything was durable: the log's end and the state.
    quiet: Option<(u64, u64)>,
}

impl Invariant for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Compared { node, replay } if node != replay => {
                return Err(format!("the node's state is {node:016x}, its log says {replay:016x}"));
            }
            Fact::Quiet { lsn, state } => self.quiet = Some((*lsn, *state)),
            Fact::Recovered { lsn, state } => {
                if let Some((at, was)) = self.quiet.filter(|(at, _)| at == lsn)
                    && was != *state
                {
                    return Err(format!(
                        "the state at {at} was {was:016x} and is {state:016x} after the start"
                    ));
                }
                self.quiet = None;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::try_history;

    #[test]
    fn another_state_is_an_objection() {
        let check = |history: &[Fact]| try_history(&mut Replay::default(), history);
        assert!(check(&[Fact::Compared { node: 1, replay: 2 }]).is_err());
        let quiet = Fact::Quiet { lsn: 10, state: 1 };
        let back = |lsn, state| Fact::Recovered { lsn, state };
        assert!(check(&[quiet.clone(), back(10, 2)]).is_err());
        assert_eq!(check(&[quiet.clone(), back(10, 1)]), Ok(()));
        assert_eq!(check(&[quiet, back(12, 2)]), Ok(()));
    }
}
