//! A backup that was taken whole while work went on reads back, and is the state at the moment when
//! it began.
//!
//! Promise: P17.

use super::Invariant;
use crate::fact::Fact;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Backup;

impl Invariant for Backup {
    fn name(&self) -> &'static str {
        "backup"
    }

    fn hear(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::BackedUp { copy: None, .. } => {
                Err("a backup that was taken whole does not read back".to_owned())
            }
            Fact::BackedUp { state, copy: Some(copy) } if state != copy => {
                Err(format!("a backup of the state {state:016x} holds {copy:016x}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_state_and_an_unreadable_file_are_objections() {
        let mut backup = Backup;
        assert!(backup.hear(&Fact::BackedUp { state: 1, copy: None }).is_err());
        assert!(backup.hear(&Fact::BackedUp { state: 1, copy: Some(2) }).is_err());
        assert_eq!(backup.hear(&Fact::BackedUp { state: 1, copy: Some(1) }), Ok(()));
    }
}
