//! [`Line`]: the server's end of one connection, as `net::drive` serves it, without a socket.
//!
//! The same passes in the same order: take what the engine released, write once, read once, let
//! the door parse, submit. Not here: when it gets its turn (`server`), how bytes travel (`pipe`).

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use model::{Millis, Output, SessionId};
use replica::Node;
use wire::{Close, OUTBOX_BYTES_MAX, Outbox};

use crate::fact::Micros;
use crate::pipe::Way;

/// As in `net`: a peer that takes no byte for so long is given up.
const WRITE_STALL_MAX: Micros = 60_000_000;

/// The moment, on the three clocks that a line sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Virtual time.
    pub(crate) now: Micros,
    /// What the node's clock shows.
    pub(crate) wall: Millis,
    /// Where virtual time began.
    pub(crate) base: Instant,
}

impl Moment {
    /// For the door, which knows monotonic time only.
    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }
}

/// See the module's head.
pub(crate) struct Line {
    pub(crate) session: SessionId,
    connection: Box<dyn wire::Connection>,
    input: BytesMut,
    out: Outbox,
    is_stalled: bool,
    has_news: bool,
    /// The peer sends no more; it may still read.
    is_over: bool,
    stuck_since: Option<Micros>,
}

impl Line {
    pub(crate) fn new(session: SessionId, connection: Box<dyn wire::Connection>) -> Self {
        Self {
            session,
            connection,
            input: BytesMut::new(),
            out: Outbox::new(),
            is_stalled: false,
            has_news: false,
            is_over: false,
            stuck_since: None,
        }
    }

    /// Lets the door ask what it asks before anything else.
    pub(crate) fn open(&mut self, node: &mut Node, moment: Moment) {
        self.connection.on_open(moment.instant(), &mut self.out);
        self.submit(node, moment);
    }

    /// The peer sends no more: the door decides whether anything is still owed.
    pub(crate) fn end_input(&mut self, node: &mut Node, moment: Moment) -> Result<(), Close> {
        self.is_over = true;
        let outcome = self.connection.on_end_of_input(moment.instant(), &mut self.out);
        self.submit(node, moment);
        outcome
    }

    /// Nothing more is to be read.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Bytes read but not parsed, and written but not sent.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.input.len(), self.out.bytes.len())
    }

    /// Takes what the engine released, resumes input that waited for it, writes. Returns when the
    /// last written byte arrives.
    pub(crate) fn pass(
        &mut self,
        node: &mut Node,
        down: &mut Way,
        at: (Moment, Micros),
    ) -> Result<Option<Micros>, Close> {
        let (moment, arrival) = at;
        let mut arrives = None;
        // Bounded as `net` is by the peer: every round writes, parses or stops.
        loop {
            let gathered = self.gather(node, moment);
            self.connection.on_batch_end(&mut self.out);
            let has_asked = !self.out.requests.is_empty();
            self.submit(node, moment);
            arrives = self.write(down, moment, arrival).or(arrives);
            let more = gathered?;
            if !self.out.bytes.is_empty() {
                return Ok(arrives);
            }
            let has_news = std::mem::take(&mut self.has_news);
            let may_resume = self.is_over || !self.input.is_empty();
            if may_resume && (self.is_stalled || has_news) {
                let mut input = std::mem::take(&mut self.input);
                let outcome = self.parse(node, moment, &mut input);
                self.input = input;
                outcome?;
            } else if !more && !has_asked {
                return Ok(arrives);
            }
        }
    }

    fn gather(&mut self, node: &mut Node, moment: Moment) -> Result<bool, Close> {
        if self.out.bytes.len() >= OUTBOX_BYTES_MAX {
            return Ok(true);
        }
        let Self { session, connection, out, has_news, .. } = self;
        let now = moment.instant();
        node.collect(moment.wall, *session, &mut |output| {
            *has_news = true;
            match output {
                Output::Reply { channel, ticket, reply } => {
                    connection.on_reply(now, (channel, ticket), reply, out)?;
                }
                Output::Event(event) => connection.on_event(now, event, out)?,
            }
            Ok(out.bytes.len() < OUTBOX_BYTES_MAX)
        })
    }

    fn submit(&mut self, node: &mut Node, moment: Moment) {
        if !self.out.requests.is_empty() {
            node.submit(moment.wall, self.session, &mut self.out.requests);
        }
        self.out.requests.clear();
    }

    fn write(&mut self, down: &mut Way, moment: Moment, arrival: Micros) -> Option<Micros> {
        if self.out.bytes.is_empty() {
            return None;
        }
        let (written, arrives) = down.write(&self.out.bytes, arrival);
        if written == 0 {
            self.stuck_since.get_or_insert(moment.now);
            return None;
        }
        self.out.bytes.advance(written);
        self.stuck_since = None;
        self.connection.on_written(moment.instant());
        Some(arrives)
    }

    /// Lets the door parse what was read, behind what was left before.
    pub(crate) fn take_input(
        &mut self,
        node: &mut Node,
        moment: Moment,
        read: &BytesMut,
    ) -> Result<(), Close> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(read);
        let outcome = self.parse(node, moment, &mut input);
        self.input = input;
        outcome
    }

    fn parse(
        &mut self,
        node: &mut Node,
        moment: Moment,
        input: &mut BytesMut,
    ) -> Result<(), Close> {
        let outcome = self.connection.on_bytes(moment.instant(), input, &mut self.out);
        self.is_stalled = outcome.is_ok() && !self.out.has_room() && !input.is_empty();
        self.submit(node, moment);
        outcome
    }

    /// Whether input may be read; while not, silence is not the peer's fault.
    pub(crate) fn may_read(&mut self, node: &Node, moment: Moment) -> bool {
        let may = !self.is_stalled
            && self.out.has_room()
            && !node.is_paused(self.session)
            && self.connection.wants_input(self.input.len());
        if !may {
            self.connection.on_held_back(moment.instant());
        }
        may
    }

    /// When it wants [`Line::on_timer`].
    pub(crate) fn deadline(&self, base: Instant) -> Option<Micros> {
        let door = self.connection.deadline().map(|at| {
            let since = at.saturating_duration_since(base).as_micros();
            Micros::try_from(since).unwrap_or(Micros::MAX)
        });
        let stall = self.stuck_since.map(|since| since + WRITE_STALL_MAX);
        door.into_iter().chain(stall).min()
    }

    /// A deadline may have passed.
    pub(crate) fn on_timer(&mut self, node: &mut Node, moment: Moment) -> Result<(), Close> {
        if self.stuck_since.is_some_and(|since| moment.now >= since + WRITE_STALL_MAX) {
            return Err(Close::Silence(WRITE_STALL_MAX / 1_000));
        }
        if self.connection.deadline().is_some_and(|deadline| deadline <= moment.instant()) {
            self.has_news = true;
            let outcome = self.connection.on_deadline(moment.instant(), &mut self.out);
            self.submit(node, moment);
            outcome?;
        }
        Ok(())
    }

    /// Last words, as far as the peer takes them at once.
    pub(crate) fn farewell(&mut self, down: &mut Way, arrival: Micros) {
        down.write(&self.out.bytes, arrival);
        self.out.bytes.clear();
    }
}
