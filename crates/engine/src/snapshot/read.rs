//! Reading a snapshot back; the layout stands in [`super`]. Never panics, whatever the bytes are.

use bytes::Bytes;
use model::{Limits, Lsn, QueueId, VhostId};

use super::{END, MAGIC, OLD_VERSION, VERSION, VERSION_WITHOUT_JOBS, VERSION_WITHOUT_RESULTS};
use crate::Engine;
use crate::dead_letter::Reason;
use crate::delayed::Held;
use crate::effects::Damage;
use crate::fifo::{Chunk, Entry, Fifo, Frozen, Gone, Stored, take_varint};
use crate::loose::{Job, Tally};
use crate::perform::{State, take_row};
use crate::queue::rank_of;
use crate::record;
use crate::result::Kept;
use crate::ties::take_ties;
use crate::user::User;
use crate::work::{Done, Past};

impl Engine {
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
        let known = [OLD_VERSION, VERSION_WITHOUT_JOBS, VERSION_WITHOUT_RESULTS, VERSION];
        let version = record::take_u16(&mut rest).filter(|it| known.contains(it));
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
        read_queue(rest, version, &mut state)?;
    }
    state.next_queue = next_queue;
    for vhost in &vhosts {
        let vhost = *vhost;
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
        let entry = take_entry(rest, version)?;
        state.holdings.grains.add(entry.stored.lsn()?, entry.record_bytes());
        state.condemned.insert(address, (reason, entry));
    }
    if version >= VERSION_WITHOUT_RESULTS {
        state.done = Done::take(rest)?;
    }
    if version == VERSION {
        // In the order of their ids, as they were written.
        let mut vhosts = vhosts;
        vhosts.sort_unstable();
        vhosts.into_iter().try_for_each(|vhost| read_results(rest, &mut state, vhost))?;
    }
    Some(state)
}

fn read_results(rest: &mut &[u8], state: &mut State, vhost: VhostId) -> Option<()> {
    let (last, gap) = (Lsn(take_varint(rest)?), Lsn(take_varint(rest)?));
    for _ in 0..take_varint(rest)? {
        let key = record::take_text(rest)?;
        let kept = Kept {
            lsn: Lsn(take_varint(rest)?),
            bytes: take_number(rest)?,
            at: take_varint(rest)?,
            expires: take_varint(rest)?.wrapping_sub(1),
        };
        state.keep_result(vhost, key, kept);
    }
    let results = &mut state.vhost_mut(vhost)?.results;
    for _ in 0..take_varint(rest)? {
        let revision = Lsn(take_varint(rest)?);
        results.put_gone(revision, record::take_text(rest)?);
    }
    results.set_ends(last, gap);
    Some(())
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

fn read_queue(rest: &mut &[u8], version: u16, state: &mut State) -> Option<()> {
    let id = QueueId(record::take_u32(rest)?);
    let vhost = VhostId(record::take_u16(rest)?);
    let name = record::take_text(rest)?;
    if !state.is_new_queue(id, vhost, &name) {
        return None;
    }
    state.put_queue(id, vhost, name, record::take_queue_spec(rest)?);
    if version >= VERSION_WITHOUT_RESULTS {
        read_jobs(rest, version, (state, id))?;
    }
    for _ in 0..take_varint(rest)? {
        let level = record::take_u8(rest)?;
        let rank =
            if version >= VERSION_WITHOUT_RESULTS { take_number(rest)? } else { rank_of(level) };
        let line = Fifo::thaw(read_line(rest, version)?)?;
        let grains = &mut state.holdings.grains;
        line.for_each(&mut |_, entry| {
            if let Some(lsn) = entry.stored.lsn() {
                grains.add(lsn, entry.record_bytes());
            }
        });
        state.queues.get_mut(&id)?.install((level, rank), line);
    }
    Some(())
}

fn read_jobs(rest: &mut &[u8], version: u16, (state, id): (&mut State, QueueId)) -> Option<()> {
    let total = take_varint(rest)?;
    let next_burial = take_varint(rest)?;
    for _ in 0..take_varint(rest)? {
        let key = record::take_text(rest)?;
        let (until, lsn) = (take_varint(rest)?, Lsn(take_varint(rest)?));
        state.queues.get_mut(&id)?.keys.get_or_insert_default().put_kept(key, until, lsn);
    }
    for _ in 0..take_varint(rest)? {
        let job = take_job(rest, version)?;
        state.holdings.grains.add(job.entry.stored.lsn()?, job.entry.record_bytes());
        state.queues.get_mut(&id)?.put_loose(job);
    }
    let queue = state.queues.get_mut(&id)?;
    queue.total = total;
    queue.set_next_burial(next_burial);
    Some(())
}

fn take_job(rest: &mut &[u8], version: u16) -> Option<Job> {
    let entry = take_entry(rest, VERSION)?;
    let (rank, due, delay_s) = (take_number(rest)?, take_varint(rest)?, take_number(rest)?);
    let mut job = Job::new(entry, rank, due, delay_s);
    job.burial = take_varint(rest)?.checked_sub(1);
    job.tally = Tally {
        timeouts: take_number(rest)?,
        releases: take_number(rest)?,
        buries: take_number(rest)?,
        kicks: take_number(rest)?,
        failures: if version == VERSION { take_number(rest)? } else { 0 },
    };
    let follows = record::take_u8(rest)?;
    if follows & 1 != 0 {
        job.ties = Some(Box::new(take_ties(rest)?));
    }
    if follows & 2 != 0 {
        job.past = Some(Box::new(Past::take(rest)?));
    }
    Some(job)
}

fn read_line(rest: &mut &[u8], version: u16) -> Option<Frozen> {
    let next_seq = take_varint(rest)?;
    let cursor_seq = take_varint(rest)?;
    let mut gone = Vec::new();
    if version >= VERSION_WITHOUT_RESULTS {
        for _ in 0..take_varint(rest)? {
            gone.push((take_varint(rest)?, take_varint(rest)?));
        }
    }
    let gone = Gone::from_runs(&gone)?;
    let is_outside =
        |(first, count): (u64, u64)| first < cursor_seq || first.saturating_add(count) > next_seq;
    if gone.runs().any(is_outside) {
        return None;
    }
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
        extras.push((seq, take_entry(rest, version)?));
    }
    Some(Frozen { chunks, next_seq, cursor_seq, gone, extras })
}

fn take_entry(rest: &mut &[u8], version: u16) -> Option<Entry> {
    Some(Entry {
        stored: Stored::Log(Lsn(take_varint(rest)?)),
        expires: take_varint(rest)?.wrapping_sub(1),
        body: take_number(rest)?,
        head: take_number(rest)?,
        returns: take_number(rest)?,
        lease_s: if version >= VERSION_WITHOUT_RESULTS { take_number(rest)? } else { 0 },
    })
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(rest)?).ok()
}
