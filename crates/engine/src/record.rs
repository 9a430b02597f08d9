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
//! | 16 | queue declared | `QueueId` u32, `VhostId` u16, name, spec ([`put_queue_spec`]) |
//! | 17 | queue deleted | `QueueId` u32 |
//! | 18 | exchange declared | `VhostId` u16, name, spec ([`put_exchange_spec`]) |
//! | 19 | exchange deleted | `VhostId` u16, name |
//! | 20 | bound | `VhostId` u16, binding ([`put_binding`]) |
//! | 21 | unbound | as bound |
//! | 32 | vhost made | `VhostId` u16, name |
//! | 33 | vhost deleted | `VhostId` u16 |
//! | 34 | user put | name, password hash, tags |
//! | 35 | user deleted | name |

use bytes::Bytes;
use model::{
    Binding, DestinationKind, ExchangeKind, ExchangeSpec, Log, Lsn, MessageRef, Overflow, QueueId,
    QueueKind, QueueOptions, QueueSpec, Record, VhostId,
};

use crate::fifo::{put_varint, take_varint};

pub(crate) const MESSAGE: u8 = 1;
pub(crate) const SETTLE: u8 = 2;
pub(crate) const RETURN: u8 = 3;
pub(crate) const CONDEMN: u8 = 4;
pub(crate) const PROMOTE: u8 = 5;
pub(crate) const QUEUE_DECLARED: u8 = 16;
pub(crate) const QUEUE_DELETED: u8 = 17;
pub(crate) const EXCHANGE_DECLARED: u8 = 18;
pub(crate) const EXCHANGE_DELETED: u8 = 19;
pub(crate) const BOUND: u8 = 20;
pub(crate) const UNBOUND: u8 = 21;
pub(crate) const VHOST_PUT: u8 = 32;
pub(crate) const VHOST_DELETED: u8 = 33;
pub(crate) const USER_PUT: u8 = 34;
pub(crate) const USER_DELETED: u8 = 35;

const HAS_TTL: u8 = 1;
const HAS_DUE: u8 = 2;
const HAS_KEYS: u8 = 4;
/// Bytes of a message's head that are always there.
const FIXED: usize = 24;

/// A message record, also the layout of messages in memory.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 1 | u8 | bit 0 time to live follows, bit 1 due time, bit 2 extra keys |
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
    /// Four bytes each.
    pub targets: &'a [u8],
    /// Length byte and key, repeated.
    pub extra_keys: &'a [u8],
    pub message: MessageRef<'a>,
}

impl<'a> Head<'a> {
    /// Reads a message record.
    pub(crate) fn read(payload: &'a [u8]) -> Option<Self> {
        let (fixed, mut rest) = payload.split_first_chunk::<FIXED>()?;
        let [flags, priority, v0, v1, exchange, key, _, _, lengths @ ..] = *fixed;
        let [p0, p1, p2, p3, t0, t1, t2, t3, at @ ..] = lengths;
        let ttl = if flags & HAS_TTL == 0 { None } else { Some(take_u64(&mut rest)?) };
        let due = if flags & HAS_DUE == 0 { None } else { Some(take_u64(&mut rest)?) };
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
        Some(Self { vhost, priority, at, ttl, due, targets, extra_keys, message })
    }

    /// Starts a record in `out`: everything before the exchange name. `targets` and `extra_keys`
    /// of `self` are not used.
    pub(crate) fn begin(&self, targets: &[QueueId], extra_keys: &[Bytes], out: &mut Vec<u8>) {
        let mut flags = 0;
        flags |= if self.ttl.is_some() { HAS_TTL } else { 0 };
        flags |= if self.due.is_some() { HAS_DUE } else { 0 };
        flags |= if extra_keys.is_empty() { 0 } else { HAS_KEYS };
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

    /// The target queues.
    pub(crate) fn target_ids(&self) -> impl Iterator<Item = QueueId> + 'a {
        self.targets.chunks_exact(4).map(queue_id)
    }
}

/// A name or key as its length byte; longer ones were refused at the door.
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

pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn put_optional_text(out: &mut Vec<u8>, text: Option<&Bytes>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

/// `u8` claims (bit 0 durable, 1 exclusive, 2 auto-delete, 3 quorum, 4 single active consumer),
/// `u8` overflow, `u8` highest priority, then optional varints (a claim byte, then the number):
/// message ttl, expiry, length, bytes, delivery limit; then optional texts: dead-letter exchange,
/// dead-letter routing key; then the arguments.
pub(crate) fn put_queue_spec(out: &mut Vec<u8>, spec: &QueueSpec) {
    let options = &spec.options;
    let claims = [
        spec.is_durable,
        spec.is_exclusive,
        spec.is_auto_delete,
        options.kind == QueueKind::Quorum,
        options.is_single_active_consumer,
    ];
    out.push(pack(&claims));
    out.push(match options.overflow {
        Overflow::DropHead => 0,
        Overflow::RejectPublish => 1,
        Overflow::RejectPublishDeadLetter => 2,
    });
    out.push(options.priority_max);
    let numbers = [
        options.message_ttl_ms,
        options.expires_ms,
        options.length_max,
        options.bytes_max,
        options.delivery_max.map(u64::from),
    ];
    for number in numbers {
        out.push(u8::from(number.is_some()));
        if let Some(number) = number {
            put_varint(out, number);
        }
    }
    put_optional_text(out, options.dead_letter_exchange.as_ref());
    put_optional_text(out, options.dead_letter_routing_key.as_ref());
    put_text(out, &spec.arguments);
}

pub(crate) fn take_queue_spec(rest: &mut &[u8]) -> Option<QueueSpec> {
    let claims = take_u8(rest)?;
    let overflow = match take_u8(rest)? {
        0 => Overflow::DropHead,
        1 => Overflow::RejectPublish,
        2 => Overflow::RejectPublishDeadLetter,
        _ => return None,
    };
    let options = QueueOptions {
        kind: if claims & 8 == 0 { QueueKind::Classic } else { QueueKind::Quorum },
        overflow,
        priority_max: take_u8(rest)?,
        message_ttl_ms: take_optional_number(rest)?,
        expires_ms: take_optional_number(rest)?,
        length_max: take_optional_number(rest)?,
        bytes_max: take_optional_number(rest)?,
        delivery_max: match take_optional_number(rest)? {
            Some(number) => Some(u32::try_from(number).ok()?),
            None => None,
        },
        dead_letter_exchange: take_optional_text(rest)?,
        dead_letter_routing_key: take_optional_text(rest)?,
        is_single_active_consumer: claims & 16 != 0,
    };
    Some(QueueSpec {
        is_durable: claims & 1 != 0,
        is_exclusive: claims & 2 != 0,
        is_auto_delete: claims & 4 != 0,
        options,
        arguments: take_text(rest)?,
    })
}

/// `u8` kind, `u8` claims (bit 0 durable, 1 auto-delete, 2 internal, 3 delayed), optional text:
/// alternate exchange; then the arguments.
pub(crate) fn put_exchange_spec(out: &mut Vec<u8>, spec: &ExchangeSpec) {
    out.push(match spec.kind {
        ExchangeKind::Direct => 0,
        ExchangeKind::Fanout => 1,
        ExchangeKind::Topic => 2,
        ExchangeKind::Headers => 3,
        ExchangeKind::ConsistentHash => 4,
    });
    out.push(pack(&[spec.is_durable, spec.is_auto_delete, spec.is_internal, spec.is_delayed]));
    put_optional_text(out, spec.alternate.as_ref());
    put_text(out, &spec.arguments);
}

pub(crate) fn take_exchange_spec(rest: &mut &[u8]) -> Option<ExchangeSpec> {
    let kind = match take_u8(rest)? {
        0 => ExchangeKind::Direct,
        1 => ExchangeKind::Fanout,
        2 => ExchangeKind::Topic,
        3 => ExchangeKind::Headers,
        4 => ExchangeKind::ConsistentHash,
        _ => return None,
    };
    let claims = take_u8(rest)?;
    Some(ExchangeSpec {
        kind,
        is_durable: claims & 1 != 0,
        is_auto_delete: claims & 2 != 0,
        is_internal: claims & 4 != 0,
        is_delayed: claims & 8 != 0,
        alternate: take_optional_text(rest)?,
        arguments: take_text(rest)?,
    })
}

/// `u8` 0 to a queue or 1 to an exchange, then texts: source, destination, key, arguments.
pub(crate) fn put_binding(out: &mut Vec<u8>, binding: &Binding) {
    out.push(match binding.kind {
        DestinationKind::Queue => 0,
        DestinationKind::Exchange => 1,
    });
    for text in [&binding.source, &binding.destination, &binding.routing_key, &binding.arguments] {
        put_text(out, text);
    }
}

pub(crate) fn take_binding(rest: &mut &[u8]) -> Option<Binding> {
    let kind = match take_u8(rest)? {
        0 => DestinationKind::Queue,
        1 => DestinationKind::Exchange,
        _ => return None,
    };
    Some(Binding {
        kind,
        source: take_text(rest)?,
        destination: take_text(rest)?,
        routing_key: take_text(rest)?,
        arguments: take_text(rest)?,
    })
}

fn pack(claims: &[bool]) -> u8 {
    claims.iter().rev().fold(0, |byte, claim| byte << 1 | u8::from(*claim))
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

#[allow(clippy::option_option, reason = "outer: the bytes read; inner: the value is there")]
fn take_optional_text(rest: &mut &[u8]) -> Option<Option<Bytes>> {
    match take_u8(rest)? {
        0 => Some(None),
        1 => take_text(rest).map(Some),
        _ => None,
    }
}

#[allow(clippy::option_option, reason = "outer: the bytes read; inner: the value is there")]
fn take_optional_number(rest: &mut &[u8]) -> Option<Option<u64>> {
    match take_u8(rest)? {
        0 => Some(None),
        1 => take_varint(rest).map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
