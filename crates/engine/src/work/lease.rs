//! Leases: a claimed job goes back when its holder neither finished nor renewed it in time. One
//! timer per channel, for its earliest lease, set lazily: it may go off too early and is then set
//! anew. Never early for a lease; late by at most a millisecond per thousand claims of the channel.

use std::collections::BTreeSet;

use model::{AttemptEnd, Failure, Log, Lsn, Reply, SessionId};

use super::end::Ending;
use crate::Engine;
use crate::channel::{Asker, Sessions, Slot, Turn};
use crate::fifo::NEVER;
use crate::loose::Why;

/// A holder that waits for more is told so long before its lease ends.
/// Source: beanstalkd protocol 1.13, `DEADLINE_SOON`.
const WARNING_MS: u64 = 1000;
/// So many claims of one channel are looked through per millisecond at most.
const CLAIMS_PER_MS: u64 = 1000;

/// All set timers: time (ms since 1970), session and channel.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    set: BTreeSet<(u64, SessionId, u16)>,
}

impl Leases {
    /// The earliest.
    pub(crate) fn next(&self) -> Option<u64> {
        self.set.first().map(|(time, ..)| *time)
    }

    /// Sets the timer of a channel when it needs to go off earlier than it would.
    pub(crate) fn arm(
        &mut self,
        sessions: &mut Sessions,
        (session, number): (SessionId, u16),
        time: u64,
    ) {
        let channel = sessions.channel_mut(session, number);
        let Some(claims) = channel.and_then(|channel| channel.claims.as_mut()) else { return };
        let is_warned = !claims.waiting.is_empty() && !claims.is_worker;
        let time = if is_warned { time.saturating_sub(WARNING_MS) } else { time };
        if time < claims.timer {
            self.set.remove(&(claims.timer, session, number));
            self.set.insert((time, session, number));
            claims.timer = time;
        }
    }

    /// The channel is gone.
    pub(super) fn forget(&mut self, (session, number): (SessionId, u16), time: u64) {
        self.set.remove(&(time, session, number));
    }

    fn pop(&mut self, now: u64) -> Option<(SessionId, u16)> {
        let first = self.set.first().copied().filter(|(time, ..)| *time <= now)?;
        self.set.remove(&first);
        Some((first.1, first.2))
    }
}

impl Engine {
    /// Whether a lease of the asker ends so soon that it is told instead of waiting.
    pub(super) fn is_lease_ending(&self, now: u64, asker: Asker) -> bool {
        self.earliest_lease(asker.session, asker.channel)
            .is_some_and(|until| until.saturating_sub(WARNING_MS) <= now)
    }

    fn earliest_lease(&self, session: SessionId, number: u16) -> Option<u64> {
        let channel = self.sessions.channel(session, number)?;
        let leases = channel.unsettled.iter().map(|slot| slot.lease_until);
        leases.min().filter(|until| *until != NEVER)
    }

    /// The asker waits now: its leases may have to be spoken of.
    pub(super) fn watch_leases(&mut self, asker: Asker) {
        if let Some(until) = self.earliest_lease(asker.session, asker.channel) {
            let place = (asker.session, asker.channel);
            self.leases.arm(&mut self.sessions, place, until);
        }
    }

    /// Ends every lease whose time has come; tells who waits that one is about to end.
    pub(crate) fn end_leases<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        let mut due = Vec::new();
        while let Some(place) = self.leases.pop(turn.now()) {
            due.push(place);
        }
        for place in due {
            self.end_leases_of(turn, place);
        }
    }

    fn end_leases_of<L: Log>(&mut self, turn: &mut Turn<'_, L>, place: (SessionId, u16)) {
        let now = turn.now();
        let Some(channel) = self.sessions.channel_mut(place.0, place.1) else { return };
        let Some(claims) = &mut channel.claims else { return };
        claims.timer = NEVER;
        let over = channel.unsettled.iter().filter(|slot| slot.lease_until <= now);
        let over: Vec<u64> = over.map(|slot| slot.tag).collect();
        let mut slots: Vec<Slot> = Vec::with_capacity(over.len());
        slots.extend(over.into_iter().filter_map(|tag| channel.unsettled.take(tag)));
        let is_worker = claims.is_worker;
        for slot in &slots {
            if let Some(lsn) = slot.stored.lsn().filter(|_| !is_worker) {
                claims.held.remove(&lsn.0);
            }
        }
        let count = channel.unsettled.len() as u64;
        for slot in &slots {
            self.done.time_out(now);
            let ending = if is_worker {
                self.takers.forget(slot);
                self.ending_of(now, place.0, (AttemptEnd::Expired, Failure::default()))
            } else {
                Ending { why: Why::TimedOut, rank: None, delay_s: 0, attempt: None }
            };
            self.end_claim(turn, slot, &ending);
        }
        let Some(next) = self.earliest_lease(place.0, place.1) else { return };
        if !is_worker && next.saturating_sub(WARNING_MS) <= now {
            self.warn(turn, place);
        }
        let next = next.max(now.saturating_add(count / CLAIMS_PER_MS));
        self.leases.arm(&mut self.sessions, place, next);
    }

    /// Answers the claims that wait.
    fn warn<L: Log>(&mut self, turn: &mut Turn<'_, L>, (session, channel): (SessionId, u16)) {
        let open = self.sessions.channel_mut(session, channel);
        let Some(claims) = open.and_then(|open| open.claims.as_mut()) else { return };
        for wish in std::mem::take(&mut claims.waiting) {
            let asker = Asker { session, channel, ticket: wish.ticket };
            turn.reply(asker, Lsn::ZERO, Reply::LeaseEnding);
        }
    }
}
