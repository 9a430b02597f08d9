//! Who gets the next message, and what a queue does at the end of a turn: hand out, let expire,
//! cut to its limits. Also starting and ending consumers. What comes back is `settle.rs`.

mod consumers;

use std::sync::Arc;

use model::{ConsumerId, Log, Lsn, Overflow, QueueId, Ticket};

use crate::channel::{Channel, ConsumerKey, NO_CONSUMER, Slot, Turn};
use crate::dead_letter::{Graves, Reason};
use crate::effects::{Handout, Output, Place, Push};
use crate::fifo::{Entry, Stored};
use crate::loose;
use crate::perform::{Holdings, State};
use crate::queue::{Head, Queue};
use crate::record::{self, Run};
use crate::work::Giving;
use crate::{Engine, Scratch};

/// What a delivery weighs besides its stored message: frames and bookkeeping.
const DELIVERY_BYTES: u32 = 64;
/// Most messages one queue loses to expiry or limits in one turn; the rest follows in the next.
const LOSSES_MAX: usize = 16 * 1024;

/// A message ready to be handed out.
pub(crate) struct Parcel {
    pub place: (QueueId, u8, u64),
    is_redelivered: bool,
    returns: Option<u32>,
    pub entry: Entry,
    /// What must be durable besides its message.
    besides: Lsn,
}

impl Parcel {
    pub(crate) fn new(queue: &Queue, head: Head) -> Self {
        let Head { level, taken } = head;
        let moved = loose::position(taken.seq).and_then(|lsn| queue.loose()?.get(lsn));
        let moved = moved.map_or(Lsn::ZERO, |job| job.changed);
        let returns = queue.shown_returns(taken.entry.returns);
        // A count that was shown must not fall with a crash: it is in the record of the return.
        let counted = returns.map_or(Lsn::ZERO, |_| queue.changed);
        Self {
            place: (queue.id, level, taken.seq),
            is_redelivered: taken.is_redelivered,
            returns,
            entry: taken.entry,
            besides: queue.promoted.max(counted).max(moved),
        }
    }

    /// When it may be shown: once its message is durable, and in this queue for good.
    pub(crate) fn gate(&self) -> Lsn {
        self.entry.stored.lsn().map_or(Lsn::ZERO, |lsn| lsn.plus(1)).max(self.besides)
    }

    pub(crate) fn handout(&self, channel: u16, tag: u64) -> Handout {
        let record = self.entry.body.saturating_add(self.entry.head);
        Handout {
            channel,
            tag,
            is_redelivered: self.is_redelivered,
            returns: self.returns,
            place: match &self.entry.stored {
                Stored::Log(lsn) => Place::Log(*lsn),
                Stored::Memory(bytes) => Place::Memory(Arc::clone(bytes)),
            },
            bytes: record.saturating_add(DELIVERY_BYTES),
        }
    }
}

