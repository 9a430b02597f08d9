//! [`Buffers`]: the few large buffers of a thread, lent to connections only while they are busy,
//! so that an idle connection holds none. Called by `drive`.

use std::cell::RefCell;

use bytes::BytesMut;
use model::Envelope;

/// How much is read from a socket at once.
pub(crate) const READ_BYTES: usize = 128 * 1024;
/// Most output buffers kept for reuse.
const KEPT_MAX: usize = 16;
/// Larger buffers are given back to the allocator.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// First size of an output buffer.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Reusable buffers of one thread.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Filled by one read, emptied before the next task runs.
    input: RefCell<BytesMut>,
    /// The same for what is still encrypted.
    sealed: RefCell<BytesMut>,
    outputs: RefCell<Vec<BytesMut>>,
    requests: RefCell<Vec<Envelope>>,
}

impl Buffers {
    /// None yet; the first use allocates.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lends the input buffer, empty and with room for one read.
    pub(crate) fn take_input(&self) -> BytesMut {
        let mut input = self.input.take();
        input.reserve(READ_BYTES);
        input
    }

    /// Takes the input buffer back. What a door kept as slices of it stays valid.
    pub(crate) fn give_input(&self, mut input: BytesMut) {
        input.clear();
        self.input.replace(input);
    }

    /// Lends the buffer for encrypted input, empty and with room for one read.
    pub(crate) fn take_sealed(&self) -> BytesMut {
        let mut sealed = self.sealed.take();
        sealed.reserve(READ_BYTES);
        sealed
    }

    /// Takes the buffer for encrypted input back.
    pub(crate) fn give_sealed(&self, mut sealed: BytesMut) {
        sealed.clear();
        self.sealed.replace(sealed);
    }

    /// Makes sure `output` has a buffer.
    pub(crate) fn lend_output(&self, output: &mut BytesMut) {
        if output.capacity() == 0 {
            *output = self
                .outputs
                .borrow_mut()
                .pop()
                .unwrap_or_else(|| BytesMut::with_capacity(OUTPUT_BYTES));
        }
    }

    /// Takes the buffer of an empty `output` back.
    pub(crate) fn take_back_output(&self, output: &mut BytesMut) {
        if output.capacity() == 0 || !output.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(output);
        let mut outputs = self.outputs.borrow_mut();
        buffer.clear();
        if outputs.len() < KEPT_MAX && buffer.capacity() <= KEPT_BYTES_MAX {
            outputs.push(buffer);
        }
    }

    /// Lends room for the requests of one read.
    pub(crate) fn lend_requests(&self, requests: &mut Vec<Envelope>) {
        if requests.capacity() == 0 {
            *requests = self.requests.take();
        }
    }

    /// Takes the room of an empty list back.
    pub(crate) fn take_back_requests(&self, requests: &mut Vec<Envelope>) {
        if requests.is_empty() && requests.capacity() > 0 {
            self.requests.replace(std::mem::take(requests));
        }
    }

    /// Frees everything that is not lent; called when a server has gone idle.
    pub fn shrink(&self) {
        self.outputs.borrow_mut().clear();
        self.requests.take();
        self.input.take();
        self.sealed.take();
    }
}
