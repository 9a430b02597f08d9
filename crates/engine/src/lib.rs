//! The engine: queues, exchanges, deliveries and the rest as one deterministic state machine.
//!
//! Lives here: everything that decides. Not here, on purpose: protocols (doors), clocks, files,
//! threads, randomness. Time and random bits enter with a [`model::Stamp`]; records leave through
//! [`model::Log`]; everything else leaves through [`Effects`]. Called by `replica` only.
//!
//! Rooms: `apply` is where requests enter, once `authorize` has let them in; `perform` is the
//! durable state and what each record does to it, alive and at recovery; `record` the persisted
//! layouts. One noun each: `queue`, `fifo`, `vhost`, `routing`, `channel`, `user`, `permission`,
//! `delayed`. One verb each: `publish`, `commit`, `dispatch`, `settle`, `declare`, `grant`,
//! `dead_letter`, `reply_to`, `timer`, `listing`, `snapshot`. Jobs: `work` (claims, leases, what is
//! done with one job), `loose` (those that stand outside the lines of their queue), `ties` (those
//! that wait for others).

mod apply;
mod authorize;
mod channel;
mod commit;
mod counters;
mod dead_letter;
mod declare;
mod delayed;
mod dispatch;
mod effects;
mod fifo;
mod grant;
mod listing;
mod loose;
mod map;
mod perform;
mod permission;
mod publish;
mod queue;
mod record;
mod reply_to;
mod result;
mod routing;
mod settle;
mod snapshot;
mod ties;
mod timer;
mod topology;
mod usage;
mod user;
mod vhost;
mod work;

use std::ops::Range;

use bytes::Bytes;
pub use counters::Counters;
pub use effects::{
    Actor, Damage, Effects, Handout, Login, Output, Place, Push, Read, Resume, SessionInfo, Usage,
};
use model::{Envelope, Limits, Log, Lsn, MessageRef, Millis, QueueId, ResultRef, SessionId, Stamp};
pub use snapshot::{Cursor as SnapshotCursor, STATE_VERSION, Snapshot};

use crate::channel::{ConsumerKey, Sessions, Slot, Turn};
use crate::counters::Totals;
use crate::dead_letter::Graves;
use crate::map::Map;
use crate::perform::State;
use crate::record::Run;
use crate::ties::Bonds;
use crate::timer::Timers;
use crate::user::Pending;
use crate::work::{Counting, Leases, Takers};

/// The state machine. One value holds everything of a node.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    state: State,
    // All below is volatile.
    sessions: Sessions,
    timers: Timers,
    graves: Graves,
    /// Reply consumers by their address.
    replies: Map<Bytes, ConsumerKey>,
    logins: Map<u64, Pending>,
    /// Due times of delayed messages that are being read, by token.
    due_reads: Map<u64, u64>,
    next_token: u64,
    totals: Totals,
    /// When claims of jobs end.
    leases: Leases,
    /// What was done with jobs, up to now.
    done: Counting,
    /// What holds jobs together.
    bonds: Bonds,
    /// Who has which job under a worker's lease.
    takers: Takers,
    scratch: Scratch,
}