impl Engine {
    /// The end of every call: looks after all queues that changed, and buries what died, which
    /// may change further queues.
    pub(crate) fn settle_down<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        let mut budget = Graves::BURIALS_MAX;
        loop {
            let mut at = 0;
            while let Some(id) = self.state.woken.get(at).copied() {
                at += 1;
                self.look_after(turn, id);
            }
            self.state.woken.clear();
            if !self.graves.can_go_on() || budget == 0 {
                break;
            }
            self.bury(turn, &mut budget);
        }
        self.tell_changes(turn);
    }

    /// Hands out what can be handed out, then removes what expired or is too much.
    fn look_after<L: Log>(&mut self, turn: &mut Turn<'_, L>, id: QueueId) {
        let Some(queue) = self.state.queues.get_mut(&id) else { return };
        queue.ripen(turn.now());
        if queue.has_changes() {
            self.follow_ties(turn, id);
        }
        let State { queues, holdings, .. } = &mut self.state;
        let Some(queue) = queues.get_mut(&id) else { return };
        queue.is_woken = false;
        let is_paused = queue.is_paused(turn.now());
        if !is_paused {
            queue.pause = (0, 0);
        }
        let mut loss =
            Loss { now: turn.now(), graves: &mut self.graves, runs: &mut self.scratch.runs };
        if queue.ready > 0 && queue.consumers.is_some() && !is_paused {
            let max = u64::from(self.limits.undelivered_bytes_max);
            let giving = Giving {
                now: turn.now(),
                sessions: &mut self.sessions,
                leases: &mut self.leases,
                takers: &mut self.takers,
                out: turn.out,
            };
            let mut dispatch = Dispatch { giving, max };
            dispatch.run(queue, holdings, &mut loss);
        }
        if queue.ready > 0 {
            loss.expire(queue, holdings, turn.now());
            loss.trim(queue, holdings);
        }
        if !self.graves.is_stalled(id) {
            self.timers.arm(queue);
        }
        let is_vacant = queue.is_vacant(turn.now());
        let has_changes = queue.has_changes();
        self.write_settles(turn);
        if has_changes {
            self.state.wake(id);
        }
        if is_vacant {
            self.drop_vacant(turn, id);
        }
    }

    /// Writes the collected runs of durable queues down.
    pub(crate) fn write_settles<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        let Scratch { runs, head, .. } = &mut self.scratch;
        if !runs.is_empty() {
            record::append_runs(turn.log, record::SETTLE, runs, head);
        }
    }

    /// Takes one message for a client that asked once. `None` when nothing is ready.
    pub(crate) fn hand_once<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (queue, no_ack): (QueueId, bool),
        (session, channel, ticket): (model::SessionId, u16, Ticket),
    ) -> Option<()> {
        let State { queues, holdings, .. } = &mut self.state;
        let queue = queues.get_mut(&queue)?;
        let mut loss =
            Loss { now: turn.now(), graves: &mut self.graves, runs: &mut self.scratch.runs };
        let head = loss.pop_alive(queue, holdings);
        let found = head.map(|head| Parcel::new(queue, head));
        // What has expired behind it does not count. Source: observed, RabbitMQ 3.10.8.
        loss.expire(queue, holdings, turn.now());
        if let Some(parcel) = &found {
            let owner = self.sessions.get_mut(session)?;
            let target = owner.channels.get_mut(channel)?;
            let tag = target.take_tag();
            let handout = parcel.handout(channel, tag);
            owner.flight.hand(handout.bytes, no_ack.then(|| parcel.entry.clone()));
            let push = Push::Got { ticket, delivery: handout, ready: queue.ready };
            // The answer shows a count, so it waits like any other look at the queue.
            let gate = parcel.gate().max(queue.changed);
            turn.out.outputs.push(Output { session, gate, push });
            if no_ack {
                loss.note(queue, parcel.place);
            } else {
                queue.unsettled += 1;
                let entry = parcel.entry.clone();
                target.unsettled.push(Slot::new(tag, NO_CONSUMER, parcel.place, entry));
            }
        }
        self.timers.arm(queue);
        if !self.scratch.runs.is_empty() {
            queue.will_change(turn.log.next_lsn());
        }
        self.write_settles(turn);
        found.map(|_| ())
    }
}

/// What handing out from one queue works with.
struct Dispatch<'a> {
    giving: Giving<'a>,
    /// Undelivered bytes above which a session pauses.
    max: u64,
}

impl Dispatch<'_> {
    fn run(&mut self, queue: &mut Queue, holdings: &mut Holdings, loss: &mut Loss<'_>) {
        let Some(mut consumers) = queue.consumers.take() else { return };
        while queue.ready > 0
            && let Some(key) = consumers.next(self.giving.sessions)
            && let Some(head) = loss.pop_alive(queue, holdings)
        {
            let parcel = Parcel::new(queue, head);
            if self.deliver(key, (queue, &parcel)) {
                loss.note(queue, parcel.place);
            } else {
                queue.unsettled += 1;
            }
            consumers.rotate();
        }
        queue.consumers = Some(consumers);
    }

    /// Hands one message to a consumer that has credit. Returns whether that settles it.
    fn deliver(&mut self, key: ConsumerKey, (queue, parcel): (&Queue, &Parcel)) -> bool {
        let Some(consumer) = self.giving.sessions.consumer_mut(key) else { return false };
        let (id, no_ack, number) = (consumer.id, consumer.no_ack, consumer.channel);
        let session = consumer.session;
        if consumer.is_claim {
            self.giving.give_to_waiting((session, number), (queue, parcel));
            return false;
        }
        consumer.unsettled += u32::from(!no_ack);
        let Some(owner) = self.giving.sessions.get_mut(session) else { return false };
        let Some(channel) = owner.channels.get_mut(number) else { return false };
        let handout = hand_to(channel, number, (key, no_ack), parcel);
        owner.flight.hand(handout.bytes, no_ack.then(|| parcel.entry.clone()));
        owner.is_paused |= owner.flight.bytes() >= self.max;
        let push = Push::Deliver { consumer: id, delivery: handout };
        self.giving.out.outputs.push(Output { session, gate: parcel.gate(), push });
        no_ack
    }
}

