//! How jobs hang together: groups that others wait for, keys of which only so many jobs are claimed
//! at a time, idempotency keys. A tied job stands outside the lines of its queue and is ready only
//! while nothing holds it. Groups and concurrency keys are of a virtual host, idempotency keys of a
//! queue.
//!
//! Durable: what each job was tied to (in its own record), and idempotency keys that outlive their
//! job. Everything here follows from that and from who has what; it is built anew at recovery.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{JobId, JobState, Log, Lsn, QueueId, Ties, VhostId};

use crate::Engine;
use crate::channel::Turn;
use crate::fifo::{put_varint, take_varint};
use crate::loose::Loose;
use crate::map::Map;
use crate::queue::Queue;
use crate::record;

/// What happened to a tied job of a queue, to be followed up at the end of the turn.
#[derive(Debug)]
pub(crate) enum Change {
    /// It came in.
    Came(Lsn),
    /// It would be ready if nothing held it.
    Wants(Lsn),
    /// It is delayed or buried now.
    Idles(Lsn),
    /// It is done with.
    Gone(Lsn, Box<Ties>),
}

/// A job by its queue and position.
type Place = (QueueId, Lsn);

/// Groups and concurrency keys of all virtual hosts. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Bonds {
    groups: Map<(VhostId, Bytes), Group>,
    lanes: Map<(VhostId, Bytes), Lane>,
}

#[derive(Debug, Default)]
struct Group {
    /// Jobs that are not done.
    live: u64,
    waiting: BTreeSet<Place>,
}

/// The jobs of one concurrency key.
#[derive(Debug, Default)]
struct Lane {
    /// Ready or claimed.
    inside: BTreeMap<Place, u32>,
    /// Rank, then age.
    waiting: BTreeSet<(u32, Lsn, QueueId)>,
}

impl Lane {
    fn forget(&mut self, place: Place) {
        self.inside.remove(&place);
        self.waiting.retain(|(_, lsn, queue)| (*queue, *lsn) != place);
    }
}

/// Idempotency keys of a queue.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Of jobs that are not done. Volatile.
    live: Map<Bytes, Lsn>,
    /// Of jobs that are: until when (ms since 1970), and which job.
    kept: BTreeMap<Bytes, (u64, Lsn)>,
}

impl Keys {
    /// The job that has a key.
    pub(crate) fn holder(&self, key: &[u8], now: u64) -> Option<JobId> {
        let kept = self.kept.get(key).filter(|(until, _)| *until > now).map(|(_, lsn)| lsn);
        self.live.get(key).or(kept).copied().map(JobId::from)
    }

    /// Whether a key outlives its job.
    pub(crate) fn is_kept(&self, now: u64) -> bool {
        self.kept.values().any(|(until, _)| *until > now)
    }

    /// When the last of them is forgotten; 0 when there is none.
    pub(crate) fn last_kept(&self) -> u64 {
        self.kept.values().map(|(until, _)| *until).max().unwrap_or(0)
    }

    /// Keeps a key; those whose time is over by `keep.at` are dropped.
    pub(crate) fn keep(&mut self, keep: &Keep) {
        self.kept.retain(|_, (until, _)| *until > keep.at);
        self.kept.insert(keep.key.clone(), (keep.until, keep.lsn));
    }

    /// All that are kept, by key: key, until, job.
    pub(crate) fn all_kept(&self) -> impl ExactSizeIterator<Item = (&Bytes, u64, Lsn)> {
        self.kept.iter().map(|(key, (until, lsn))| (key, *until, *lsn))
    }

    /// As it was (from a snapshot).
    pub(crate) fn put_kept(&mut self, key: Bytes, until: u64, lsn: Lsn) {
        self.kept.insert(key, (until, lsn));
    }

    fn forget_live(&mut self) {
        self.live.clear();
    }
}

/// An idempotency key outlives its job.
///
/// | size | type | meaning |
/// |---|---|---|
/// | 4 | u32 | `QueueId` |
/// | 1-10 each | varint | now, until (ms since 1970), position of the job |
/// | .. | text | the key |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub queue: QueueId,
    pub at: u64,
    pub until: u64,
    pub lsn: Lsn,
    pub key: Bytes,
}

impl Keep {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_le_bytes());
        for number in [self.at, self.until, self.lsn.0] {
            put_varint(out, number);
        }
        record::put_text(out, &self.key);
    }

    pub(crate) fn read(mut rest: &[u8]) -> Option<Self> {
        let rest = &mut rest;
        let keep = Self {
            queue: QueueId(record::take_u32(rest)?),
            at: take_varint(rest)?,
            until: take_varint(rest)?,
            lsn: Lsn(take_varint(rest)?),
            key: record::take_text(rest)?,
        };
        rest.is_empty().then_some(keep)
    }
}

