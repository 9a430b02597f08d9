//! The persisted layouts of the engine's records: bytes out, bytes in. What a record does to the
//! state is `perform.rs`. A layout never changes; a new shape gets a new kind number.
//!
//! Numbers are little endian; `text` is a varint length and that many bytes.
//!
//! | kind | name | payload |
//! |---|---|---|
//! | 1 | message | see [`Head`] |
//! | 2 | settle | runs, see [`Run`] |
//! | 3 | return | runs: each entry came back unsettled once more |
//! | 4 | condemn | reason `u8`, then runs: to be dead-lettered, not in the queue any more |
//! | 5 | promote | see [`Promote`] |
//! | 6 | shift | see [`crate::loose::Shift`] |
//! | 7 | work done | see [`crate::work::Done`] |
//! | 8 | key kept | see [`crate::ties::Keep`] |
//! | 9 | attempt ended | see [`crate::work::Past`] |
//! | 10 | result | see [`crate::result::ResultHead`] |
//! | 11 | result gone | see [`crate::result::GoneHead`] |
//! | 16 | queue declared | `QueueId` u32, `VhostId` u16, name, spec ([`put_queue_spec`]) |
//! | 17 | queue deleted | `QueueId` u32 |
//! | 18 | exchange declared | `VhostId` u16, name, spec ([`put_exchange_spec`]) |
//! | 19 | exchange deleted | `VhostId` u16, name |
//! | 20 | bound | `VhostId` u16, binding ([`put_binding`]) |
//! | 21 | unbound | as bound |
//! | 22 | queue kept | `QueueId` u32, spec: made by a door for its jobs, declared since |
//! | 32 | vhost made | `VhostId` u16, name |
//! | 33 | vhost deleted | `VhostId` u16 |
//! | 34 | user put, before there were permissions: may do everything | name, password hash, tags |
//! | 35 | user deleted | name |
//! | 36 | user put | name, password hash, tags |
//! | 37 | permission set | user, `VhostId` u16, configure, write, read |
//! | 38 | permission cleared | user, `VhostId` u16 |
//! | 39 | topic permission set | user, `VhostId` u16, exchange, write, read |
//! | 40 | topic permission cleared | user, `VhostId` u16, u8 0 for all exchanges, exchange |

mod spec;

use bytes::Bytes;
use model::{Log, Lsn, MessageRef, Permission, QueueId, Record, Ties, VhostId};

use crate::fifo::{put_varint, take_varint};
use crate::ties::take_ties;
use crate::work::seconds_from;
pub(crate) use spec::{
    put_binding, put_exchange_spec, put_queue_spec, take_binding, take_exchange_spec,
    take_queue_spec,
};

pub(crate) const MESSAGE: u8 = 1;
pub(crate) const SETTLE: u8 = 2;
pub(crate) const RETURN: u8 = 3;
pub(crate) const CONDEMN: u8 = 4;
pub(crate) const PROMOTE: u8 = 5;
pub(crate) const SHIFT: u8 = 6;
pub(crate) const WORK_DONE: u8 = 7;
pub(crate) const KEY_KEPT: u8 = 8;
pub(crate) const ATTEMPT_ENDED: u8 = 9;
pub(crate) const RESULT: u8 = 10;
pub(crate) const RESULT_GONE: u8 = 11;
pub(crate) const QUEUE_DECLARED: u8 = 16;
pub(crate) const QUEUE_DELETED: u8 = 17;
pub(crate) const EXCHANGE_DECLARED: u8 = 18;
pub(crate) const EXCHANGE_DELETED: u8 = 19;
pub(crate) const BOUND: u8 = 20;
pub(crate) const UNBOUND: u8 = 21;
pub(crate) const QUEUE_KEPT: u8 = 22;
pub(crate) const VHOST_PUT: u8 = 32;
pub(crate) const VHOST_DELETED: u8 = 33;
/// Read, no longer written.
pub(crate) const OLD_USER_PUT: u8 = 34;
pub(crate) const USER_DELETED: u8 = 35;
pub(crate) const USER_PUT: u8 = 36;
pub(crate) const PERMISSION_SET: u8 = 37;
pub(crate) const PERMISSION_CLEARED: u8 = 38;
pub(crate) const TOPIC_PERMISSION_SET: u8 = 39;
pub(crate) const TOPIC_PERMISSION_CLEARED: u8 = 40;