/// Numbers the delivery and keeps it until it is settled.
fn hand_to(
    channel: &mut Channel,
    number: u16,
    (key, no_ack): (ConsumerKey, bool),
    parcel: &Parcel,
) -> Handout {
    let tag = channel.take_tag();
    if !no_ack {
        channel.outstanding += 1;
        let entry = parcel.entry.clone();
        channel.unsettled.push(Slot::new(tag, key, parcel.place, entry));
    }
    parcel.handout(number, tag)
}

/// Messages that leave a queue without being acknowledged by anybody.
pub(crate) struct Loss<'a> {
    pub now: u64,
    pub graves: &'a mut Graves,
    /// Collects what is to be settled in the log.
    pub runs: &'a mut Vec<Run>,
}

impl Loss<'_> {
    /// Takes the first message that has not expired. `None` also while expired ones cannot leave.
    pub(crate) fn pop_alive(&mut self, queue: &mut Queue, holdings: &mut Holdings) -> Option<Head> {
        if queue.may_expire && queue.head_expires() < self.now {
            self.expire(queue, holdings, self.now - 1);
            if queue.head_expires() < self.now {
                return None;
            }
        }
        queue.pop()
    }

    /// Removes the heads that have expired by `time`.
    fn expire(&mut self, queue: &mut Queue, holdings: &mut Holdings, time: u64) {
        for _ in 0..LOSSES_MAX {
            if !queue.may_expire || !self.has_room(queue) {
                break;
            }
            let Some(head) = queue.pop_expired(time) else { break };
            self.lose(queue, holdings, head, Reason::Expired);
        }
    }

    /// Drops heads while the queue is over a limit. A queue that refuses publishes said yes to all
    /// that it has: what comes back to it may take it over its limit.
    fn trim(&mut self, queue: &mut Queue, holdings: &mut Holdings) {
        if queue.spec.options.overflow != Overflow::DropHead {
            return;
        }
        for _ in 0..LOSSES_MAX {
            if queue.ready == 0 || !queue.is_over(0, 0) || !self.has_room(queue) {
                break;
            }
            let Some(head) = queue.pop() else { break };
            self.lose(queue, holdings, head, Reason::MaxLength);
        }
    }

    /// Whether another message may die here now; if not, the queue is looked after again later.
    fn has_room(&mut self, queue: &Queue) -> bool {
        queue.spec.options.dead_letter_exchange.is_none() || self.graves.has_room(queue.id)
    }

    fn lose(&mut self, queue: &mut Queue, holdings: &mut Holdings, head: Head, reason: Reason) {
        let place = (queue.id, head.level, head.taken.seq);
        self.end(queue, holdings, (place, head.taken.entry), reason);
    }

    /// Dead-letters a message that was taken from the queue, or drops it.
    pub(crate) fn end(
        &mut self,
        queue: &mut Queue,
        holdings: &mut Holdings,
        (place, entry): ((QueueId, u8, u64), Entry),
        reason: Reason,
    ) {
        if queue.spec.options.dead_letter_exchange.is_some() {
            self.graves.add(place, reason, entry);
        } else {
            self.settle(queue, holdings, (place, &entry));
        }
    }

    /// A message taken from a queue is done with.
    pub(crate) fn settle(
        &mut self,
        queue: &mut Queue,
        holdings: &mut Holdings,
        (place, entry): ((QueueId, u8, u64), &Entry),
    ) {
        holdings.release(entry);
        self.note(queue, place);
    }

    /// Its record is still needed for its way to the client, but the queue is done with it.
    fn note(&mut self, queue: &mut Queue, (id, level, seq): (QueueId, u8, u64)) {
        queue.done(seq);
        if !id.is_volatile() {
            self.runs.push(Run::one(id, level, seq));
        }
    }
}

/// Tells a consumer that the server ended it.
pub(crate) fn cancelled(
    session: model::SessionId,
    gate: Lsn,
    channel: u16,
    consumer: ConsumerId,
) -> Output {
    Output { session, gate, push: Push::Cancelled { channel, consumer } }
}
