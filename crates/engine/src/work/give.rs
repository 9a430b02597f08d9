//! Handing a job to the session that claimed it: kept there under a lease, and shown. Which job and
//! which session: `work.rs`, `take.rs` and `dispatch.rs`.

use bytes::Bytes;
use model::{Idle, JobId, JobRef, Lsn, Reply, SessionId, TakenFacts, Ticket};

use super::take::{Takers, Taking};
use super::{Leases, seconds_from};
use crate::channel::{Channel, NO_CONSUMER, Sessions, Slot};
use crate::dispatch::Parcel;
use crate::effects::{Effects, Output, Push};
use crate::loose;
use crate::queue::Queue;

/// Somebody wants a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Of the request.
    pub ticket: Ticket,
    /// For a worker: how many seconds it is theirs. `None`: as long as the job says.
    pub lease_s: Option<u32>,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A job was handed over.
    One,
    /// The one that seemed to be ready was not; there may be others.
    None,
    /// Nothing can leave its queue for now.
    Later,
}

/// How a job is kept for its holder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub tag: u64,
    /// When the lease ends, ms since 1970.
    pub until: u64,
}

/// Keeps a job for its new holder.
pub(crate) fn keep_job(
    channel: &mut Channel,
    wish: Wish,
    (parcel, now, is_picked): (&Parcel, u64, bool),
) -> Hold {
    let tag = channel.take_tag();
    let mut slot = Slot::new(tag, NO_CONSUMER, parcel.place, parcel.entry.clone());
    slot.is_picked = is_picked;
    let lease_s = wish.lease_s.unwrap_or(slot.lease_s);
    if lease_s > 0 {
        slot.lease_until = seconds_from(now, lease_s);
    }
    let until = slot.lease_until;
    if wish.lease_s.is_none()
        && let (Some(claims), Some(lsn)) = (&mut channel.claims, slot.stored.lsn())
    {
        claims.held.insert(lsn.0, tag);
    }
    channel.unsettled.push(slot);
    Hold { tag, until }
}

/// What giving a job works with.
pub(crate) struct Giving<'a> {
    /// Ms since 1970.
    pub now: u64,
    pub sessions: &'a mut Sessions,
    pub leases: &'a mut Leases,
    pub takers: &'a mut Takers,
    pub out: &'a mut Effects,
}

impl Giving<'_> {
    /// Gives a job that was taken from its queue to a channel. `None` when that is gone.
    pub(crate) fn give(
        &mut self,
        (session, number): (SessionId, u16),
        wish: Wish,
        (queue, parcel, is_picked): (&Queue, &Parcel, bool),
    ) -> Option<()> {
        let owner = self.sessions.get_mut(session)?;
        let channel = owner.channels.get_mut(number)?;
        let hold = keep_job(channel, wish, (parcel, self.now, is_picked));
        let delivery = parcel.handout(number, hold.tag);
        owner.flight.hand(delivery.bytes, None);
        let ticket = wish.ticket;
        let push = match (wish.lease_s, parcel.entry.stored.lsn()) {
            (Some(_), Some(lsn)) => {
                let facts = taken_facts(queue, parcel, lsn);
                let taking = Taking { session, channel: number, tag: hold.tag };
                self.takers.note(facts.job, taking);
                Push::Taken { ticket, delivery, facts: Box::new(facts) }
            }
            _ => Push::Got { ticket, delivery, ready: 0 },
        };
        self.out.outputs.push(Output { session, gate: parcel.gate(), push });
        self.leases.arm(self.sessions, (session, number), hold.until);
        Some(())
    }

    /// Gives a job to the oldest wish of a channel that waits.
    pub(crate) fn give_to_waiting(
        &mut self,
        (session, number): (SessionId, u16),
        (queue, parcel): (&Queue, &Parcel),
    ) {
        let channel = self.sessions.channel_mut(session, number);
        let claims = channel.and_then(|channel| channel.claims.as_mut());
        let Some(wish) = claims.and_then(|claims| claims.waiting.pop_front()) else { return };
        self.give((session, number), wish, (queue, parcel, false));
        if wish.lease_s.is_some() {
            let reply = Reply::Taken { count: 1, idle: Idle::Empty };
            let push = Push::Reply { channel: number, ticket: wish.ticket, reply };
            self.out.outputs.push(Output { session, gate: Lsn::ZERO, push });
        }
    }
}

fn taken_facts(queue: &Queue, parcel: &Parcel, lsn: Lsn) -> TakenFacts {
    let moved = loose::position(parcel.place.2).and_then(|lsn| queue.loose()?.get(lsn));
    TakenFacts {
        job: JobRef { queue: queue.id, id: JobId::from(lsn) },
        queue: Bytes::clone(&queue.name),
        attempt: parcel.entry.returns.saturating_add(1),
        failures: moved.map_or(0, |job| job.tally.failures),
    }
}
