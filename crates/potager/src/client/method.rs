//! Frames and methods as a client writes and reads them: [`Frame`] appends one method frame,
//! [`content`] a message's header and body frames, [`take`] splits the next frame from input.
//!
//! Not here: when to send what (`session`). Source: AMQP 0-9-1 4.2.3 and 2.2.4.
//!
//! | offset | size | type | meaning |
//! |---|---|---|---|
//! | 0 | 1 | u8 | kind: 1 method, 2 header, 3 body, 8 heartbeat |
//! | 1 | 2 | u16 | channel |
//! | 3 | 4 | u32 | payload size `n` |
//! | 7 | n | bytes | payload |
//! | 7+n | 1 | u8 | end mark `CE` |

use bytes::{Bytes, BytesMut};
use model::table;
use wire::Cursor;

use super::Fault;

/// Bytes before and after a payload.
pub(crate) const OVERHEAD: usize = 8;
/// The end mark.
pub(crate) const END: u8 = 0xCE;

/// Numbers of the methods that this client knows: class and method. Source: AMQP 0-9-1 1.5-1.9.
pub(crate) mod id {
    /// Class and method number.
    pub(crate) type Method = (u16, u16);

    /// Frame kinds.
    pub(crate) const METHOD: u8 = 1;
    pub(crate) const HEADER: u8 = 2;
    pub(crate) const BODY: u8 = 3;

    pub(crate) const CONNECTION_START: Method = (10, 10);
    pub(crate) const CONNECTION_START_OK: Method = (10, 11);
    pub(crate) const CONNECTION_TUNE: Method = (10, 30);
    pub(crate) const CONNECTION_TUNE_OK: Method = (10, 31);
    pub(crate) const CONNECTION_OPEN: Method = (10, 40);
    pub(crate) const CONNECTION_OPEN_OK: Method = (10, 41);
    pub(crate) const CONNECTION_CLOSE: Method = (10, 50);
    pub(crate) const CONNECTION_CLOSE_OK: Method = (10, 51);
    pub(crate) const CONNECTION_BLOCKED: Method = (10, 60);
    pub(crate) const CONNECTION_UNBLOCKED: Method = (10, 61);
    pub(crate) const CHANNEL_OPEN: Method = (20, 10);
    pub(crate) const CHANNEL_OPEN_OK: Method = (20, 11);
    pub(crate) const CHANNEL_CLOSE: Method = (20, 40);
    pub(crate) const CHANNEL_CLOSE_OK: Method = (20, 41);
    pub(crate) const QUEUE_DECLARE: Method = (50, 10);
    pub(crate) const QUEUE_DECLARE_OK: Method = (50, 11);
    pub(crate) const QUEUE_DELETE: Method = (50, 40);
    pub(crate) const QUEUE_DELETE_OK: Method = (50, 41);
    pub(crate) const BASIC_QOS: Method = (60, 10);
    pub(crate) const BASIC_QOS_OK: Method = (60, 11);
    pub(crate) const BASIC_CONSUME: Method = (60, 20);
    pub(crate) const BASIC_CONSUME_OK: Method = (60, 21);
    pub(crate) const BASIC_CANCEL: Method = (60, 30);
    pub(crate) const BASIC_PUBLISH: Method = (60, 40);
    pub(crate) const BASIC_RETURN: Method = (60, 50);
    pub(crate) const BASIC_DELIVER: Method = (60, 60);
    pub(crate) const BASIC_GET: Method = (60, 70);
    pub(crate) const BASIC_GET_OK: Method = (60, 71);
    pub(crate) const BASIC_GET_EMPTY: Method = (60, 72);
    pub(crate) const BASIC_ACK: Method = (60, 80);
    pub(crate) const BASIC_NACK: Method = (60, 120);
    pub(crate) const CONFIRM_SELECT: Method = (85, 10);
    pub(crate) const CONFIRM_SELECT_OK: Method = (85, 11);
    pub(crate) const TX_SELECT: Method = (90, 10);
    pub(crate) const TX_SELECT_OK: Method = (90, 11);
    pub(crate) const TX_COMMIT: Method = (90, 20);
    pub(crate) const TX_COMMIT_OK: Method = (90, 21);
}

/// One method frame being written; ends with [`Frame::end`].
pub(crate) struct Frame<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    is_too_long: bool,
}

impl<'a> Frame<'a> {
    /// Begins a method frame at the end of `out`.
    pub(crate) fn method(out: &'a mut Vec<u8>, channel: u16, (class, method): id::Method) -> Self {
        let start = out.len();
        out.push(id::METHOD);
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        Self { out, start, is_too_long: false }.u16(class).u16(method)
    }

