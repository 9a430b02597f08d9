//! [`Pipe`]: the bytes between a client and the server, with delays, bounded buffers and endings.
//!
//! A pipe is what TCP gives: bytes in order, once, until it breaks. Lives here: one connection's
//! two directions. Not here: when it breaks (`world`), what the bytes mean (`link`, `line`).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::fact::Micros;

/// How a direction ends, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    /// The writer said that no more comes.
    Closed,
    /// The connection is broken.
    Reset,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(BytesMut),
    Nothing,
    End(Ending),
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Way {
    /// When each piece arrives.
    pieces: VecDeque<(Micros, Bytes)>,
    /// Bytes under way and arrived, not read.
    bytes: usize,
    /// Most of them.
    window: usize,
    /// Nothing overtakes.
    last: Micros,
    /// What is written arrives nowhere.
    is_lost: bool,
    ending: Option<(Micros, Ending)>,
}

impl Way {
    fn new(window: usize) -> Self {
        let pieces = VecDeque::new();
        Self { pieces, bytes: 0, window, last: 0, is_lost: false, ending: None }
    }

    /// Takes what there is room for; says how much and when it arrives.
    pub(crate) fn write(&mut self, bytes: &[u8], arrival: Micros) -> (usize, Micros) {
        let room = self.window.saturating_sub(self.bytes).min(bytes.len());
        let Some(piece) = bytes.get(..room).filter(|piece| !piece.is_empty()) else {
            return (0, arrival);
        };
        self.last = self.last.max(arrival);
        self.bytes += room;
        if !self.is_lost && self.ending.is_none() {
            self.pieces.push_back((self.last, Bytes::copy_from_slice(piece)));
        }
        (room, self.last)
    }

    /// What has arrived, up to `most` bytes.
    pub(crate) fn read(&mut self, now: Micros, most: usize) -> Found {
        let mut found = BytesMut::new();
        while found.len() < most
            && let Some((at, piece)) = self.pieces.front_mut()
            && *at <= now
        {
            let count = piece.len().min(most - found.len());
            found.extend_from_slice(piece.get(..count).unwrap_or_default());
            piece.advance(count);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.bytes = self.bytes.saturating_sub(found.len());
        if !found.is_empty() {
            return Found::Bytes(found);
        }
        match self.ending {
            Some((at, ending)) if at <= now && self.pieces.is_empty() => Found::End(ending),
            _ => Found::Nothing,
        }
    }

    /// Whether a reader would find something.
    pub(crate) fn is_ready(&self, now: Micros) -> bool {
        let first = self.pieces.front().map(|(at, _)| *at);
        let ending = self.ending.map(|(at, _)| at);
        first.or(ending).is_some_and(|at| at <= now)
    }

    /// No more is written; what is under way still arrives. Says when the end does.
    pub(crate) fn end(&mut self, at: Micros, ending: Ending) -> Micros {
        let at = at.max(self.last);
        if self.ending.is_none() {
            self.ending = Some((at, ending));
        }
        at
    }

    /// Loses everything under way behind the first `kept` bytes, then ends with a reset.
    pub(crate) fn cut(&mut self, at: Micros, kept: usize) {
        let mut left = kept;
        self.pieces.retain_mut(|(_, piece)| {
            let count = piece.len().min(left);
            left -= count;
            piece.truncate(count);
            count > 0
        });
        self.last = at;
        for (when, _) in &mut self.pieces {
            *when = (*when).min(at);
        }
        self.ending = Some((at, Ending::Reset));
    }

    /// Bytes that have not been read.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on nothing arrives, and nobody is told.
    pub(crate) fn lose(&mut self) {
        self.is_lost = true;
    }
}

/// Both directions of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// To the server.
    pub(crate) up: Way,
    /// To the client.
    pub(crate) down: Way,
    /// The least time a byte needs.
    pub(crate) latency: Micros,
}

impl Pipe {
    pub(crate) fn new(window: usize, latency: Micros) -> Self {
        Self { up: Way::new(window), down: Way::new(window), latency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(way: &mut Way, now: Micros) -> Vec<u8> {
        match way.read(now, 100) {
            Found::Bytes(bytes) => bytes.to_vec(),
            Found::Nothing | Found::End(_) => Vec::new(),
        }
    }

    #[test]
    fn bytes_arrive_in_order_and_never_early() {
        let mut way = Way::new(10);
        assert_eq!(way.write(b"abc", 50), (3, 50));
        assert_eq!(way.write(b"def", 40), (3, 50), "nothing overtakes");
        assert_eq!(way.write(b"ghijkl", 60), (4, 60), "the window is full");
        assert_eq!(read(&mut way, 49), b"");
        assert_eq!(read(&mut way, 55), b"abcdef");
        assert_eq!(read(&mut way, 60), b"ghij");
    }

    #[test]
    fn an_end_comes_behind_the_bytes_and_a_cut_may_tear_them() {
        let mut way = Way::new(10);
        way.write(b"abc", 50);
        assert_eq!(way.end(20, Ending::Closed), 50);
        assert_eq!(way.read(50, 2), Found::Bytes(BytesMut::from(&b"ab"[..])));
        assert_eq!(way.read(50, 2), Found::Bytes(BytesMut::from(&b"c"[..])));
        assert_eq!(way.read(50, 2), Found::End(Ending::Closed));

        let mut way = Way::new(10);
        way.write(b"abc", 50);
        way.write(b"def", 60);
        way.cut(40, 4);
        assert_eq!(read(&mut way, 40), b"abcd");
        assert_eq!(way.read(40, 9), Found::End(Ending::Reset));
    }

    #[test]
    fn a_lost_way_takes_bytes_until_its_window_is_full() {
        let mut way = Way::new(4);
        way.lose();
        assert_eq!(way.write(b"abcdef", 1).0, 4);
        assert_eq!(way.write(b"ef", 1).0, 0);
        assert_eq!(way.read(9, 9), Found::Nothing);
    }
}