const HAS_TTL: u8 = 1;
const HAS_DUE: u8 = 2;
const HAS_KEYS: u8 = 4;
const HAS_JOB: u8 = 8;
const HAS_TIES: u8 = 16;
/// Bytes of a message's head that are always there.
const FIXED: usize = 24;

/// A message record, also the layout of messages in memory.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 1 | u8 | what follows: bit 0 time to live, 1 due time, 2 extra keys, 3 job, 4 ties |
/// | 1 | 1 | u8 | priority |
/// | 2 | 2 | u16 | `VhostId` |
/// | 4 | 1 | u8 | length of the exchange name |
/// | 5 | 1 | u8 | length of the routing key |
/// | 6 | 2 | u16 | zero |
/// | 8 | 4 | u32 | length of the property list |
/// | 12 | 4 | u32 | number of target queues |
/// | 16 | 8 | u64 | publish time, ms since 1970 |
/// | 24 | 8 if bit 0 | u64 | time to live in ms |
/// | .. | 8 if bit 1 | u64 | due time of a delayed message, ms since 1970 |
/// | .. | 12 if bit 3 | 3 u32 | rank, seconds that a claim lasts, delay in seconds |
/// | .. | 4 + n if bit 4 | u32, bytes | what it is tied to, see [`crate::ties::put_ties`] |
/// | .. | 4 each | u32 | `QueueId` of the durable targets |
/// | .. | 4 + n if bit 2 | u32, bytes | extra routing keys, each a length byte and the key |
/// | .. | | bytes | exchange, routing key, property list, body (to the end) |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub vhost: VhostId,
    pub priority: u8,
    pub at: u64,
    pub ttl: Option<u64>,
    pub due: Option<u64>,
    /// It was put as a job.
    pub job: Option<JobHead>,
    /// As [`crate::ties::put_ties`] writes it; empty for none.
    pub ties: &'a [u8],
    /// Four bytes each.
    pub targets: &'a [u8],
    /// Length byte and key, repeated.
    pub extra_keys: &'a [u8],
    pub message: MessageRef<'a>,
}

/// What a message that was put as a job was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobHead {
    pub rank: u32,
    pub lease_s: u32,
    pub delay_s: u32,
}

impl JobHead {
    /// When it becomes ready, ms since 1970; 0 is at once.
    pub(crate) fn due(&self, at: u64) -> u64 {
        if self.delay_s == 0 { 0 } else { seconds_from(at, self.delay_s) }
    }
}

impl<'a> Head<'a> {
    /// Reads a message record.
    pub(crate) fn read(payload: &'a [u8]) -> Option<Self> {
        let (fixed, mut rest) = payload.split_first_chunk::<FIXED>()?;
        let [flags, priority, v0, v1, exchange, key, _, _, lengths @ ..] = *fixed;
        let [p0, p1, p2, p3, t0, t1, t2, t3, at @ ..] = lengths;
        let ttl = if flags & HAS_TTL == 0 { None } else { Some(take_u64(&mut rest)?) };
        let due = if flags & HAS_DUE == 0 { None } else { Some(take_u64(&mut rest)?) };
        let mut job = None;
        if flags & HAS_JOB != 0 {
            let rank = take_u32(&mut rest)?;
            let lease_s = take_u32(&mut rest)?;
            job = Some(JobHead { rank, lease_s, delay_s: take_u32(&mut rest)? });
        }
        let mut ties = &[][..];
        if flags & HAS_TIES != 0 {
            let length = take_u32(&mut rest)? as usize;
            ties = take_slice(&mut rest, length)?;
        }
        let targets = u32::from_le_bytes([t0, t1, t2, t3]) as usize;
        let targets = take_slice(&mut rest, targets.checked_mul(4)?)?;
        let mut extra_keys = &[][..];
        if flags & HAS_KEYS != 0 {
            let length = take_u32(&mut rest)? as usize;
            extra_keys = take_slice(&mut rest, length)?;
        }
        let message = MessageRef {
            exchange: take_slice(&mut rest, usize::from(exchange))?,
            routing_key: take_slice(&mut rest, usize::from(key))?,
            properties: take_slice(&mut rest, u32::from_le_bytes([p0, p1, p2, p3]) as usize)?,
            body: rest,
        };
        let vhost = VhostId(u16::from_le_bytes([v0, v1]));
        let at = u64::from_le_bytes(at);
        Some(Self { vhost, priority, at, ttl, due, job, ties, targets, extra_keys, message })
    }

