//! The durable state written out and read back, and its hash. A snapshot shares sealed chunks with
//! the engine, so taking one copies only definitions and open tails; writing it happens elsewhere.
//!
//! | part | content |
//! |---|---|
//! | start | `PTGS`, version `u16` (2; 1 is read), next `QueueId` u32 |
//! | vhosts | next id, count, each: id u16, name |
//! | users | count, each: name, hash, tags, u8 1 when unrestricted (not in version 1: all are) |
//! | permissions | count, each: user, vhost u16, configure, write, read (not in version 1) |
//! | topic permissions | count, each: user, vhost u16, exchange, write, read (not in version 1) |
//! | queues | count, each: id u32, vhost u16, name, spec, lines (see `Writer::queue`) |
//! | routing | per vhost: exchanges (count, name, spec), bindings (count, binding) |
//! | delayed | count, each: due, LSN, body, head |
//! | condemned | count, each: `QueueId` u32, level u8, seq, reason u8, entry |
//! | end | `END.` |
//!
//! Counts and numbers without a type are varints; `u16`/`u32` little endian; names are texts as in
//! [`crate::record`].

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use model::{Limits, Lsn, QueueId, VhostId};

use crate::Engine;
use crate::dead_letter::Reason;
use crate::delayed::Held;
use crate::effects::Damage;
use crate::fifo::{Chunk, Entry, Fifo, Frozen, NEVER, Stored, put_varint, take_varint};
use crate::perform::{State, take_row};
use crate::queue::Queue;
use crate::record;
use crate::user::User;

const MAGIC: &[u8; 4] = b"PTGS";
const VERSION: u16 = 2;
/// Without permissions; read, no longer written.
const OLD_VERSION: u16 = 1;
/// The layout of a snapshot, and so of what its hash is made of.
pub const STATE_VERSION: u16 = VERSION;
const END: &[u8; 4] = b"END.";

/// The durable state of an engine at one moment, ready to be written, hashed and searched on
/// another thread, as often as wanted.
#[derive(Debug)]
pub struct Snapshot {
    parts: Vec<Part>,
    /// Records of delayed and condemned messages; those of queues are found in their lines.
    held: Vec<Lsn>,
}

#[derive(Debug)]
enum Part {
    /// Bytes as they are stored.
    Own(Vec<u8>),
    /// A line of a queue; its extra entries in order.
    Line(Frozen),
}

impl Snapshot {
    /// Writes the snapshot and returns its hash.
    ///
    /// # Errors
    /// As the writer says.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<u64> {
        let mut piece = Vec::new();
        let mut at = Cursor::default();
        while self.write_next(&mut at, &mut piece) {
            out.write_all(&piece)?;
            piece.clear();
        }
        Ok(at.hash())
    }

    /// Appends the next piece of the snapshot: definitions, or one chunk of entries. `false` when
    /// everything was written. All pieces in order are what [`Snapshot::write`] writes.
    pub fn write_next(&self, at: &mut Cursor, out: &mut Vec<u8>) -> bool {
        let Some(part) = self.parts.get(at.part) else { return false };
        let line = match part {
            Part::Own(bytes) => {
                out.extend_from_slice(bytes);
                at.hash.add(bytes);
                at.part += 1;
                return true;
            }
            Part::Line(line) => line,
        };
        if at.chunk == 0 {
            put_varint(out, line.next_seq);
            put_varint(out, line.cursor_seq);
            put_varint(out, line.chunks.len() as u64);
            at.hash.add_line(line);
        }
        if let Some(chunk) = line.chunks.get(at.chunk) {
            out.extend_from_slice(&chunk.count.to_le_bytes());
            put_varint(out, chunk.first_seq);
            put_varint(out, chunk.bytes.len() as u64);
            out.extend_from_slice(&chunk.bytes);
            at.hash.add_chunk(line, chunk);
            at.chunk += 1;
        } else {
            put_entries(out, &line.extras);
            (at.part, at.chunk) = (at.part + 1, 0);
        }
        true
    }

    /// A hash of the state: equal states, equal hashes, whichever way they came about. Reads
    /// everything; comparable only between hashes of one [`STATE_VERSION`].
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        for part in &self.parts {
            match part {
                Part::Own(bytes) => hash.add(bytes),
                Part::Line(line) => {
                    hash.add_line(line);
                    line.chunks.iter().for_each(|chunk| hash.add_chunk(line, chunk));
                }
            }
        }
        hash.0
    }

    /// Appends the positions of all message records in this range that the state refers to,
    /// rising and without repeats.
    pub fn live(&self, range: &Range<Lsn>, out: &mut Vec<Lsn>) {
        let start = out.len();
        for part in &self.parts {
            let Part::Line(line) = part else { continue };
            line.live(range, out);
        }
        out.extend(self.held.iter().filter(|lsn| range.contains(lsn)));
        let mut found = out.split_off(start);
        found.sort_unstable();
        found.dedup();
        out.append(&mut found);
    }
}

