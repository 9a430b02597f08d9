//! Handing released outputs over: what of a mailbox may go out now, with the stored messages that
//! deliveries refer to. Not here: who is woken when ([`Node::commit`]) and reading messages back
//! from disk (`cold`). Called by the doors through [`Node::collect`].

use engine::{Handout, Place, Push, Resume};
use model::{Delivery, Event, Lsn, Millis, Output, Reply, SessionId};

use super::Node;
use crate::cold::{self, Found};
use crate::mailbox::Item;

impl Node {
    /// Hands released outputs to `sink`, in order, until it says stop with `Ok(false)`. Returns
    /// whether more could be taken now.
    ///
    /// # Errors
    /// What `sink` returned.
    pub fn collect<E>(
        &mut self,
        now: Millis,
        id: SessionId,
        sink: &mut dyn FnMut(Output<'_>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let mut bytes = 0_u64;
        let outcome = self.hand_over(id, &mut bytes, sink);
        if bytes > 0 && self.engine.taken(id, bytes) {
            let at = self.clock.stamp(now);
            self.engine.resume(at, Resume::Room(id), &mut self.log, &mut self.effects);
            self.carry_out(now, Some(id));
        }
        outcome
    }

    fn hand_over<E>(
        &mut self,
        id: SessionId,
        bytes: &mut u64,
        sink: &mut dyn FnMut(Output<'_>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let durable = self.log.journal.durable();
        let Some(mailbox) = self.mailboxes.get_mut(id) else { return Ok(false) };
        while let Some((gate, item)) = mailbox.items.pop_front() {
            if gate > durable {
                mailbox.items.push_front((gate, item));
                if !std::mem::replace(&mut mailbox.is_listed, true) {
                    self.listed.push(id);
                }
                self.is_sync_wanted = true;
                return Ok(false);
            }
            let handout = match &item {
                Item::Push(Push::Deliver { delivery, .. } | Push::Got { delivery, .. }) => delivery,
                Item::Push(_) | Item::Published { .. } => {
                    let output = plain(item);
                    self.tally.note(&output);
                    if !sink(output)? {
                        return Ok(true);
                    }
                    continue;
                }
            };
            let payload = match cold::find(&self.log.journal, &mut mailbox.cold, handout) {
                Found::Here(payload) => payload,
                Found::Cold => {
                    mailbox.items.push_front((gate, item));
                    cold::fetch(&mut self.log, mailbox, id);
                    return Ok(false);
                }
                Found::Lost(lsn) => {
                    let fault = cold::lost(&self.log.journal, lsn);
                    self.log.poison(fault);
                    return Ok(false);
                }
            };
            *bytes = bytes.saturating_add(u64::from(handout.bytes));
            self.tally.delivered = self.tally.delivered.saturating_add(1);
            let again = u64::from(handout.is_redelivered);
            self.tally.redelivered = self.tally.redelivered.saturating_add(again);
            if !sink(delivered(&item, handout, payload))? {
                return Ok(true);
            }
        }
        mailbox.shrink();
        Ok(false)
    }
}

/// An output that carries no stored message.
fn plain(item: Item) -> Output<'static> {
    match item {
        Item::Published { channel, count } => Output::Reply {
            channel,
            ticket: model::Ticket::default(),
            reply: Reply::Published { count },
        },
        Item::Push(Push::Reply { channel, ticket, reply }) => {
            Output::Reply { channel, ticket, reply }
        }
        Item::Push(Push::Published { channel }) => Output::Reply {
            channel,
            ticket: model::Ticket::default(),
            reply: Reply::Published { count: 1 },
        },
        Item::Push(Push::Cancelled { channel, consumer }) => {
            Output::Event(Event::Cancelled { channel, consumer })
        }
        Item::Push(Push::Blocked(reason)) => Output::Event(Event::Blocked(reason)),
        Item::Push(Push::Shutdown(reason)) => Output::Event(Event::Shutdown(reason)),
        Item::Push(Push::Deliver { .. } | Push::Got { .. }) => {
            Output::Event(Event::Shutdown("a delivery lost its message"))
        }
    }
}

/// An output with the stored message it refers to.
fn delivered<'a>(item: &Item, handout: &Handout, payload: &'a [u8]) -> Output<'a> {
    let delivery = Delivery {
        channel: handout.channel,
        tag: handout.tag,
        is_redelivered: handout.is_redelivered,
        returns: handout.returns,
        message: engine::message(payload).unwrap_or_default(),
    };
    Output::Event(match item {
        Item::Push(Push::Got { ticket, ready, .. }) => {
            Event::Got { ticket: *ticket, delivery, ready: *ready }
        }
        Item::Push(Push::Deliver { consumer, .. }) => {
            Event::Deliver { consumer: *consumer, delivery }
        }
        Item::Push(_) | Item::Published { .. } => Event::Shutdown("not a delivery"),
    })
}

/// Where the message of a delivery is and how long its body, when it is in the log.
pub(crate) const fn log_place(item: &Item) -> Option<(Lsn, u32)> {
    match item {
        Item::Push(Push::Deliver { delivery, .. } | Push::Got { delivery, .. }) => {
            if let Place::Log(lsn) = delivery.place {
                Some((lsn, delivery.bytes))
            } else {
                None
            }
        }
        Item::Push(_) | Item::Published { .. } => None,
    }
}