    /// Starts a record in `out`: everything before the exchange name. `targets` and `extra_keys`
    /// of `self` are not used.
    pub(crate) fn begin(&self, targets: &[QueueId], extra_keys: &[Bytes], out: &mut Vec<u8>) {
        let mut flags = 0;
        flags |= if self.ttl.is_some() { HAS_TTL } else { 0 };
        flags |= if self.due.is_some() { HAS_DUE } else { 0 };
        flags |= if extra_keys.is_empty() { 0 } else { HAS_KEYS };
        flags |= if self.job.is_some() { HAS_JOB } else { 0 };
        flags |= if self.ties.is_empty() { 0 } else { HAS_TIES };
        out.clear();
        out.extend_from_slice(&[flags, self.priority]);
        out.extend_from_slice(&self.vhost.0.to_le_bytes());
        out.extend_from_slice(&[short(self.message.exchange), short(self.message.routing_key)]);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length32(self.message.properties.len()).to_le_bytes());
        out.extend_from_slice(&length32(targets.len()).to_le_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        for time in [self.ttl, self.due].into_iter().flatten() {
            out.extend_from_slice(&time.to_le_bytes());
        }
        if let Some(job) = self.job {
            for number in [job.rank, job.lease_s, job.delay_s] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        if !self.ties.is_empty() {
            out.extend_from_slice(&length32(self.ties.len()).to_le_bytes());
            out.extend_from_slice(self.ties);
        }
        for target in targets {
            out.extend_from_slice(&target.0.to_le_bytes());
        }
        if !extra_keys.is_empty() {
            let length: usize = extra_keys.iter().map(|key| key.len() + 1).sum();
            out.extend_from_slice(&length32(length).to_le_bytes());
            for key in extra_keys {
                out.push(short(key));
                out.extend_from_slice(key);
            }
        }
    }

    /// What it is tied to, if anything.
    pub(crate) fn ties(&self) -> Option<Box<Ties>> {
        let mut rest = self.ties;
        if rest.is_empty() { None } else { take_ties(&mut rest).map(Box::new) }
    }

    /// The target queues.
    pub(crate) fn target_ids(&self) -> impl Iterator<Item = QueueId> + 'a {
        self.targets.chunks_exact(4).map(queue_id)
    }
}

/// A name or key cut to what its length byte can say. Doors refuse longer ones; arguments of
/// queues may name longer keys.
pub(crate) fn short_text(text: &[u8]) -> &[u8] {
    text.get(..usize::from(u8::MAX)).unwrap_or(text)
}

/// The length byte of a name or key that was cut.
fn short(text: &[u8]) -> u8 {
    debug_assert!(u8::try_from(text.len()).is_ok(), "a name is longer than 255 bytes");
    u8::try_from(text.len()).unwrap_or(u8::MAX)
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn queue_id(bytes: &[u8]) -> QueueId {
    QueueId(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}

/// Splits the keys of [`Head::extra_keys`].
pub(crate) fn split_keys(mut rest: &[u8]) -> Vec<Bytes> {
    let mut keys = Vec::new();
    while let Some((length, tail)) = rest.split_first() {
        let Some((key, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        keys.push(Bytes::copy_from_slice(key));
        rest = tail;
    }
    keys
}

/// Entries of one line with consecutive numbers. A list of runs fills the rest of its record.
///
/// | size | type | meaning |
/// |---|---|---|
/// | 4 | u32 | `QueueId` |
/// | 1 | u8 | priority level of the line |
/// | 1-10 | varint | number of the first entry |
/// | 1-10 | varint | how many |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub queue: QueueId,
    pub level: u8,
    pub first: u64,
    pub count: u64,
}

impl Run {
    /// A single entry.
    pub(crate) const fn one(queue: QueueId, level: u8, seq: u64) -> Self {
        Self { queue, level, first: seq, count: 1 }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_le_bytes());
        out.push(self.level);
        put_varint(out, self.first);
        put_varint(out, self.count);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let queue = QueueId(take_u32(rest)?);
        let level = take_u8(rest)?;
        Some(Self { queue, level, first: take_varint(rest)?, count: take_varint(rest)? })
    }
}

/// Sorts runs and joins neighbours.
pub(crate) fn join(runs: &mut Vec<Run>) {
    if runs.len() < 2 {
        return;
    }
    runs.sort_unstable();
    runs.dedup_by(|next, run| {
        let is_next = run.queue == next.queue
            && run.level == next.level
            && run.first + run.count == next.first;
        if is_next {
            run.count += next.count;
        }
        is_next
    });
}

/// Reads runs to the end of a record.
pub(crate) fn read_runs(mut rest: &[u8]) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    while !rest.is_empty() {
        runs.push(Run::take(&mut rest)?);
    }
    Some(runs)
}

/// A delayed message goes to its queues, by reference to its record.
///
/// | size | type | meaning |
/// |---|---|---|
/// | 8 | u64 | LSN of the message record |
/// | 8 | u64 | its due time, the key under which it was held |
/// | 8 | u64 | time of the promotion, ms since 1970 |
/// | 8 | u64 | time to live in ms, all ones for none |
/// | 1 | u8 | priority |
/// | 4 each | u32 | `QueueId` of the durable targets, to the end |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Promote {
    pub lsn: Lsn,
    pub due: u64,
    pub at: u64,
    pub ttl: Option<u64>,
    pub priority: u8,
    pub targets: Vec<QueueId>,
}

