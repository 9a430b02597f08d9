//! [`Segment`]: one file of the log ring, from preparation to reuse.
//!
//! Lives here: making a segment ready (allocate, fill, head, name) and turning a spent one into
//! the next. Not here: blocks, nor the order of the ring (`ring.rs`). The background worker calls
//! it; `recovery.rs` makes the very first one.

use std::sync::atomic::{AtomicU64, Ordering};

use model::Lsn;

use crate::fault::Fault;
use crate::files::{Directory, Handle, segment_name};
use crate::layout::{FILE_HEAD, PAGE, SEGMENT_MAGIC, decode_file_head, encode_file_head, size};

/// Zeros are written in pieces of this size.
const FILL_BYTES: usize = 256 * 1024;
/// The name a segment has while its head is (re)written.
const PREPARING: &str = "segment.tmp";

/// A segment file that is part of the log under its sequence number.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) handle: Handle,
    /// Place in the log; rises by one from segment to segment.
    pub(crate) sequence: u64,
    /// Mixed into every block head, so that bytes from an earlier use never verify.
    pub(crate) salt: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// End of its last block that counts. What stands behind may be written over.
    written: AtomicU64,
}

impl Segment {
    pub(crate) fn new(handle: Handle, sequence: u64, salt: u64, bytes: u64) -> Self {
        Self { handle, sequence, salt, bytes, written: AtomicU64::new(PAGE as u64) }
    }

    /// End of the last block that counts.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// A block that ends here is committed, or was found good by recovery.
    pub(crate) fn reaches(&self, end: u64) {
        self.written.fetch_max(end, Ordering::Release);
    }
}

/// What the next segment shall be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    pub(crate) bytes: u64,
    /// Zeros are written after every so many bytes a sync; `None`: no zeros are written.
    pub(crate) fill_pace: Option<u64>,
}

/// Makes a new segment, durable under its name when this returns. `rest` is called between pieces.
pub(crate) fn prepare(
    dir: &Directory,
    plan: Plan,
    rest: &mut dyn FnMut(),
) -> Result<Segment, Fault> {
    let handle = dir.create(PREPARING)?;
    let made = fill(&handle, plan, rest).and_then(|()| finish(dir, &handle, plan));
    if made.is_err() {
        abandon(dir);
    }
    made
}

fn fill(handle: &Handle, plan: Plan, rest: &mut dyn FnMut()) -> Result<(), Fault> {
    handle.allocate(plan.bytes)?;
    let Some(pace) = plan.fill_pace else { return Ok(()) };
    let zeros = vec![0; FILL_BYTES];
    let (mut at, mut unsynced) = (0_u64, 0_u64);
    while at < plan.bytes {
        let count = size(plan.bytes - at).min(FILL_BYTES);
        handle.write(zeros.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
        unsynced += count as u64;
        if unsynced >= pace {
            handle.sync()?;
            unsynced = 0;
        }
        rest();
    }
    Ok(())
}

/// Why a segment could not be turned into the next.
#[derive(Debug)]
pub(crate) struct NotRecycled {
    pub(crate) fault: Fault,
    /// The spent file still stands under its name.
    pub(crate) is_untouched: bool,
}

/// Turns a spent segment into the planned one. Old content stays; the new salt disowns it.
pub(crate) fn recycle(
    dir: &Directory,
    spent: &Segment,
    plan: Plan,
) -> Result<Segment, NotRecycled> {
    // The name goes first and durably: no file may stand under a log name with a torn head.
    let renamed = dir.rename(&spent.handle, PREPARING);
    let handle = renamed.map_err(|fault| NotRecycled { fault, is_untouched: true })?;
    handle.file.forget();
    finish(dir, &handle, plan).map_err(|fault| {
        abandon(dir);
        NotRecycled { fault, is_untouched: false }
    })
}

fn finish(dir: &Directory, handle: &Handle, plan: Plan) -> Result<Segment, Fault> {
    let head = encode_file_head(SEGMENT_MAGIC, &[plan.sequence, plan.salt, plan.bytes]);
    let mut page = [0; PAGE];
    if let Some(place) = page.first_chunk_mut::<FILE_HEAD>() {
        *place = head;
    }
    handle.write(&page, 0)?;
    handle.sync()?;
    let handle = dir.rename(handle, &segment_name(plan.sequence))?;
    Ok(Segment::new(handle, plan.sequence, plan.salt, plan.bytes))
}

/// Removes a half-made file; if that fails too, the next open does it.
fn abandon(dir: &Directory) {
    if let Err(fault) = dir.remove(PREPARING) {
        tracing::debug!(%fault, "an unfinished segment stays until the next start");
    }
}

/// Opens the segment that carries this sequence number in its name.
pub(crate) fn open(dir: &Directory, sequence: u64) -> Result<Segment, Fault> {
    let handle = dir.open(&segment_name(sequence))?;
    let mut head = [0; FILE_HEAD];
    handle.read(&mut head, 0)?;
    let [found, salt, bytes] =
        decode_file_head(SEGMENT_MAGIC, &head).map_err(|bad| handle.bad_head(bad, Lsn::ZERO))?;
    if found != sequence {
        return Err(handle.damaged(16, Lsn::ZERO, "the head names another segment"));
    }
    if handle.len()? < bytes {
        return Err(handle.damaged(16, Lsn::ZERO, "the file is shorter than its head says"));
    }
    Ok(Segment::new(handle, sequence, salt, bytes))
}