/// How far [`Snapshot::write_next`] came, and the hash of what it wrote.
#[derive(Debug, Default)]
pub struct Cursor {
    part: usize,
    /// Chunks written of a line.
    chunk: usize,
    hash: Fnv,
}

impl Cursor {
    /// At the end of a snapshot: [`Snapshot::hash`].
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash.0
    }
}

/// FNV-1a: simple enough to mean the same in every version.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3));
    }

    /// A line counts entry by entry, whatever its chunks: next seq, count, each: seq, entry.
    fn add_line(&mut self, line: &Frozen) {
        let fresh = line.next_seq.saturating_sub(line.cursor_seq);
        let mut bytes = Vec::new();
        put_varint(&mut bytes, line.next_seq);
        put_varint(&mut bytes, fresh.saturating_add(line.extras.len() as u64));
        for (seq, entry) in &line.extras {
            put_varint(&mut bytes, *seq);
            put_entry(&mut bytes, entry);
        }
        self.add(&bytes);
    }

    fn add_chunk(&mut self, line: &Frozen, chunk: &Chunk) {
        let mut bytes = Vec::new();
        line.visit_chunk(chunk, &mut |seq, entry| {
            put_varint(&mut bytes, seq);
            put_entry(&mut bytes, entry);
        });
        self.add(&bytes);
    }
}

/// Entries of a line that are out of it for now but still belong to the queue.
type Outside = BTreeMap<(QueueId, u8), Vec<(u64, Entry)>>;

impl Engine {
    /// The durable state as it is now; cheap, writing it is not.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut writer = Writer { parts: Vec::new(), open: MAGIC.to_vec() };
        let out = &mut writer.open;
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.state.next_queue.to_le_bytes());
        put_access(out, &self.state);
        let mut outside = self.outside();
        let mut queues: Vec<&Queue> = self.state.queues.values().map(|queue| &**queue).collect();
        queues.retain(|queue| !queue.id.is_volatile());
        queues.sort_unstable_by_key(|queue| queue.id);
        put_varint(out, queues.len() as u64);
        for queue in queues {
            writer.queue(queue, &mut outside);
        }
        put_routing(&mut writer.open, &self.state);
        put_held(&mut writer.open, &self.state);
        writer.open.extend_from_slice(END);
        writer.parts.push(Part::Own(writer.open));
        let delayed = self.state.delayed.sorted().into_iter().map(|(_, lsn, _)| lsn);
        let condemned = self.state.condemned.values();
        let condemned = condemned.filter_map(|(_, entry)| entry.stored.lsn());
        Snapshot { parts: writer.parts, held: delayed.chain(condemned).collect() }
    }

    /// [`Snapshot::hash`] of the durable state as it is now.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.snapshot().hash()
    }

    /// Reads a snapshot back.
    ///
    /// # Errors
    /// When the bytes are not a whole snapshot of this engine or an older one.
    pub fn restore(bytes: &[u8], limits: Limits) -> Result<Self, Damage> {
        let mut rest = bytes;
        let magic = record::take_slice(&mut rest, MAGIC.len());
        if magic != Some(MAGIC) {
            return Err(Damage::Snapshot("it does not begin like one"));
        }
        let version = record::take_u16(&mut rest).filter(|it| [OLD_VERSION, VERSION].contains(it));
        let Some(version) = version else {
            return Err(Damage::Snapshot("it is of a version this release does not know"));
        };
        let state =
            read_state(&mut rest, version).ok_or(Damage::Snapshot("it is cut or malformed"))?;
        if rest != END {
            return Err(Damage::Snapshot("it does not end where it should"));
        }
        Ok(Self::with_state(state, limits))
    }

    /// Entries that are with consumers or on their way to the dead-letter exchange.
    fn outside(&self) -> Outside {
        let mut outside = Outside::new();
        let channels = self.sessions.iter().flat_map(|session| session.channels.values());
        for slot in channels.flat_map(|channel| channel.unsettled.iter()) {
            let line = outside.entry((slot.queue, slot.level)).or_default();
            line.push((slot.seq, slot.entry()));
        }
        for ((queue, level, seq), entry) in self.graves.still_queued() {
            outside.entry((queue, level)).or_default().push((seq, entry.clone()));
        }
        outside
    }
}

struct Writer {
    parts: Vec<Part>,
    open: Vec<u8>,
}

