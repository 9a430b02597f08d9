//! The generator's reading side: [`Scanner`] visits whole frames in a large buffer without
//! copying or decoding them, [`Tracker`] turns confirms into ranges of publish numbers.
//!
//! Not here: sockets' life (`publisher`, `consumer`). A load generator that decodes everything
//! measures itself; this one touches about 30 bytes of each kibibyte.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context, bail};
use wire::Cursor;

use proto_amqp::codec::METHOD;

/// Room for a few hundred messages of 1 KiB, and for the largest frame that we agree to.
const BUFFER_BYTES: usize = 512 << 10;
/// Bytes before a payload.
const HEAD_BYTES: usize = 7;

/// Reads a socket in large pieces and visits the frames in them.
pub(super) struct Scanner {
    buffer: Vec<u8>,
    /// End of the bytes received; whatever is not a whole frame yet starts at 0.
    filled: usize,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    /// Reads once; returns how many bytes came, 0 when a time limit of the socket passed.
    pub(super) fn fill(&mut self, mut stream: impl Read) -> anyhow::Result<usize> {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        match stream.read(room) {
            Ok(0) => bail!("the server closed the socket"),
            Ok(length) => {
                self.filled += length;
                Ok(length)
            }
            Err(error) if is_no_news(&error) => Ok(0),
            Err(error) => Err(error).context("reading from the server"),
        }
    }

    /// Visits kind and payload of each whole frame received, then keeps what is left over.
    pub(super) fn visit(&mut self, mut each: impl FnMut(u8, &[u8])) -> anyhow::Result<()> {
        let received = self.buffer.get(..self.filled).unwrap_or_default();
        let mut rest = received;
        while let Some((head, tail)) = rest.split_first_chunk::<HEAD_BYTES>() {
            let [kind, _, _, a, b, c, d] = *head;
            let size = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
            if size > BUFFER_BYTES - HEAD_BYTES - 1 {
                bail!("the server sent a frame of {size} bytes");
            }
            let Some((payload, after)) = tail.split_at_checked(size) else { break };
            let Some((_end_mark, after)) = after.split_first() else { break };
            if kind == METHOD && is_close(payload) {
                bail!("the server closed: {}", closing_words(payload));
            }
            each(kind, payload);
            rest = after;
        }
        let left = rest.len();
        self.buffer.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(())
    }
}

/// Whether a read ended without data because of a time limit or a signal.
fn is_no_news(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// Whether a method's payload closes the connection or the channel.
fn is_close(payload: &[u8]) -> bool {
    payload.starts_with(&[0, 10, 0, 50]) || payload.starts_with(&[0, 20, 0, 40])
}

fn closing_words(payload: &[u8]) -> String {
    let mut cursor = Cursor::new(payload);
    let words = (|| {
        cursor.u32().ok()?;
        Some((cursor.u16().ok()?, cursor.short_string().ok()?))
    })();
    words.map_or_else(String::new, |(code, text)| {
        format!("{code} {}", String::from_utf8_lossy(text))
    })
}

/// Which publishes have been confirmed, when most answers come in order.
#[derive(Default)]
pub(super) struct Tracker {
    /// All up to here are settled.
    low: u64,
    /// Settled ones above `low`.
    ahead: BTreeSet<u64>,
}

impl Tracker {
    /// All publishes up to this number are settled.
    pub(super) const fn low(&self) -> u64 {
        self.low
    }

    /// Reads an ack or nack and calls `settled` with each range (first, last) that it settles.
    pub(super) fn settle(&mut self, payload: &[u8], mut settled: impl FnMut(u64, u64)) {
        let mut cursor = Cursor::new(payload);
        let (Ok(_), Ok(number), Ok(bits)) = (cursor.u32(), cursor.u64(), cursor.u8()) else {
            return;
        };
        let is_multiple = bits & 1 == 1;
        if !is_multiple && number != self.low + 1 {
            if number > self.low && self.ahead.insert(number) {
                settled(number, number);
            }
            return;
        }
        let mut first = self.low + 1;
        while let Some(&known) = self.ahead.first()
            && known <= number
        {
            if known > first {
                settled(first, known - 1);
            }
            first = known + 1;
            self.ahead.pop_first();
        }
        if first <= number {
            settled(first, number);
        }
        self.low = self.low.max(number);
        while self.ahead.first() == Some(&(self.low + 1)) {
            self.low += 1;
            self.ahead.pop_first();
        }
    }
}

/// Whether a method's payload is an ack or a nack.
pub(super) fn is_settlement(payload: &[u8]) -> bool {
    payload.starts_with(&[0, 60, 0, 80]) || payload.starts_with(&[0, 60, 0, 120])
}

/// The delivery tag, when a method's payload is a deliver.
pub(super) fn delivery_tag(payload: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(payload.strip_prefix(&[0, 60, 0, 60])?);
    cursor.short_string().ok()?;
    cursor.u64().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u64, is_multiple: bool) -> Vec<u8> {
        let mut payload = vec![0, 60, 0, 80];
        payload.extend_from_slice(&number.to_be_bytes());
        payload.push(u8::from(is_multiple));
        payload
    }

    #[test]
    fn every_number_is_settled_once_in_any_order() {
        let mut tracker = Tracker::default();
        let mut ranges = Vec::new();
        for (number, is_multiple) in
            [(1, false), (3, false), (3, false), (6, false), (4, true), (5, false), (9, true)]
        {
            tracker.settle(&answer(number, is_multiple), |a, b| ranges.push((a, b)));
        }
        assert_eq!(ranges, [(1, 1), (3, 3), (6, 6), (2, 2), (4, 4), (5, 5), (7, 9)]);
        assert_eq!(tracker.low(), 9);
    }

    #[test]
    fn frames_are_visited_once_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for size in [0_u32, 1, 300, 5] {
            stream.extend_from_slice(&[3, 0, 1]);
            stream.extend_from_slice(&size.to_be_bytes());
            stream.extend(std::iter::repeat_n(7, size as usize));
            stream.push(0xCE);
        }
        for cut in 0..stream.len() {
            let mut scanner = Scanner::new();
            let mut sizes = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                if !piece.is_empty() {
                    scanner.fill(piece).unwrap();
                    scanner.visit(|_, payload| sizes.push(payload.len())).unwrap();
                }
            }
            assert_eq!(sizes, [0, 1, 300, 5], "cut at {cut}");
        }
    }

    #[test]
    fn a_close_is_reported_in_the_servers_words() {
        let mut scanner = Scanner::new();
        let payload = b"\x00\x0A\x00\x32\x01\x40\x06forced\0\0\0\0";
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![1, 0, 0, 0, 0, 0, length];
        frame.extend_from_slice(payload);
        frame.push(0xCE);
        scanner.fill(&frame[..]).unwrap();
        let error = scanner.visit(|_, _| {}).unwrap_err();
        assert_eq!(error.to_string(), "the server closed: 320 forced");
    }
}
