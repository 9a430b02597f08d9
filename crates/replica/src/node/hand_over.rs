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
            let Some((place, weight)) = place(&item) else {
                let output = plain(item);
                self.tally.note(&output);
                if !sink(output)? {
                    return Ok(true);
                }
                continue;
            };
            let payload = match cold::find(&self.log.journal, &mut mailbox.cold, place) {
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
            *bytes = bytes.saturating_add(u64::from(weight));
            if let Item::Push(
                Push::Deliver { delivery, .. }
                | Push::Got { delivery, .. }
                | Push::Taken { delivery, .. },
            ) = &item
            {
                self.tally.delivered = self.tally.delivered.saturating_add(1);
                let again = u64::from(delivery.is_redelivered);
                self.tally.redelivered = self.tally.redelivered.saturating_add(again);
            }
            if !sink(delivered(&item, payload))? {
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
        Item::Push(Push::ResultGone { ticket, key, revision }) => {
            Output::Event(Event::ResultGone { ticket, key, revision })
        }
        Item::Push(
            Push::Deliver { .. }
            | Push::Got { .. }
            | Push::Job { .. }
            | Push::Taken { .. }
            | Push::Result { .. },
        ) => Output::Event(Event::Shutdown("a delivery lost its message")),
    }
}

/// An output with the stored message it refers to.
fn delivered<'a>(item: &'a Item, payload: &'a [u8]) -> Output<'a> {
    Output::Event(match item {
        Item::Push(Push::Got { ticket, ready, delivery }) => {
            Event::Got { ticket: *ticket, delivery: delivery_of(delivery, payload), ready: *ready }
        }
        Item::Push(Push::Deliver { consumer, delivery }) => {
            Event::Deliver { consumer: *consumer, delivery: delivery_of(delivery, payload) }
        }
        Item::Push(Push::Job { ticket, facts, .. }) => Event::Job {
            ticket: *ticket,
            facts,
            published: engine::published(payload).unwrap_or_default(),
            message: engine::message(payload).unwrap_or_default(),
        },
        Item::Push(Push::Taken { ticket, facts, delivery }) => Event::Taken {
            ticket: *ticket,
            facts,
            published: engine::published(payload).unwrap_or_default(),
            delivery: delivery_of(delivery, payload),
        },
        Item::Push(Push::Result { ticket, facts, .. }) => Event::Result {
            ticket: *ticket,
            facts,
            result: engine::result(payload).unwrap_or_default(),
        },
        Item::Push(_) | Item::Published { .. } => Event::Shutdown("not a delivery"),
    })
}

fn delivery_of<'a>(handout: &Handout, payload: &'a [u8]) -> Delivery<'a> {
    Delivery {
        channel: handout.channel,
        tag: handout.tag,
        is_redelivered: handout.is_redelivered,
        returns: handout.returns,
        job: if let Place::Log(lsn) = handout.place { Some(lsn.into()) } else { None },
        message: engine::message(payload).unwrap_or_default(),
    }
}

/// Where the message of an output is and what it weighs, when it refers to one.
const fn place(item: &Item) -> Option<(&Place, u32)> {
    match item {
        Item::Push(
            Push::Deliver { delivery, .. }
            | Push::Got { delivery, .. }
            | Push::Taken { delivery, .. },
        ) => Some((&delivery.place, delivery.bytes)),
        Item::Push(Push::Job { place, bytes, .. } | Push::Result { place, bytes, .. }) => {
            Some((place, *bytes))
        }
        Item::Push(_) | Item::Published { .. } => None,
    }
}

/// Where the message of an output is and what it weighs, when it is in the log.
pub(crate) const fn log_place(item: &Item) -> Option<(Lsn, u32)> {
    if let Some((Place::Log(lsn), bytes)) = place(item) { Some((*lsn, bytes)) } else { None }
}
