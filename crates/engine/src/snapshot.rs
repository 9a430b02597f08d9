//! The durable state written out and read back, and its hash. A snapshot shares sealed chunks with
//! the engine, so taking one copies only definitions and open tails; writing it happens elsewhere.
//!
//! | part | content |
//! |---|---|
//! | start | `PTGS`, version `u16` (3; 1 and 2 are read), next `QueueId` u32 |
//! | vhosts | next id, count, each: id u16, name |
//! | users | count, each: name, hash, tags, u8 1 when unrestricted (not in version 1: all are) |
//! | permissions | count, each: user, vhost u16, configure, write, read (not in version 1) |
//! | topic permissions | count, each: user, vhost u16, exchange, write, read (not in version 1) |
//! | queues | count, each: id u32, vhost u16, name, spec, lines (see `Writer::queue`) |
//! | routing | per vhost: exchanges (count, name, spec), bindings (count, binding) |
//! | delayed | count, each: due, LSN, body, head |
//! | condemned | count, each: `QueueId` u32, level u8, seq, reason u8, entry |
//! | work done | see [`crate::work::Done`] (from version 3 on) |
//! | results | per vhost, see `put_results` (from version 4 on) |
//! | end | `END.` |
//!
//! Counts and numbers without a type are varints; `u16`/`u32` little endian; names are texts as in
//! [`crate::record`].

mod read;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use model::{Lsn, QueueId};

use crate::Engine;
use crate::fifo::{Chunk, Entry, Frozen, NEVER, put_varint};
use crate::loose::{self, Job, Loose, Tally};
use crate::perform::State;
use crate::queue::Queue;
use crate::record;
use crate::ties::put_ties;