impl Writer {
    /// A line is stored as: next seq, cursor seq; count of chunks, each: entries u16, first seq,
    /// length, bytes; count of extra entries, each: seq, entry.
    fn queue(&mut self, queue: &Queue, outside: &mut Outside) {
        let out = &mut self.open;
        out.extend_from_slice(&queue.id.0.to_le_bytes());
        out.extend_from_slice(&queue.vhost.0.to_le_bytes());
        record::put_text(out, &queue.name);
        record::put_queue_spec(out, &queue.spec);
        let lines: Vec<_> = queue.lines().collect();
        put_varint(out, lines.len() as u64);
        for (level, line) in lines {
            self.open.push(level);
            let mut frozen = line.freeze();
            frozen.extras.extend(outside.remove(&(queue.id, level)).unwrap_or_default());
            frozen.extras.sort_unstable_by_key(|(seq, _)| *seq);
            self.parts.push(Part::Own(std::mem::take(&mut self.open)));
            self.parts.push(Part::Line(frozen));
        }
    }
}

fn put_entries(out: &mut Vec<u8>, entries: &[(u64, Entry)]) {
    put_varint(out, entries.len() as u64);
    for (seq, entry) in entries {
        put_varint(out, *seq);
        put_entry(out, entry);
    }
}

/// LSN, expiry plus one (0 for never), body, head, returns.
fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_varint(out, entry.stored.lsn().unwrap_or(Lsn::ZERO).0);
    put_varint(out, entry.expires.wrapping_add(1));
    put_varint(out, u64::from(entry.body));
    put_varint(out, u64::from(entry.head));
    put_varint(out, u64::from(entry.returns));
}

fn take_entry(rest: &mut &[u8]) -> Option<Entry> {
    Some(Entry {
        stored: Stored::Log(Lsn(take_varint(rest)?)),
        expires: take_varint(rest)?.wrapping_sub(1),
        body: take_number(rest)?,
        head: take_number(rest)?,
        returns: take_number(rest)?,
    })
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(rest)?).ok()
}

fn put_access(out: &mut Vec<u8>, state: &State) {
    put_varint(out, state.vhosts.len() as u64);
    put_varint(out, state.vhost_ids.len() as u64);
    let mut vhosts: Vec<_> = state.vhost_ids.iter().map(|(name, id)| (*id, name)).collect();
    vhosts.sort_unstable();
    for (id, name) in vhosts {
        out.extend_from_slice(&id.0.to_le_bytes());
        record::put_text(out, name);
    }
    put_varint(out, state.users.len() as u64);
    for (name, user) in &state.users {
        for text in [name, &user.hash, &user.tags] {
            record::put_text(out, text);
        }
        out.push(u8::from(user.is_unrestricted));
    }
    put_varint(out, state.rights.rows().len() as u64);
    for (user, vhost, row) in state.rights.rows() {
        record::put_text(out, user);
        out.extend_from_slice(&vhost.0.to_le_bytes());
        for text in [&row.configure, &row.write, &row.read] {
            record::put_text(out, text);
        }
    }
    put_varint(out, state.rights.topic_rows().len() as u64);
    for (user, vhost, exchange, row) in state.rights.topic_rows() {
        record::put_text(out, user);
        out.extend_from_slice(&vhost.0.to_le_bytes());
        for text in [exchange, &row.write, &row.read] {
            record::put_text(out, text);
        }
    }
}

fn put_routing(out: &mut Vec<u8>, state: &State) {
    for vhost in state.vhosts.iter().flatten() {
        let exchanges: Vec<_> = vhost.router.durable_exchanges().collect();
        put_varint(out, exchanges.len() as u64);
        for exchange in exchanges {
            record::put_text(out, exchange.name());
            record::put_exchange_spec(out, exchange.spec());
        }
        let bindings: Vec<_> = vhost.router.durable_bindings().collect();
        put_varint(out, bindings.len() as u64);
        for binding in bindings {
            record::put_binding(out, binding);
        }
    }
}

fn put_held(out: &mut Vec<u8>, state: &State) {
    let delayed = state.delayed.sorted();
    put_varint(out, delayed.len() as u64);
    for (due, lsn, held) in delayed {
        for number in [due, lsn.0, u64::from(held.body), u64::from(held.head)] {
            put_varint(out, number);
        }
    }
    put_varint(out, state.condemned.len() as u64);
    for ((queue, level, seq), (reason, entry)) in &state.condemned {
        out.extend_from_slice(&queue.0.to_le_bytes());
        out.push(*level);
        put_varint(out, *seq);
        out.push(*reason as u8);
        put_entry(out, entry);
    }
}