impl Promote {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.lsn.0, self.due, self.at, self.ttl.unwrap_or(u64::MAX)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.priority);
        for target in &self.targets {
            out.extend_from_slice(&target.0.to_le_bytes());
        }
    }

    pub(crate) fn read(mut rest: &[u8]) -> Option<Self> {
        let lsn = Lsn(take_u64(&mut rest)?);
        let due = take_u64(&mut rest)?;
        let at = take_u64(&mut rest)?;
        let ttl = Some(take_u64(&mut rest)?).filter(|ttl| *ttl != u64::MAX);
        let priority = take_u8(&mut rest)?;
        let targets = rest.chunks_exact(4).map(queue_id).collect();
        rest.len().is_multiple_of(4).then_some(Self { lsn, due, at, ttl, priority, targets })
    }
}

/// Most runs in one record; far below what a log takes as one record.
const RUNS_MAX: usize = 64 * 1024;

/// Joins runs and appends them as records of this kind, each a group of its own: entries settle
/// and return independently of each other. Leaves the list empty.
pub(crate) fn append_runs<L: Log>(
    log: &mut L,
    kind: u8,
    runs: &mut Vec<Run>,
    buffer: &mut Vec<u8>,
) {
    join(runs);
    for some in runs.chunks(RUNS_MAX) {
        buffer.clear();
        for run in some {
            run.put(buffer);
        }
        append(log, kind, buffer);
    }
    runs.clear();
}

/// Appends one record that is a group of its own. Returns its address.
pub(crate) fn append<L: Log>(log: &mut L, kind: u8, payload: &[u8]) -> Lsn {
    log.append(Record { kind, has_more: false, parts: &[payload] })
}

/// Appends records as one atomic group.
pub(crate) fn append_group<L: Log>(log: &mut L, records: &[(u8, Vec<u8>)]) {
    for (index, (kind, payload)) in records.iter().enumerate() {
        let has_more = index + 1 < records.len();
        log.append(Record { kind: *kind, has_more, parts: &[payload] });
    }
}

/// The payload of a permission that is set.
pub(crate) fn permission(user: &[u8], vhost: VhostId, texts: &Permission) -> Vec<u8> {
    let mut bytes = whose(user, vhost);
    for text in [&texts.configure, &texts.write, &texts.read] {
        put_text(&mut bytes, text);
    }
    bytes
}

/// How every record about a permission begins.
pub(crate) fn whose(user: &[u8], vhost: VhostId) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_text(&mut bytes, user);
    bytes.extend_from_slice(&vhost.0.to_le_bytes());
    bytes
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}

pub(crate) fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

pub(crate) fn take_u8(rest: &mut &[u8]) -> Option<u8> {
    let (byte, tail) = rest.split_first()?;
    *rest = tail;
    Some(*byte)
}

pub(crate) fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u16::from_le_bytes(*bytes))
}

pub(crate) fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_le_bytes(*bytes))
}

pub(crate) fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u64::from_le_bytes(*bytes))
}

pub(crate) fn take_text(rest: &mut &[u8]) -> Option<Bytes> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    take_slice(rest, length).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests;
