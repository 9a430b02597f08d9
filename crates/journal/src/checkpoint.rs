//! Checkpoints: the owner's state at a position, in a file of its own.
//!
//! Lives here: writing one in paced pieces, checking and reading one. Not here: what is in it (the
//! owner's) and when it is due (`upkeep.rs`). The background worker writes, `recovery.rs` reads.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4096 | file head, see `layout.rs`; written last |
//! | 4096 | n | the owner's bytes |

use std::io::{self, Read, Write};

use model::Lsn;

use crate::fault::Fault;
use crate::files::{Directory, Handle, checkpoint_name};
use crate::layout::{CHECKPOINT_MAGIC, FILE_HEAD, PAGE, decode_file_head, encode_file_head, size};

/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 256 * 1024;
/// The name while the file is written.
const WRITING: &str = "checkpoint.tmp";

/// The owner's part: streams its state into the writer.
pub type WriteState = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// What a checkpoint says about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) lsn: Lsn,
    pub(crate) incarnation: u64,
}

/// Writes a checkpoint; durable under its name when this returns. Gives the file's bytes.
pub(crate) fn write(
    dir: &Directory,
    mark: Mark,
    state: WriteState,
    pace: u64,
    rest: &mut dyn FnMut(),
) -> Result<u64, Fault> {
    let handle = dir.create(WRITING)?;
    let written = stream(&handle, mark, state, Pace { bytes: pace, rest });
    let named = written.and_then(|bytes| {
        dir.rename(&handle, &checkpoint_name(mark.lsn))?;
        Ok(bytes)
    });
    if named.is_err()
        && let Err(fault) = dir.remove(WRITING)
    {
        tracing::debug!(%fault, "an unfinished checkpoint stays until the next start");
    }
    named
}

struct Pace<'a> {
    bytes: u64,
    rest: &'a mut dyn FnMut(),
}

fn stream<'a>(
    handle: &'a Handle,
    mark: Mark,
    state: WriteState,
    pace: Pace<'a>,
) -> Result<u64, Fault> {
    let mut out = Paced {
        handle,
        buffer: Vec::with_capacity(BUFFER_BYTES),
        offset: PAGE as u64,
        crc: 0,
        unsynced: 0,
        pace,
        fault: None,
    };
    let streamed = state(&mut out).and_then(|()| out.flush());
    if let Some(fault) = out.fault.take() {
        return Err(fault);
    }
    streamed.map_err(|error| handle.fault("write", error))?;
    let (length, crc) = (out.offset - PAGE as u64, u64::from(out.crc));
    let fields = [mark.lsn.0, length, crc, mark.incarnation];
    let mut first = [0; PAGE];
    if let Some(place) = first.first_chunk_mut::<FILE_HEAD>() {
        *place = encode_file_head(CHECKPOINT_MAGIC, &fields);
    }
    handle.write(&first, 0)?;
    handle.sync()?;
    Ok(out.offset)
}

/// Collects, sums, writes and syncs in steps.
struct Paced<'a> {
    handle: &'a Handle,
    buffer: Vec<u8>,
    offset: u64,
    crc: u32,
    unsynced: u64,
    pace: Pace<'a>,
    /// The fault behind the `io::Error` that the owner saw.
    fault: Option<Fault>,
}

impl Paced<'_> {
    fn spill(&mut self) -> Result<(), Fault> {
        self.handle.write(&self.buffer, self.offset)?;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.offset += self.buffer.len() as u64;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= self.pace.bytes {
            self.handle.sync()?;
            self.unsynced = 0;
        }
        (self.pace.rest)();
        Ok(())
    }
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BUFFER_BYTES.saturating_sub(self.buffer.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spill().map_err(|fault| {
            let text = fault.to_string();
            self.fault = Some(fault);
            io::Error::other(text)
        })
    }
}

/// A checkpoint found at open, verified. Reads the owner's bytes.
#[derive(Debug)]
pub struct Checkpoint {
    handle: Handle,
    pub(crate) mark: Mark,
    offset: u64,
    end: u64,
}

impl Checkpoint {
    /// The position the state belongs to: records from there on are replayed.
    pub fn lsn(&self) -> Lsn {
        self.mark.lsn
    }

    /// Bytes the owner wrote.
    pub fn body_bytes(&self) -> u64 {
        self.end.saturating_sub(PAGE as u64)
    }

    /// Bytes on disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.end
    }

    /// The fault for a checkpoint without any log.
    pub(crate) fn orphaned(&self) -> Fault {
        self.handle.damaged(0, Lsn::ZERO, "there is a checkpoint but no log")
    }

    /// Opens and verifies every byte.
    pub(crate) fn open(dir: &Directory, lsn: Lsn) -> Result<Self, Fault> {
        let handle = dir.open(&checkpoint_name(lsn))?;
        let mut head = [0; FILE_HEAD];
        handle.read(&mut head, 0)?;
        let [found, length, crc, incarnation] = decode_file_head(CHECKPOINT_MAGIC, &head)
            .map_err(|bad| handle.bad_head(bad, Lsn::ZERO))?;
        if found != lsn.0 {
            return Err(handle.damaged(16, Lsn::ZERO, "the head names another position"));
        }
        let end = (PAGE as u64).saturating_add(length);
        let mark = Mark { lsn, incarnation };
        let mut this = Self { handle, mark, offset: PAGE as u64, end };
        if u64::from(this.sum()?) != crc {
            let at = PAGE as u64;
            return Err(this.handle.damaged(at, Lsn::ZERO, "the checkpoint does not verify"));
        }
        this.offset = PAGE as u64;
        Ok(this)
    }

    fn sum(&mut self) -> Result<u32, Fault> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut crc = 0;
        loop {
            let read = self.fill(&mut buffer)?;
            if read == 0 {
                return Ok(crc);
            }
            crc = crc32c::crc32c_append(crc, buffer.get(..read).unwrap_or_default());
        }
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, Fault> {
        let count = buf.len().min(size(self.end - self.offset));
        let read = self.handle.read(buf.get_mut(..count).unwrap_or_default(), self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Read for Checkpoint {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.fill(buf).map_err(io::Error::other)
    }
}