fn read_state(rest: &mut &[u8], version: u16) -> Option<State> {
    let mut state = State::new();
    let next_queue = record::take_u32(rest)?;
    let next_vhost = u16::try_from(take_varint(rest)?).ok()?;
    let mut vhosts = Vec::new();
    for _ in 0..take_varint(rest)? {
        let id = VhostId(record::take_u16(rest)?);
        vhosts.push(id);
        state.put_vhost(id, record::take_text(rest)?);
    }
    if !vhosts.contains(&VhostId(0)) {
        state.delete_vhost(VhostId(0));
    }
    state.vhosts.resize_with(usize::from(next_vhost).max(state.vhosts.len()), || None);
    read_access(rest, version, &mut state)?;
    for _ in 0..take_varint(rest)? {
        read_queue(rest, &mut state)?;
    }
    state.next_queue = next_queue;
    for vhost in vhosts {
        for _ in 0..take_varint(rest)? {
            let name = record::take_text(rest)?;
            state.put_exchange(vhost, &name, record::take_exchange_spec(rest)?);
        }
        for _ in 0..take_varint(rest)? {
            state.bind(vhost, &record::take_binding(rest)?)?;
        }
    }
    for _ in 0..take_varint(rest)? {
        let (due, lsn) = (take_varint(rest)?, Lsn(take_varint(rest)?));
        let held = Held { body: take_number(rest)?, head: take_number(rest)? };
        state.holdings.grains.add(lsn, held.record_bytes());
        state.delayed.insert(due, lsn, held);
    }
    for _ in 0..take_varint(rest)? {
        let address =
            (QueueId(record::take_u32(rest)?), record::take_u8(rest)?, take_varint(rest)?);
        let reason = Reason::from_number(record::take_u8(rest)?)?;
        let entry = take_entry(rest)?;
        state.holdings.grains.add(entry.stored.lsn()?, entry.record_bytes());
        state.condemned.insert(address, (reason, entry));
    }
    Some(state)
}

fn read_access(rest: &mut &[u8], version: u16, state: &mut State) -> Option<()> {
    for _ in 0..take_varint(rest)? {
        let name: Bytes = record::take_text(rest)?;
        let (hash, tags) = (record::take_text(rest)?, record::take_text(rest)?);
        let is_unrestricted = version == OLD_VERSION || record::take_u8(rest)? != 0;
        state.users.insert(name, User { hash, tags, is_unrestricted });
    }
    if version == OLD_VERSION {
        return Some(());
    }
    for _ in 0..take_varint(rest)? {
        let user = record::take_text(rest)?;
        let vhost = VhostId(record::take_u16(rest)?);
        state.rights.set(user, vhost, take_row(rest)?);
    }
    for _ in 0..take_varint(rest)? {
        let user = record::take_text(rest)?;
        let vhost = VhostId(record::take_u16(rest)?);
        let exchange = record::take_text(rest)?;
        let row = state.take_topic_row(&user, vhost, rest)?;
        state.rights.set_topic((user, vhost, exchange), row);
    }
    Some(())
}

fn read_queue(rest: &mut &[u8], state: &mut State) -> Option<()> {
    let id = QueueId(record::take_u32(rest)?);
    let vhost = VhostId(record::take_u16(rest)?);
    let name = record::take_text(rest)?;
    if !state.is_new_queue(id, vhost, &name) {
        return None;
    }
    state.put_queue(id, vhost, name, record::take_queue_spec(rest)?);
    for _ in 0..take_varint(rest)? {
        let level = record::take_u8(rest)?;
        let line = Fifo::thaw(read_line(rest)?)?;
        let grains = &mut state.holdings.grains;
        line.for_each(&mut |_, entry| {
            if let Some(lsn) = entry.stored.lsn() {
                grains.add(lsn, entry.record_bytes());
            }
        });
        state.queues.get_mut(&id)?.install(level, line);
    }
    Some(())
}

fn read_line(rest: &mut &[u8]) -> Option<Frozen> {
    let next_seq = take_varint(rest)?;
    let cursor_seq = take_varint(rest)?;
    let mut chunks: Vec<Chunk> = Vec::new();
    for _ in 0..take_varint(rest)? {
        let count = record::take_u16(rest)?;
        let first_seq = take_varint(rest)?;
        let length = usize::try_from(take_varint(rest)?).ok()?;
        let chunk = Chunk::read(record::take_slice(rest, length)?, count, first_seq)?;
        let follows = |last: &Chunk| last.first_seq + u64::from(last.count) == first_seq;
        if !chunks.last().is_none_or(follows) {
            return None;
        }
        chunks.push(chunk);
    }
    let end = chunks.last().map_or(cursor_seq, |last| last.first_seq + u64::from(last.count));
    if end != next_seq || cursor_seq > next_seq {
        return None;
    }
    let mut extras = Vec::new();
    for _ in 0..take_varint(rest)? {
        let seq = take_varint(rest)?;
        if seq >= cursor_seq {
            return None;
        }
        extras.push((seq, take_entry(rest)?));
    }
    Some(Frozen { chunks, next_seq, cursor_seq, extras })
}

const _: () = assert!(NEVER.wrapping_add(1) == 0, "never is coded as zero, see `put_entry`");
