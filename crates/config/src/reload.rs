//! [`adopt`]: from what a server runs with to what was just read, as far as that is possible while
//! it runs. When settings are read again, and what follows from a change, is the binary's business.

use crate::Resolved;

/// What became of the settings that are different now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that took effect.
    pub applied: Vec<&'static str>,
    /// Keys that have to wait for the next start.
    pub waiting: Vec<&'static str>,
}

/// Takes over every reloadable setting that differs. Both are whole and checked, so that it either
/// happens or, when reading failed before, does not happen at all.
pub fn adopt(running: &mut Resolved, next: &Resolved) -> Changes {
    let mut changes = Changes::default();
    for (old, new) in running.values.iter_mut().zip(&next.values) {
        if old.value == new.value {
            continue;
        }
        if !new.setting.is_reloadable {
            changes.waiting.push(new.setting.key);
            continue;
        }
        (new.setting.put)(&mut running.settings, &new.value);
        old.clone_from(new);
        changes.applied.push(new.setting.key);
    }
    changes
}
