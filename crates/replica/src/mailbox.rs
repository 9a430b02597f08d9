//! [`Mailbox`]: outputs of one session that wait for their log position to become durable.
//! Who empties it, and when it wakes its connection, is `node`'s business.

use std::collections::VecDeque;
use std::rc::Rc;

use engine::{Output, Push};
use model::{Lsn, SessionId};

use crate::cold::ColdRecords;

/// Room that a busy mailbox keeps while it is empty for a moment.
const BUSY_ITEMS: std::ops::Range<usize> = 16..1024;

/// One waiting output.
#[derive(Debug)]
pub(crate) enum Item {
    /// A run of confirmed publishes of one channel.
    Published { channel: u16, count: u32 },
    /// Anything else.
    Push(Push),
}

/// Outputs of one session, in order.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each of which comes and goes at a time of its own"
)]
pub(crate) struct Mailbox {
    /// Each with the position it waits for.
    pub(crate) items: VecDeque<(Lsn, Item)>,
    /// Bodies read from disk for the items at the front.
    pub(crate) cold: ColdRecords,
    /// Wakes the connection's task.
    pub(crate) wake: Rc<dyn Fn()>,
    /// The session is in the node's list of those that wait for a commit.
    pub(crate) is_listed: bool,
    /// It has published: it is the one to slow down when the log is short of room.
    pub(crate) is_publisher: bool,
    /// It has put jobs, which are refused one by one when something is short.
    pub(crate) is_enqueuer: bool,
    /// It was told to stop publishing and is not read from.
    pub(crate) is_blocked: bool,
    /// It is told to end; what it asked before that is answered first.
    pub(crate) is_ending: bool,
}

impl Mailbox {
    pub(crate) fn new(wake: Rc<dyn Fn()>) -> Self {
        Self {
            items: VecDeque::new(),
            cold: ColdRecords::default(),
            wake,
            is_listed: false,
            is_publisher: false,
            is_enqueuer: false,
            is_blocked: false,
            is_ending: false,
        }
    }

    /// Tells the session to end, behind whatever it is owed.
    pub(crate) fn end(&mut self, sealed: Lsn, gate: Lsn, reason: &'static str) {
        self.is_ending = true;
        self.push(sealed, gate, Push::Shutdown(reason));
    }

    /// Whether the session does not know yet that it has to end.
    pub(crate) fn has_last_words(&self) -> bool {
        self.items.iter().any(|(_, item)| matches!(item, Item::Push(Push::Shutdown(_))))
    }

    /// Adds an output; an answer goes before the word that the session has to end, for the peer
    /// listens to nothing after that.
    pub(crate) fn push(&mut self, sealed: Lsn, gate: Lsn, push: Push) {
        if self.is_ending
            && matches!(
                push,
                Push::Published { .. }
                    | Push::Reply { .. }
                    | Push::Job { .. }
                    | Push::Result { .. }
                    | Push::ResultGone { .. }
            )
            && let Some((_, Item::Push(Push::Shutdown(_)))) = self.items.back()
        {
            let last_words = self.items.pop_back();
            self.add(sealed, gate, push);
            self.items.extend(last_words);
            return;
        }
        self.add(sealed, gate, push);
    }

    /// Adds an output at the end. Confirmed publishes that will be released by the same commit
    /// (their gates lie beyond `sealed`, the start of the open block) become one item.
    fn add(&mut self, sealed: Lsn, gate: Lsn, push: Push) {
        let Push::Published { channel } = push else {
            self.items.push_back((gate, Item::Push(push)));
            return;
        };
        if let Some((last_gate, Item::Published { channel: last, count })) = self.items.back_mut()
            && *last == channel
            && (*last_gate > sealed || gate <= *last_gate)
        {
            *last_gate = gate.max(*last_gate);
            *count = count.saturating_add(1);
            return;
        }
        self.items.push_back((gate, Item::Published { channel, count: 1 }));
    }

    /// Whether the first output may go out.
    pub(crate) fn is_ready(&self, durable: Lsn) -> bool {
        self.items.front().is_some_and(|(gate, _)| *gate <= durable)
    }

    /// Gives memory back: that of a burst, and the little that an idle session would hold.
    pub(crate) fn shrink(&mut self) {
        if self.items.is_empty() && !BUSY_ITEMS.contains(&self.items.capacity()) {
            self.items = VecDeque::new();
        }
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("items", &self.items.len()).finish_non_exhaustive()
    }
}

/// All mailboxes, by the slot in the session id.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    mailbox: Option<Mailbox>,
}

impl Mailboxes {
    /// Opens one under a fresh id.
    pub(crate) fn open(&mut self, mailbox: Mailbox) -> SessionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let mut generation = 0;
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.generation = place.generation.wrapping_add(1);
            place.mailbox = Some(mailbox);
            generation = place.generation;
        }
        SessionId::from_parts(slot, generation)
    }

    /// Drops one with everything in it.
    pub(crate) fn close(&mut self, id: SessionId) {
        if self.get_mut(id).is_some()
            && let Some(slot) = self.slots.get_mut(id.slot())
            && let Ok(number) = u32::try_from(id.slot())
        {
            slot.mailbox = None;
            self.free.push(number);
        }
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Mailbox> {
        let slot = self.slots.get(id.slot())?;
        (id == SessionId::from_parts(u32::try_from(id.slot()).ok()?, slot.generation))
            .then_some(slot.mailbox.as_ref())?
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Mailbox> {
        let slot = self.slots.get_mut(id.slot())?;
        (id == SessionId::from_parts(u32::try_from(id.slot()).ok()?, slot.generation))
            .then_some(slot.mailbox.as_mut())?
    }

    /// Open sessions, with their ids.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SessionId, &mut Mailbox)> {
        self.slots.iter_mut().zip(0_u32..).filter_map(|(slot, number)| {
            let id = SessionId::from_parts(number, slot.generation);
            slot.mailbox.as_mut().map(|mailbox| (id, mailbox))
        })
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }
}

/// Sorts an output into its mailbox; says whether it may go out at once (`Some(true)`), waits for
/// a commit (`Some(false)`) or belongs to nobody any more (`None`).
pub(crate) fn post(
    mailboxes: &mut Mailboxes,
    sealed: Lsn,
    durable: Lsn,
    output: Output,
) -> Option<bool> {
    let mailbox = mailboxes.get_mut(output.session)?;
    mailbox.push(sealed, output.gate, output.push);
    Some(mailbox.is_ready(durable))
}
