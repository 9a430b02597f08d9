//! The end of a delivery: acknowledged, given back, dropped; one by one, by the channel, by the
//! session. Which record that makes, and what it does to credit. Inside a commit: `commit.rs`.

use model::{Log, Lsn, Refusal, Reply, SessionId};

use crate::Engine;
use crate::channel::{Asker, Channel, NO_CONSUMER, Slot, Turn};
use crate::dead_letter::Reason;
use crate::dispatch::Loss;
use crate::record::{self, Run};

/// How deliveries end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Done.
    Ack,
    /// Back to the queue.
    Requeue,
    /// Dead-lettered, or dropped.
    Drop,
}

impl End {
    pub(crate) const fn of_release(is_requeue: bool) -> Self {
        if is_requeue { Self::Requeue } else { Self::Drop }
    }
}

/// Which deliveries: a tag, or all up to it; 0 with `is_multiple` is all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which {
    pub tag: u64,
    pub is_multiple: bool,
}

impl Which {
    /// The highest tag of "all up to".
    pub(crate) const fn until(self) -> u64 {
        if self.tag == 0 { u64::MAX } else { self.tag }
    }

    /// # Errors
    /// When the tag is not unsettled.
    pub(crate) fn check(self, channel: &Channel) -> Result<(), Refusal> {
        if (self.is_multiple && self.tag == 0) || channel.unsettled.contains(self.tag) {
            return Ok(());
        }
        Err(Refusal::UnknownDelivery { tag: self.tag })
    }
}

impl Channel {
    /// Takes checked deliveries out of the channel, oldest first.
    pub(crate) fn take_deliveries(&mut self, which: Which, slots: &mut Vec<Slot>) {
        let before = slots.len();
        if which.is_multiple {
            self.unsettled.take_until(which.until(), &mut |slot| slots.push(slot));
        } else {
            slots.extend(self.unsettled.take(which.tag));
        }
        let new = slots.get(before..).unwrap_or_default();
        let to_consumers = new.iter().filter(|slot| slot.consumer != NO_CONSUMER).count();
        let count = u32::try_from(to_consumers).unwrap_or(u32::MAX);
        self.outstanding = self.outstanding.saturating_sub(count);
    }
}