/// `u8` bit 0 idempotency key, 1 group, 2 after group, 3 concurrency key; then what is there, in
/// this order: key and seconds as varint, group, group, key and number as varint.
pub(crate) fn put_ties(out: &mut Vec<u8>, ties: &Ties) {
    let flags = [
        ties.idempotency.is_some(),
        ties.group.is_some(),
        ties.after_group.is_some(),
        ties.concurrency.is_some(),
    ];
    out.push(flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
    if let Some(key) = &ties.idempotency {
        record::put_text(out, key);
        put_varint(out, u64::from(ties.idempotency_s));
    }
    for group in [&ties.group, &ties.after_group].into_iter().flatten() {
        record::put_text(out, group);
    }
    if let Some((key, most)) = &ties.concurrency {
        record::put_text(out, key);
        put_varint(out, u64::from(*most));
    }
}

/// Reads what [`put_ties`] wrote.
pub(crate) fn take_ties(rest: &mut &[u8]) -> Option<Ties> {
    let flags = record::take_u8(rest)?;
    let mut ties = Ties::default();
    if flags & 1 != 0 {
        ties.idempotency = Some(record::take_text(rest)?);
        ties.idempotency_s = u32::try_from(take_varint(rest)?).ok()?;
    }
    if flags & 2 != 0 {
        ties.group = Some(record::take_text(rest)?);
    }
    if flags & 4 != 0 {
        ties.after_group = Some(record::take_text(rest)?);
    }
    if flags & 8 != 0 {
        let key = record::take_text(rest)?;
        ties.concurrency = Some((key, u32::try_from(take_varint(rest)?).ok()?));
    }
    (flags < 16).then_some(ties)
}

/// Whether a job with these ties may have to wait for others.
pub(crate) const fn may_be_held(ties: &Ties) -> bool {
    ties.after_group.is_some() || ties.concurrency.is_some()
}

impl Engine {
    /// Follows up what happened to the tied jobs of a queue.
    pub(crate) fn follow_ties<L: Log>(&mut self, turn: &mut Turn<'_, L>, id: QueueId) {
        loop {
            let Some(queue) = self.state.queues.get_mut(&id) else { return };
            let vhost = queue.vhost;
            let changes = queue.take_changes();
            if changes.is_empty() {
                return;
            }
            for change in changes {
                match change {
                    Change::Came(lsn) => self.tie(vhost, (id, lsn)),
                    Change::Wants(lsn) => {
                        self.leave_lane(vhost, (id, lsn));
                        self.let_in(vhost, (id, lsn));
                    }
                    Change::Idles(lsn) => self.leave_lane(vhost, (id, lsn)),
                    Change::Gone(lsn, ties) => self.untie(turn, vhost, ((id, lsn), &ties)),
                }
            }
        }
    }

    fn ties_of(&self, (queue, lsn): Place) -> Option<Ties> {
        let job = self.state.queues.get(&queue)?.loose()?.get(lsn)?;
        job.ties.as_deref().cloned()
    }

    fn tie(&mut self, vhost: VhostId, place: Place) {
        let Some(ties) = self.ties_of(place) else { return };
        if let Some(group) = ties.group {
            self.bonds.groups.entry((vhost, group)).or_default().live += 1;
        }
        if let (Some(key), Some(queue)) = (ties.idempotency, self.state.queues.get_mut(&place.0)) {
            queue.keys.get_or_insert_default().live.insert(key, place.1);
        }
    }

    /// Makes a job ready, or has it wait for what holds it.
    fn let_in(&mut self, vhost: VhostId, place: Place) {
        let Some(ties) = self.ties_of(place) else { return };
        if let Some(after) = ties.after_group.filter(|after| Some(after) != ties.group.as_ref())
            && let Some(group) = self.bonds.groups.get_mut(&(vhost, after))
            && group.live > 0
        {
            group.waiting.insert(place);
            return;
        }
        let Some((key, most)) = ties.concurrency else {
            self.admit(place);
            return;
        };
        let Some(rank) = self.rank_of_job(place) else { return };
        let lane = self.bonds.lanes.entry((vhost, key)).or_default();
        if lane.inside.len() < most as usize {
            lane.inside.insert(place, rank);
            self.admit(place);
            return;
        }
        // Somebody less urgent who has not been claimed yet gives way.
        let queues = &self.state.queues;
        let gives_way = lane.inside.iter().filter(|((queue, lsn), other)| {
            let job = queues.get(queue).and_then(|queue| queue.loose()?.get(*lsn));
            (**other, *lsn) > (rank, place.1)
                && job.is_some_and(|job| job.state() == JobState::Ready)
        });
        let last = gives_way.max_by_key(|((_, lsn), other)| (**other, *lsn));
        let Some((last, other)) = last.map(|(place, rank)| (*place, *rank)) else {
            lane.waiting.insert((rank, place.1, place.0));
            return;
        };
        lane.inside.remove(&last);
        lane.inside.insert(place, rank);
        lane.waiting.insert((other, last.1, last.0));
        if let Some(queue) = self.state.queues.get_mut(&last.0) {
            queue.hold(last.1);
        }
        self.admit(place);
    }

    fn rank_of_job(&self, (queue, lsn): Place) -> Option<u32> {
        self.state.queues.get(&queue)?.loose()?.get(lsn).map(|job| job.rank)
    }

    fn admit(&mut self, (queue, lsn): Place) {
        if let Some(queue) = self.state.queues.get_mut(&queue) {
            queue.admit(lsn);
        }
        self.state.wake(queue);
    }

    /// A job is neither ready nor claimed any more: the next of its key may be.
    fn leave_lane(&mut self, vhost: VhostId, place: Place) {
        let key = self.ties_of(place).and_then(|ties| ties.concurrency);
        if let Some((key, most)) = key {
            self.move_lane(vhost, place, (key, most));
        }
    }

    fn move_lane(&mut self, vhost: VhostId, place: Place, (key, most): (Bytes, u32)) {
        let Some(lane) = self.bonds.lanes.get_mut(&(vhost, key.clone())) else { return };
        lane.forget(place);
        let mut next = Vec::new();
        while lane.inside.len() < most as usize
            && let Some((rank, lsn, queue)) = lane.waiting.pop_first()
        {
            lane.inside.insert((queue, lsn), rank);
            next.push((queue, lsn));
        }
        if lane.inside.is_empty() {
            self.bonds.lanes.remove(&(vhost, key));
        }
        for place in next {
            self.admit(place);
        }
    }

    fn untie<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        vhost: VhostId,
        (place, ties): (Place, &Ties),
    ) {
        if let Some(concurrency) = ties.concurrency.clone() {
            self.move_lane(vhost, place, concurrency);
        }
        if let Some(after) = &ties.after_group
            && let Some(group) = self.bonds.groups.get_mut(&(vhost, after.clone()))
        {
            group.waiting.remove(&place);
        }
        if let Some(key) = &ties.idempotency {
            self.release_key(turn, place, (key, ties.idempotency_s));
        }
        if let Some(name) = &ties.group {
            self.leave_group(vhost, name);
        }
    }

    /// A job of a group is done; after the last one those that wait go on.
    fn leave_group(&mut self, vhost: VhostId, name: &Bytes) {
        let Some(group) = self.bonds.groups.get_mut(&(vhost, name.clone())) else { return };
        group.live = group.live.saturating_sub(1);
        if group.live > 0 {
            return;
        }
        let waiting = std::mem::take(&mut group.waiting);
        self.bonds.groups.remove(&(vhost, name.clone()));
        for place in waiting {
            self.let_in(vhost, place);
        }
    }

    fn release_key<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (id, lsn): Place,
        (key, seconds): (&Bytes, u32),
    ) {
        let Some(queue) = self.state.queues.get_mut(&id) else { return };
        let keys = queue.keys.get_or_insert_default();
        if keys.live.get(key) == Some(&lsn) {
            keys.live.remove(key);
        }
        if seconds == 0 {
            return;
        }
        let at = turn.at.now.0;
        let until = at.saturating_add(u64::from(seconds) * 1000);
        let keep = Keep { queue: id, at, until, lsn, key: key.clone() };
        let mut bytes = Vec::new();
        keep.put(&mut bytes);
        record::append(turn.log, record::KEY_KEPT, &bytes);
        keys.keep(&keep);
        queue.changed = turn.log.next_lsn();
        self.timers.arm(queue);
    }

    /// A queue is gone with its jobs: nobody waits for them, and they wait for nobody.
    pub(crate) fn forget_ties(&mut self, queue: &Queue) {
        let all = queue.loose().into_iter().flat_map(Loose::all);
        for job in all.filter(|job| job.ties.is_some()) {
            let (Some(ties), Some(lsn)) = (&job.ties, job.entry.stored.lsn()) else { continue };
            let place = (queue.id, lsn);
            if let Some(concurrency) = ties.concurrency.clone() {
                self.move_lane(queue.vhost, place, concurrency);
            }
            if let Some(after) = &ties.after_group
                && let Some(group) = self.bonds.groups.get_mut(&(queue.vhost, after.clone()))
            {
                group.waiting.remove(&place);
            }
            if let Some(name) = &ties.group {
                self.leave_group(queue.vhost, name);
            }
        }
    }

    /// After recovery: ties everything anew.
    pub(crate) fn recover_ties(&mut self) {
        self.bonds = Bonds::default();
        let mut ids: Vec<QueueId> = self.state.queues.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(queue) = self.state.queues.get_mut(&id) else { continue };
            if let Some(keys) = &mut queue.keys {
                keys.forget_live();
            }
            if queue.begin_ties() {
                self.state.wake(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_kept_keys_read_back() {
        let all = Ties {
            idempotency: Some("key".into()),
            idempotency_s: 60,
            group: Some("group".into()),
            after_group: Some("other".into()),
            concurrency: Some(("lane".into(), 3)),
        };
        for ties in [all.clone(), Ties { group: None, ..all }, Ties::default()] {
            let mut bytes = Vec::new();
            put_ties(&mut bytes, &ties);
            let mut rest = &bytes[..];
            assert_eq!(take_ties(&mut rest), Some(ties));
            assert!(rest.is_empty());
        }
        let keep = Keep { queue: QueueId(3), at: 7, until: 9, lsn: Lsn(11), key: "k".into() };
        let mut bytes = Vec::new();
        keep.put(&mut bytes);
        assert_eq!(Keep::read(&bytes), Some(keep));
    }
}
