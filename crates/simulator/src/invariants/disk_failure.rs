//! The first failed write or flush of the log ends the server: it does not go on, and so cannot say
//! yes to anything.
//!
//! Promise: P12.

use super::Invariant;
use crate::fact::Fact;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct DiskFailure {
    has_failed: bool,
}

impl Invariant for DiskFailure {
    fn name(&self) -> &'static str {
        "disk_failure"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::DiskFailed => self.has_failed = true,
            Fact::Crashed(_) => self.has_failed = false,
            Fact::WentOn if self.has_failed => {
                return Err("the server ended a turn after the log could not be written".to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Crash;
    use crate::invariants::try_history;

    #[test]
    fn going_on_is_an_objection() {
        let check = |history: &[Fact]| try_history(&mut DiskFailure::default(), history);
        assert!(check(&[Fact::DiskFailed, Fact::WentOn]).is_err());
        let crash = Fact::Crashed(Crash::Fault);
        assert_eq!(check(&[Fact::DiskFailed, crash, Fact::WentOn]), Ok(()));
    }
}