impl Engine {
    /// `Request::Ack` and `Request::Release`.
    pub(crate) fn settle<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        which: Which,
        end: End,
    ) -> Result<(), Refusal> {
        let channel = self.sessions.channel_mut(asker.session, asker.channel);
        let channel = channel.ok_or(Refusal::NotOpen)?;
        which.check(channel)?;
        let mut slots = std::mem::take(&mut self.scratch.slots);
        channel.take_deliveries(which, &mut slots);
        let is_shared = channel.credit_all > 0;
        channel.changed = turn.log.next_lsn().plus(1);
        self.end_deliveries(turn, &mut slots, end);
        self.scratch.slots = slots;
        if is_shared {
            self.unpark_channel(asker.session, asker.channel);
        }
        Ok(())
    }

    /// Ends deliveries that were taken from their channel, and writes that down.
    pub(crate) fn end_deliveries<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        slots: &mut Vec<Slot>,
        end: End,
    ) {
        if end == End::Ack {
            self.totals.acknowledged += slots.len() as u64;
        }
        let mut returns = Vec::new();
        for slot in slots.drain(..) {
            self.end_delivery(turn, &slot, end, &mut returns);
        }
        self.write_settles(turn);
        record::append_runs(turn.log, record::RETURN, &mut returns, &mut self.scratch.head);
    }

    /// Ends one delivery; what is to be written stands in `scratch.runs` and `returns`.
    pub(crate) fn end_delivery<L: Log>(
        &mut self,
        turn: &Turn<'_, L>,
        slot: &Slot,
        end: End,
        returns: &mut Vec<Run>,
    ) {
        self.give_credit(slot);
        let place = (slot.queue, slot.level, slot.seq);
        let Some(queue) = self.state.queues.get_mut(&slot.queue) else {
            // The queue was deleted meanwhile, and with it, in the log, this message.
            self.state.holdings.release(&slot.entry());
            return;
        };
        queue.unsettled -= 1;
        queue.will_change(turn.log.next_lsn());
        let mut loss =
            Loss { now: turn.now(), graves: &mut self.graves, runs: &mut self.scratch.runs };
        let mut entry = slot.entry();
        match end {
            End::Ack => {
                loss.settle(queue, &mut self.state.holdings, (place, &entry));
                if queue.has_changes() {
                    self.state.wake(slot.queue);
                }
            }
            End::Drop => {
                loss.end(queue, &mut self.state.holdings, (place, entry), Reason::Rejected);
            }
            End::Requeue => {
                let returns_now = entry.returns.saturating_add(1);
                if queue.returns_max().is_some_and(|max| returns_now > max) {
                    // The log has no `return` for it, so its count stays.
                    let reason = Reason::DeliveryLimit;
                    loss.end(queue, &mut self.state.holdings, (place, entry), reason);
                    return;
                }
                entry.returns = returns_now;
                queue.put_back(slot.level, slot.seq, entry);
                if !slot.queue.is_volatile() {
                    returns.push(Run::one(slot.queue, slot.level, slot.seq));
                }
                self.state.wake(slot.queue);
            }
        }
    }

    /// The consumer of a delivery may have another one.
    pub(crate) fn give_credit(&mut self, slot: &Slot) {
        let Some(consumer) = self.sessions.consumer_mut(slot.consumer) else { return };
        consumer.unsettled -= 1;
        let id = consumer.queue;
        let may_hand_over = consumer.is_single && consumer.unsettled == 0;
        if consumer.is_parked {
            self.unpark(slot.consumer);
        }
        if may_hand_over {
            self.choose_active(id);
        }
    }

    /// `Request::Recover`: everything unsettled of the channel goes back.
    pub(crate) fn recover<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
    ) -> Result<(), Refusal> {
        self.settle(turn, asker, Which { tag: 0, is_multiple: true }, End::Requeue)?;
        turn.reply(asker, Lsn::ZERO, Reply::Done);
        Ok(())
    }

    /// Ends the consumers of a channel and gives its deliveries back. Returns the gate of the
    /// answer: who hears that a channel is closed may rely on what it acknowledged there.
    pub(crate) fn end_channel<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        session: SessionId,
        number: u16,
    ) -> Lsn {
        let Some(owner) = self.sessions.get_mut(session) else { return Lsn::ZERO };
        let Some(mut channel) = owner.channels.remove(number) else { return Lsn::ZERO };
        let before = turn.log.next_lsn();
        if let Some(token) = channel.reply_token.take() {
            self.replies.remove(&token);
        }
        // Consumers first: nothing goes back to those that leave. Deliveries of an auto-delete
        // queue that goes with them are dropped with it.
        for key in std::mem::take(&mut channel.consumers) {
            self.end_consumer(turn, key);
        }
        self.forget_waiters((session, number));
        let mut slots = Vec::with_capacity(channel.unsettled.len());
        channel.take_deliveries(Which { tag: 0, is_multiple: true }, &mut slots);
        if let Some(claims) = channel.claims.take() {
            self.lose_claims(turn, (session, number), (&claims, &mut slots));
        }
        self.end_deliveries(turn, &mut slots, End::Requeue);
        let after = turn.log.next_lsn();
        if after > before { after } else { channel.changed }
    }

    /// Ends all channels of a session, then its exclusive queues.
    pub(crate) fn end_session<L: Log>(&mut self, turn: &mut Turn<'_, L>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        for channel in session.channels.numbers() {
            self.end_channel(turn, id, channel);
        }
        if let Some(mut session) = self.sessions.close(id) {
            let holdings = &mut self.state.holdings;
            session.flight.take(u64::MAX, &mut |entry| holdings.release(entry));
            for queue in session.exclusive {
                self.remove_queue(turn, queue);
            }
        }
    }
}
