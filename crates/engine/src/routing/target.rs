//! What a binding leads to, as the matchers keep it: small and `Copy`. Names live in the router.

use model::QueueId;

/// An exchange's place in the router. Volatile: used again after a deletion, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

/// A binding's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// A queue.
    Queue(QueueId),
    /// Another exchange.
    Exchange(Slot),
}

/// A set of targets that counts how many bindings lead to each: bindings that differ only in
/// something the matcher ignores share one place.
#[derive(Clone, Debug, Default)]
pub(super) struct TargetSet {
    /// Sorted by target; counts are at least 1.
    entries: Vec<(Target, u32)>,
}

impl TargetSet {
    /// Counts one more binding.
    pub(super) fn add(&mut self, target: Target) {
        match self.entries.binary_search_by_key(&target, |entry| entry.0) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 += 1;
                }
            }
            Err(at) => self.entries.insert(at, (target, 1)),
        }
    }

    /// Counts one binding less; unknown targets are ignored.
    pub(super) fn remove(&mut self, target: Target) {
        let Ok(at) = self.entries.binary_search_by_key(&target, |entry| entry.0) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        entry.1 -= 1;
        if entry.1 == 0 {
            self.entries.remove(at);
        }
    }

    /// Whether nothing is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends every target once.
    pub(super) fn append_to(&self, out: &mut Vec<Target>) {
        out.extend(self.entries.iter().map(|entry| entry.0));
    }
}