    /// Appends one byte, also used for a row of bits.
    pub(crate) fn u8(self, value: u8) -> Self {
        self.out.push(value);
        self
    }

    /// Appends a 16-bit number.
    pub(crate) fn u16(self, value: u16) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a 32-bit number.
    pub(crate) fn u32(self, value: u32) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a 64-bit number.
    pub(crate) fn u64(self, value: u64) -> Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a string of at most 255 bytes.
    pub(crate) fn short(mut self, text: &str) -> Self {
        match u8::try_from(text.len()) {
            Ok(length) => {
                self.out.push(length);
                self.out.extend_from_slice(text.as_bytes());
            }
            Err(_) => self.is_too_long = true,
        }
        self
    }

    /// Appends a long string or a table's content with its length.
    pub(crate) fn long(mut self, bytes: &[u8]) -> Self {
        match u32::try_from(bytes.len()) {
            Ok(length) => {
                self.out.extend_from_slice(&length.to_be_bytes());
                self.out.extend_from_slice(bytes);
            }
            Err(_) => self.is_too_long = true,
        }
        self
    }

    /// Completes the frame; a frame with an argument that does not fit is taken back.
    ///
    /// # Errors
    /// [`Fault::TooLong`].
    pub(crate) fn end(self) -> Result<(), Fault> {
        if self.is_too_long {
            self.out.truncate(self.start);
            return Err(Fault::TooLong("a name is longer than 255 bytes"));
        }
        finish(self.out, self.start)
    }
}

/// Sets the size of the frame that begins at `start` and appends the end mark.
fn finish(out: &mut Vec<u8>, start: usize) -> Result<(), Fault> {
    let too_long = Fault::TooLong("a frame is longer than 4 GiB");
    let length = out.len().checked_sub(start + OVERHEAD - 1);
    let length = length.and_then(|length| u32::try_from(length).ok());
    match (length, out.get_mut(start + 3..start + 7)) {
        (Some(length), Some(slot)) => slot.copy_from_slice(&length.to_be_bytes()),
        _ => return Err(too_long),
    }
    out.push(END);
    Ok(())
}

/// Appends the header frame and the body frames of a message. `properties` are the flags and
/// values of `model::properties`; the body is cut so that no frame is above `frame_bytes_max`.
///
/// # Errors
/// [`Fault::TooLong`] when the properties do not fit into one frame.
pub(crate) fn content(
    out: &mut Vec<u8>,
    channel: u16,
    properties: &[u8],
    body: &[u8],
    frame_bytes_max: usize,
) -> Result<(), Fault> {
    let start = out.len();
    out.push(id::HEADER);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[0, 60, 0, 0]);
    out.extend_from_slice(&(body.len() as u64).to_be_bytes());
    out.extend_from_slice(if properties.is_empty() { &[0, 0] } else { properties });
    finish(out, start)?;
    for piece in body.chunks(frame_bytes_max.saturating_sub(OVERHEAD).max(1)) {
        let start = out.len();
        out.push(id::BODY);
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(piece);
        finish(out, start)?;
    }
    Ok(())
}

/// One received frame.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) payload: Bytes,
}

/// Splits the first whole frame off `input`; `None` when it is not all there yet.
pub(super) fn take(input: &mut BytesMut) -> Result<Option<Received>, Fault> {
    let mut head = Cursor::new(input);
    let (Ok(kind), Ok(channel), Ok(size)) = (head.u8(), head.u16(), head.u32()) else {
        return Ok(None);
    };
    if kind == b'A' {
        return Err(Fault::Protocol("it wants another protocol version".to_owned()));
    }
    let size = usize::try_from(size).map_err(|_| Fault::TooLong("a frame is too large"))?;
    if size > FRAME_BYTES_MAX {
        return Err(Fault::Protocol(format!("a frame of {size} bytes")));
    }
    if input.len() < size + OVERHEAD {
        return Ok(None);
    }
    let mut frame = input.split_to(size + OVERHEAD);
    if frame.last() != Some(&END) {
        return Err(Fault::Protocol("a frame without its end mark".to_owned()));
    }
    frame.truncate(size + OVERHEAD - 1);
    let payload = frame.split_off(OVERHEAD - 1).freeze();
    Ok(Some(Received { kind, channel, payload }))
}

/// No server may send larger frames; this client asks for less.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Appends the content of a table of texts and numbers.
pub(super) fn table_of(entries: &[(&str, table::Value<'_>)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in entries {
        table::put_field(&mut content, name.as_bytes(), *value);
    }
    content
}