const MAGIC: &[u8; 4] = b"PTGS";
const VERSION: u16 = 4;
/// Without results and attempts; read, no longer written.
const VERSION_WITHOUT_RESULTS: u16 = 3;
/// Without jobs; read, no longer written.
const VERSION_WITHOUT_JOBS: u16 = 2;
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
            put_varint(out, line.gone.runs().len() as u64);
            for (first, count) in line.gone.runs() {
                put_varint(out, first);
                put_varint(out, count);
            }
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
        let mut bytes = Vec::new();
        put_varint(&mut bytes, line.next_seq);
        put_varint(&mut bytes, line.count());
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
        self.state.done.put(&mut writer.open);
        put_results(&mut writer.open, &self.state);
        writer.open.extend_from_slice(END);
        writer.parts.push(Part::Own(writer.open));
        let delayed = self.state.delayed.sorted().into_iter().map(|(_, lsn, _)| lsn);
        let condemned = self.state.condemned.values();
        let condemned = condemned.filter_map(|(_, entry)| entry.stored.lsn());
        let all = Lsn::ZERO..Lsn(u64::MAX);
        let queues = self.state.queues.values().filter_map(|queue| queue.loose());
        let loose = queues.flat_map(|loose| loose.positions(&all));
        let results = self.state.vhosts.iter().flatten().map(|vhost| &vhost.results);
        let results = results.flat_map(|results| results.positions(&all));
        let held = delayed.chain(condemned).chain(loose).chain(results).collect();
        Snapshot { parts: writer.parts, held }
    }

    /// [`Snapshot::hash`] of the durable state as it is now.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.snapshot().hash()
    }

    /// Entries that are with consumers or on their way to the dead-letter exchange.
    fn outside(&self) -> Outside {
        let mut outside = Outside::new();
        let channels = self.sessions.iter().flat_map(|session| session.channels.values());
        let in_line = |seq: u64| loose::position(seq).is_none();
        let slots = channels.flat_map(|channel| channel.unsettled.iter());
        for slot in slots.filter(|slot| in_line(slot.seq)) {
            let line = outside.entry((slot.queue, slot.level)).or_default();
            line.push((slot.seq, slot.entry()));
        }
        let graves = self.graves.still_queued();
        for ((queue, level, seq), entry) in graves.filter(|((_, _, seq), _)| in_line(*seq)) {
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
    /// After the spec: messages that ever came in; the place of the next burial; count of kept
    /// keys, each: key, until, job; count of jobs outside the lines, each as [`put_job`] says;
    /// count of lines, each: level u8, rank, line.
    ///
    /// A line is stored as: next seq, cursor seq; count of runs of entries that are gone, each:
    /// first seq, count; count of chunks, each: entries u16, first seq, length, bytes; count of
    /// extra entries, each: seq, entry. Before version 3 there were only lines, without ranks and
    /// without what is gone.
    fn queue(&mut self, queue: &Queue, outside: &mut Outside) {
        let out = &mut self.open;
        out.extend_from_slice(&queue.id.0.to_le_bytes());
        out.extend_from_slice(&queue.vhost.0.to_le_bytes());
        record::put_text(out, &queue.name);
        record::put_queue_spec(out, &queue.spec);
        put_varint(out, queue.total);
        put_varint(out, queue.next_burial());
        put_varint(out, queue.keys.as_ref().map_or(0, |keys| keys.all_kept().len()) as u64);
        for (key, until, lsn) in queue.keys.iter().flat_map(|keys| keys.all_kept()) {
            record::put_text(out, key);
            put_varint(out, until);
            put_varint(out, lsn.0);
        }
        put_varint(out, queue.loose().map_or(0, |loose| loose.all().len()) as u64);
        for job in queue.loose().into_iter().flat_map(Loose::all) {
            put_job(out, job);
        }
        put_varint(out, queue.ranks().len() as u64);
        for ((level, line), (_, rank)) in queue.lines().zip(queue.ranks()) {
            self.open.push(level);
            put_varint(&mut self.open, u64::from(rank));
            let mut frozen = line.freeze();
            for (seq, entry) in outside.remove(&(queue.id, level)).unwrap_or_default() {
                frozen.add(seq, entry);
            }
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

/// Entry; rank, due, delay; burial plus one (0 when not buried); timeouts, releases, buries, kicks,
/// failures (from version 4 on); u8, bit 0: ties follow, bit 1: then attempts follow.
fn put_job(out: &mut Vec<u8>, job: &Job) {
    put_entry(out, &job.entry);
    let Tally { timeouts, releases, buries, kicks, failures } = job.tally;
    let burial = job.burial.map_or(0, |burial| burial + 1);
    for number in [u64::from(job.rank), job.due, u64::from(job.delay_s), burial] {
        put_varint(out, number);
    }
    for number in [timeouts, releases, buries, kicks, failures] {
        put_varint(out, u64::from(number));
    }
    out.push(u8::from(job.ties.is_some()) | u8::from(job.past.is_some()) << 1);
    if let Some(ties) = &job.ties {
        put_ties(out, ties);
    }
    if let Some(past) = &job.past {
        past.put(out);
    }
}

/// LSN, expiry plus one (0 for never), body, head, returns; seconds of a claim (from version 3 on).
fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_varint(out, entry.stored.lsn().unwrap_or(Lsn::ZERO).0);
    put_varint(out, entry.expires.wrapping_add(1));
    put_varint(out, u64::from(entry.body));
    put_varint(out, u64::from(entry.head));
    put_varint(out, u64::from(entry.returns));
    put_varint(out, u64::from(entry.lease_s));
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

/// Last revision, gap; count, each: key, LSN, record bytes, when it was stored, expiry plus one (0
/// for never); count of remembered deletions, each: revision, key.
fn put_results(out: &mut Vec<u8>, state: &State) {
    for vhost in state.vhosts.iter().flatten() {
        let results = &vhost.results;
        put_varint(out, results.last.0);
        put_varint(out, results.gap().0);
        put_varint(out, results.len() as u64);
        for (key, kept) in results.all() {
            record::put_text(out, key);
            for number in [kept.lsn.0, u64::from(kept.bytes), kept.at, kept.expires.wrapping_add(1)]
            {
                put_varint(out, number);
            }
        }
        put_varint(out, results.all_gone().len() as u64);
        for (revision, key) in results.all_gone() {
            put_varint(out, revision.0);
            record::put_text(out, key);
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

const _: () = assert!(NEVER.wrapping_add(1) == 0, "never is coded as zero, see `put_entry`");