/// Buffers kept for their capacity; empty between calls.
#[derive(Debug, Default)]
struct Scratch {
    head: Vec<u8>,
    targets: Vec<QueueId>,
    slots: Vec<Slot>,
    runs: Vec<Run>,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_state(State::new(), limits)
    }

    fn with_state(state: State, limits: Limits) -> Self {
        Self {
            limits,
            state,
            sessions: Sessions::default(),
            timers: Timers::default(),
            graves: Graves::default(),
            replies: Map::default(),
            logins: Map::default(),
            due_reads: Map::default(),
            next_token: 1,
            totals: Totals::default(),
            leases: Leases::default(),
            done: Counting::default(),
            bonds: Bonds::default(),
            takers: Takers::default(),
            scratch: Scratch::default(),
        }
    }

    /// Changes the limits; things that exist already stay.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A client connected.
    pub fn open_session(&mut self, id: SessionId, info: SessionInfo) {
        self.sessions.open(id, info);
    }

    /// A client is gone: its unsettled deliveries return, its exclusive queues go away.
    pub fn close_session<L: Log>(
        &mut self,
        at: Stamp,
        id: SessionId,
        log: &mut L,
        out: &mut Effects,
    ) {
        let turn = &mut Turn { at, log, out };
        self.end_session(turn, id);
        self.settle_down(turn);
    }

    /// Handles one request. Total: a refusal is a reply.
    #[allow(clippy::too_many_arguments, reason = "the one door: who, when, what, and where to")]
    pub fn apply<L: Log>(
        &mut self,
        at: Stamp,
        from: SessionId,
        envelope: Envelope,
        log: &mut L,
        out: &mut Effects,
    ) {
        let turn = &mut Turn { at, log, out };
        self.handle(turn, from, envelope);
        self.settle_down(turn);
    }

    /// Goes on with something that waited for an answer from outside.
    pub fn resume<L: Log>(&mut self, at: Stamp, what: Resume<'_>, log: &mut L, out: &mut Effects) {
        let turn = &mut Turn { at, log, out };
        match what {
            Resume::Record { token, lsn, payload } => {
                if let Some(due) = self.due_reads.remove(&token) {
                    self.promote_due(turn, (due, lsn), payload);
                    self.read_due(turn);
                } else {
                    self.bury_read(turn, token, payload);
                }
            }
            Resume::Verified { session, token, is_ok } => {
                self.finish_login(turn, (session, token), is_ok);
            }
            Resume::Room(session) => self.give_room(session),
        }
        self.settle_down(turn);
    }

    /// The pipeline passed deliveries with so many [`Handout::bytes`] in all on to the session's
    /// own buffers. Returns whether the session was paused and has room again: then call
    /// [`Engine::resume`] with `Room`.
    pub fn taken(&mut self, session: SessionId, bytes: u64) -> bool {
        let max = u64::from(self.limits.undelivered_bytes_max);
        let Some(session) = self.sessions.get_mut(session) else { return false };
        let holdings = &mut self.state.holdings;
        session.flight.take(bytes, &mut |entry| holdings.release(entry));
        session.is_paused && session.flight.bytes() <= max / 2
    }

    /// Does what is due at `at`; nothing happens early.
    pub fn tick<L: Log>(&mut self, at: Stamp, log: &mut L, out: &mut Effects) {
        let turn = &mut Turn { at, log, out };
        self.ring(turn);
        self.end_leases(turn);
        self.expire_results(turn);
        self.read_due(turn);
        self.write_done(turn);
        self.settle_down(turn);
    }

    /// When [`Engine::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let now_if_waiting = self.graves.can_go_on().then_some(0);
        let times = [
            self.timers.next(),
            self.state.delayed.next_due(),
            now_if_waiting,
            self.leases.next(),
            self.done.due(),
            Some(self.state.results_until).filter(|until| *until != fifo::NEVER),
        ];
        times.into_iter().flatten().min().map(Millis)
    }

    /// Recovery: takes in one record of the log.
    ///
    /// # Errors
    /// When the record was not written by this engine or an older one.
    pub fn replay(&mut self, lsn: Lsn, kind: u8, payload: &[u8]) -> Result<(), Damage> {
        self.state.replay(lsn, kind, payload)
    }

    /// Recovery ends: after the last replay, before the first request. What is in the queues may
    /// have been delivered before; condemned messages are taken up again; timers are set.
    pub fn recovered(&mut self, at: Stamp) {
        self.state.woken.clear();
        self.state.news.clear();
        let mut ids: Vec<QueueId> = self.state.queues.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(queue) = self.state.queues.get_mut(&id) else { continue };
            queue.lines_mut().for_each(fifo::Fifo::mark_redelivered);
            queue.is_woken = false;
            queue.ripen(at.now.0);
            queue.used_at = at.now.0;
            self.timers.arm(queue);
        }
        self.done = Counting::begin(self.state.done.clone());
        self.recover_ties();
        self.wake_vacant(at.now.0);
        for (address, (reason, entry)) in &self.state.condemned {
            self.graves.add_condemned(*address, *reason, entry.clone());
        }
    }

    /// How much of a stretch of the log is still needed.
    #[must_use]
    pub fn usage(&self, range: Range<Lsn>) -> Usage {
        self.state.holdings.grains.sum(&range)
    }

    /// Addresses of message records in a stretch of the log that are still needed, in order.
    pub fn live(&self, range: Range<Lsn>, out: &mut Vec<Lsn>) {
        out.clear();
        for (_, line) in self.state.queues.values().flat_map(|queue| queue.lines()) {
            line.live(&range, out);
        }
        let loose = self.state.queues.values().filter_map(|queue| queue.loose());
        out.extend(loose.flat_map(|loose| loose.positions(&range)));
        let results = self.state.vhosts.iter().flatten().map(|vhost| &vhost.results);
        out.extend(results.flat_map(|results| results.positions(&range)));
        let inside = |lsn: &Lsn| range.contains(lsn);
        let channels = self.sessions.iter().flat_map(|session| session.channels.values());
        let unsettled = channels.flat_map(|channel| channel.unsettled.iter());
        out.extend(unsettled.filter_map(|slot| slot.stored.lsn()).filter(inside));
        let on_the_way = self.sessions.iter().flat_map(|session| session.flight.settled());
        out.extend(on_the_way.filter_map(|entry| entry.stored.lsn()).filter(inside));
        let condemned = self.state.condemned.values().map(|(_, entry)| entry);
        let condemned = condemned.chain(self.graves.still_queued().map(|(_, entry)| entry));
        out.extend(condemned.filter_map(|entry| entry.stored.lsn()).filter(inside));
        self.state.delayed.live(&range, out);
        out.sort_unstable();
        out.dedup();
    }

    fn take_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

/// Reads a stored message: the payload of a message record, or bytes of [`Place::Memory`].
#[must_use]
pub fn message(payload: &[u8]) -> Option<MessageRef<'_>> {
    record::Head::read(payload).map(|head| head.message)
}

/// Reads a stored result: the payload of its record.
#[must_use]
pub fn result(payload: &[u8]) -> Option<ResultRef<'_>> {
    result::result_of(payload)
}

/// Whether a record that a state refers to reads: a message, or a result.
#[must_use]
pub fn is_readable(kind: u8, payload: &[u8]) -> bool {
    match kind {
        record::MESSAGE => message(payload).is_some(),
        record::RESULT => result(payload).is_some(),
        _ => false,
    }
}

/// When a stored message was published.
#[must_use]
pub fn published(payload: &[u8]) -> Option<Millis> {
    record::Head::read(payload).map(|head| Millis(head.at))
}

#[cfg(test)]
mod tests;
