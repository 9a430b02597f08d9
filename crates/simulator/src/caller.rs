//! [`Caller`]: the client's end of a connection to the workers' door: lines and patience. Not here:
//! what a client wants (`roles`), the other end (`hatch`).

use bytes::{Buf, BytesMut};

use crate::fact::Micros;
use crate::io::Io;
use crate::link::Over;
use crate::plan::SECOND;
use crate::roles::Role;

/// A client that has heard nothing for so long gives up.
const PATIENCE: Micros = 20 * SECOND;
/// It has said goodbye and waits so long for the server to close.
const FAREWELL: Micros = 3 * SECOND;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    input: BytesMut,
    pub(crate) out: BytesMut,
    last_heard: Micros,
    left_at: Option<Micros>,
    /// The last answer that was a no, for the trace.
    pub(crate) last_words: String,
}

impl Caller {
    pub(crate) fn new(now: Micros) -> Self {
        Self { last_heard: now, ..Self::default() }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.left_at.is_some()
    }

    /// Says goodbye; false when it has already.
    pub(crate) fn close(&mut self, now: Micros) -> bool {
        let is_open = self.left_at.is_none();
        if is_open {
            self.left_at = Some(now);
            self.out.extend_from_slice(b"bye\n");
        }
        is_open
    }

    /// Bytes came.
    pub(crate) fn on_bytes(
        &mut self,
        bytes: &BytesMut,
        role: &mut dyn Role,
        io: &mut Io<'_>,
    ) -> Result<(), Over> {
        self.last_heard = io.now;
        self.input.extend_from_slice(bytes);
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line = self.input.split_to(end);
            self.input.advance(1);
            let line = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<&str> = line.split(' ').collect();
            let [number, words @ ..] = words.as_slice() else { return Err(Over::Nonsense) };
            if words == ["no"] {
                self.last_words.clone_from(&line);
            }
            let number = number.parse().map_err(|_| Over::Nonsense)?;
            role.on_words(io, number, words);
        }
        Ok(())
    }

    /// When [`Caller::on_time`] wants to be called.
    pub(crate) fn deadline(&self) -> Micros {
        let left = self.left_at.map(|at| at + FAREWELL);
        left.unwrap_or(Micros::MAX).min(self.last_heard + PATIENCE)
    }

    /// Gives the server up, or what it still had to say.
    pub(crate) fn on_time(&mut self, now: Micros) -> Result<(), Over> {
        if self.left_at.is_some_and(|at| now >= at + FAREWELL) {
            return Err(Over::Goodbye);
        }
        if now >= self.deadline() { Err(Over::Silence) } else { Ok(()) }
    }
}
