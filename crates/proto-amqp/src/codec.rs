//! Bytes <-> frames, in both directions. Which methods there are is `table`; what they mean is
//! `connection`. Called by `connection` for every byte that comes in and by clients (bench, demo).
//!
//! Layout of every frame. Source: AMQP 0-9-1 2.3.5 and 4.2.3.
//!
//! | offset | size | type | meaning |
//! |---|---|---|---|
//! | 0 | 1 | u8 | 1 method, 2 content header, 3 content body, 8 heartbeat |
//! | 1 | 2 | u16 | channel; 0 is the connection itself |
//! | 3 | 4 | u32 | size of the payload, at most frame-max minus 8 |
//! | 7 | size | bytes | payload |
//! | 7 + size | 1 | u8 | always 0xCE |
//!
//! Payload of a content header: `u16` class, `u16` weight (0), `u64` body size, then the property
//! list of `model::properties`.

#![deny(clippy::arithmetic_side_effects)]

use bytes::{BufMut, BytesMut};

/// A method frame.
pub const METHOD: u8 = 1;
/// A content header frame.
pub const HEADER: u8 = 2;
/// A content body frame.
pub const BODY: u8 = 3;
/// A heartbeat frame.
pub const HEARTBEAT: u8 = 8;
/// Closes every frame.
pub const FRAME_END: u8 = 0xCE;
/// Bytes of a frame around its payload.
pub const FRAME_OVERHEAD: usize = 8;
/// Bytes of a frame before its payload.
pub const FRAME_HEAD: usize = 7;
/// What a client sends first, and what a server answers to anything else.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// The smallest frame-max that may be negotiated. Source: AMQP 0-9-1 1.4.2.6.2.
pub const FRAME_MIN: u32 = 4096;
/// Fixed part of a content header's payload.
pub const CONTENT_HEAD: usize = 12;

/// The first seven bytes of a frame that has arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// [`METHOD`], [`HEADER`], [`BODY`], [`HEARTBEAT`] or something unknown.
    pub kind: u8,
    /// Channel number.
    pub channel: u16,
    /// Bytes of payload.
    pub size: usize,
}

impl Head {
    /// Bytes of the whole frame.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.size.saturating_add(FRAME_OVERHEAD)
    }

    /// The payload of the frame that stands at the front of `input`.
    #[must_use]
    pub fn payload<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        let end = self.size.saturating_add(FRAME_HEAD);
        input.get(FRAME_HEAD..end).unwrap_or_default()
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced payload is larger than allowed.
    #[error("frame of type {kind} on channel {channel} announces {size} bytes, limit is {max}")]
    TooLarge {
        /// Frame type.
        kind: u8,
        /// Channel number.
        channel: u16,
        /// Announced payload bytes.
        size: u32,
        /// Largest payload allowed.
        max: u32,
    },
    /// The last byte is not [`FRAME_END`].
    #[error("frame of type {kind} on channel {channel} ends with {marker:#04x} instead of 0xce")]
    End {
        /// Frame type.
        kind: u8,
        /// Channel number.
        channel: u16,
        /// Payload bytes.
        size: u32,
        /// What stood there.
        marker: u8,
    },
}

impl FrameError {
    /// Announced payload bytes.
    #[must_use]
    pub const fn size(&self) -> u32 {
        match self {
            Self::TooLarge { size, .. } | Self::End { size, .. } => *size,
        }
    }
}

/// Looks at the frame at the front of `input`; `None` while it has not arrived whole. Looks at
/// eight bytes only, so asking again costs nothing.
///
/// # Errors
/// When it can never become a frame; `frame_max` counts the whole frame.
pub fn peek(input: &[u8], frame_max: u32) -> Result<Option<Head>, FrameError> {
    let Some(&[kind, c0, c1, s0, s1, s2, s3]) = input.first_chunk::<FRAME_HEAD>() else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    let max = frame_max.saturating_sub(8);
    if size > max {
        return Err(FrameError::TooLarge { kind, channel, size, max });
    }
    let head = Head { kind, channel, size: size as usize };
    match input.get(head.size.saturating_add(FRAME_HEAD)) {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some(head)),
        Some(&marker) => Err(FrameError::End { kind, channel, size, marker }),
    }
}

/// A content header's payload, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// Class the content belongs to; always 60 (basic).
    pub class: u16,
    /// Always 0.
    pub weight: u16,
    /// Bytes of body that follow.
    pub body_size: u64,
    /// The property list, unchecked.
    pub properties: &'a [u8],
}

/// Reads a content header's payload; `None` when it is too short.
#[must_use]
pub fn content_header(payload: &[u8]) -> Option<ContentHeader<'_>> {
    let (&[c0, c1, w0, w1, size @ ..], properties) = payload.split_first_chunk::<CONTENT_HEAD>()?;
    Some(ContentHeader {
        class: u16::from_be_bytes([c0, c1]),
        weight: u16::from_be_bytes([w0, w1]),
        body_size: u64::from_be_bytes(size),
        properties,
    })
}

/// Appends one frame; `fill` writes the payload.
pub fn put_frame(out: &mut BytesMut, kind: u8, channel: u16, fill: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    let [c0, c1] = channel.to_be_bytes();
    out.put_slice(&[kind, c0, c1, 0, 0, 0, 0]);
    fill(out);
    let size = out.len().saturating_sub(start).saturating_sub(FRAME_HEAD);
    let size = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(field) = out.get_mut(start.saturating_add(3)..start.saturating_add(FRAME_HEAD)) {
        field.copy_from_slice(&size);
    }
    out.put_u8(FRAME_END);
}

/// Appends a heartbeat frame.
pub fn put_heartbeat(out: &mut BytesMut) {
    out.put_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Appends a string with one length byte; cut at 255 bytes.
pub fn put_short(out: &mut BytesMut, text: &[u8]) {
    let text = text.get(..255).unwrap_or(text);
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text);
}

/// Appends the content header and body frames of a message of class basic. An empty property
/// list becomes the two bytes that say so.
pub fn put_content(
    out: &mut BytesMut,
    channel: u16,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
) {
    let properties = if properties.is_empty() { &[0, 0][..] } else { properties };
    let size = properties.len().saturating_add(CONTENT_HEAD);
    let [h0, h1, h2, h3, h4, h5, h6] = frame_head(HEADER, channel, size);
    let [b0, b1, b2, b3, b4, b5, b6, b7] = (body.len() as u64).to_be_bytes();
    let head: [u8; FRAME_HEAD + CONTENT_HEAD] =
        [h0, h1, h2, h3, h4, h5, h6, 0, 60, 0, 0, b0, b1, b2, b3, b4, b5, b6, b7];
    out.extend_from_slice(&head);
    out.extend_from_slice(properties);
    let most = (frame_max as usize).saturating_sub(FRAME_OVERHEAD).max(1);
    // Each end of a frame goes out together with the head of the next.
    for piece in body.chunks(most) {
        let [h0, h1, h2, h3, h4, h5, h6] = frame_head(BODY, channel, piece.len());
        out.extend_from_slice(&[FRAME_END, h0, h1, h2, h3, h4, h5, h6]);
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(&[FRAME_END]);
}

/// The seven bytes before a payload.
fn frame_head(kind: u8, channel: u16, size: usize) -> [u8; FRAME_HEAD] {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    [kind, c0, c1, s0, s1, s2, s3]
}
