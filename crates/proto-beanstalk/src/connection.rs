//! [`Connection`]: one client's beanstalk conversation as a pure state machine.
//!
//! Lives here: what a connection remembers, the way of every line, reply and event to its room.
//! Rooms: `login`, `body` (of a put, and what is skipped), `ask` (commands -> requests), `claim`
//! (waiting for jobs, batches, the end of input), `answer` (replies -> bytes), `ticket`. Not here:
//! sockets, clocks, tasks. Called by `net::drive` through `wire::Connection`.
//!
//! Answers go out in the order of their commands. The engine keeps that order for what it is
//! asked; what the door says by itself is written at once when nothing is asked, and otherwise
//! asks for an echo and waits in `notes` for its turn.

mod answer;
mod ask;
mod body;
mod claim;
mod login;
mod ticket;

use std::{collections::VecDeque, fmt, rc::Rc, sync::Arc, time::Instant};

use bytes::{Buf, Bytes, BytesMut};
use model::{Event, Reply, Request, Ticket};
use wire::{Close, Outbox};

use crate::{
    Counted, Host, HostFacts, Options,
    codec::{self, Command, Fault, Line},
    map,
};
use body::Reading;
use claim::Claims;
use login::Phase;
use ticket::Ask;

/// The channel of every request.
const CHANNEL: u16 = 1;
/// The tube of a client that has not said another.
const DEFAULT_TUBE: Bytes = Bytes::from_static(b"default");
/// Requests without an answer above which nothing is decoded.
const ASKED_MAX: usize = 65_536;
/// Notes above which nothing is decoded.
const NOTES_MAX: usize = 1024;
/// `stats` without an answer above which nothing is decoded.
const STATS_MAX: usize = 64;
/// Bytes of notes above which nothing is decoded.
const NOTES_BYTES_MAX: usize = 64 * 1024;
/// Input above which no more is read while nothing is decoded.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// What came of looking at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something was taken: look again.
    Taken,
    /// The rest is not a whole command.
    Short,
    /// What is there must wait for an answer.
    Wait,
}

/// One client's conversation.
///
/// Invariant: `asked` is the number of requests without an answer; `notes` holds one note for each
/// of them that has one (`Ask::has_note`), in their order.
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one client")]
pub struct Connection {
    options: Arc<Options>,
    host: Rc<dyn Host>,
    is_loopback: bool,
    phase: Phase,
    reading: Reading,
    /// Requests without an answer.
    asked: usize,
    /// The last request was [`Ask::Say`]: while it has no answer, its note can take more.
    is_saying: bool,
    notes: VecDeque<Vec<u8>>,
    /// For each `stats` without an answer.
    host_facts: VecDeque<HostFacts>,
    notes_bytes: usize,
    /// The tube of the next `put`, as of the commands read.
    used: Bytes,
    /// The same, as of the commands answered.
    used_answered: Bytes,
    /// `use` commands without an answer.
    uses_asked: usize,
    /// Tubes watched, as of the commands answered, in the order of the original.
    watched: Vec<Vec<u8>>,
    /// `watch` commands without an answer.
    watches_asked: usize,
    claims: Claims,
    /// Of the `delete-batch` that is being answered.
    batch_deleted: u32,
    batch_missing: u32,
    /// Input was left in place although it may hold whole commands.
    is_held: bool,
    /// It is over as soon as everything that was asked is answered, and ends so.
    farewell: Option<Close>,
    /// No more input comes.
    is_ended: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("phase", &self.phase)
            .field("asked", &self.asked)
            .field("used", &self.used)
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A conversation that begins. `is_loopback`: the peer's socket address is a loopback address.
    #[must_use]
    pub fn new(options: Arc<Options>, host: Rc<dyn Host>, is_loopback: bool) -> Self {
        Self {
            phase: if options.needs_login { Phase::Stranger(None) } else { Phase::Open },
            options,
            host,
            is_loopback,
            reading: Reading::Line { seen: 0 },
            asked: 0,
            is_saying: false,
            notes: VecDeque::new(),
            host_facts: VecDeque::new(),
            notes_bytes: 0,
            used: DEFAULT_TUBE,
            used_answered: DEFAULT_TUBE,
            uses_asked: 0,
            watched: Vec::new(),
            watches_asked: 0,
            claims: Claims::default(),
            batch_deleted: 0,
            batch_missing: 0,
            is_held: false,
            farewell: None,
            is_ended: false,
        }
    }

    /// Asks something of the engine; exactly one reply or event answers it.
    fn ask(&mut self, ask: Ask, request: Request, out: &mut Outbox) {
        self.asked += 1;
        self.is_saying = false;
        out.submit(CHANNEL, ask.ticket(), request);
    }

    /// Says something of the door's own in its turn.
    fn say(&mut self, text: &[u8], out: &mut Outbox) {
        if self.asked == 0 {
            out.bytes.extend_from_slice(text);
            return;
        }
        self.notes_bytes += text.len();
        if self.is_saying
            && let Some(last) = self.notes.back_mut()
        {
            last.extend_from_slice(text);
            return;
        }
        self.notes.push_back(text.to_vec());
        self.ask(Ask::Say, Request::Echo, out);
        self.is_saying = true;
    }

    /// Keeps a name for the answer of the request that is asked next.
    fn note(&mut self, name: &[u8]) {
        self.notes_bytes += name.len();
        self.notes.push_back(name.to_vec());
    }

    /// The oldest note.
    fn take_note(&mut self) -> Vec<u8> {
        let note = self.notes.pop_front().unwrap_or_default();
        self.notes_bytes = self.notes_bytes.saturating_sub(note.len());
        note
    }

    /// Whether nothing may be decoded now, whatever it is.
    fn is_blocked(&self) -> bool {
        self.farewell.is_some()
            || self.phase.is_waiting()
            || self.claims.is_batch()
            || self.asked >= ASKED_MAX
            || self.notes.len() >= NOTES_MAX
            || self.host_facts.len() >= STATS_MAX
            || self.notes_bytes >= NOTES_BYTES_MAX
    }

    /// Takes one command from the front of `input`, or a part of one that can be taken alone.
    fn step(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<Step, Close> {
        if self.is_blocked() {
            return Ok(Step::Wait);
        }
        if self.claims.is_waiting() {
            return Ok(self.take_further_claim(input, out));
        }
        let seen = match self.reading {
            Reading::Line { seen } => seen,
            Reading::Body(_) | Reading::Skip { .. } | Reading::LongLine { .. } => {
                return Ok(self.take_part(input, out));
            }
        };
        match codec::first_line(input, seen) {
            Line::Whole(end) => {
                self.reading = Reading::Line { seen: 0 };
                self.on_line(now, end, (input, out))
            }
            Line::Partial(seen) => {
                self.reading = Reading::Line { seen };
                Ok(Step::Short)
            }
            Line::TooLong => {
                self.reading = Reading::LongLine { seen: 0 };
                self.check_stranger(input, out).map(|()| Step::Taken)
            }
        }
    }

    /// A whole line stands at the front of `input`, and ends at `end` without its CR LF.
    fn on_line(
        &mut self,
        now: Instant,
        end: usize,
        (input, out): (&mut BytesMut, &mut Outbox),
    ) -> Result<Step, Close> {
        let whole = end.saturating_add(codec::LINE_END.len());
        let line = input.get(..end).unwrap_or_default();
        let step = match Command::parse(line) {
            Ok(Command::Put(put)) if self.phase == Phase::Open => {
                return Ok(self.on_put(put, whole, (input, out)));
            }
            Ok(Command::Login(login)) => self.on_login(login, out),
            Ok(command) => {
                self.check_phase(out)?;
                self.run(now, &command, out)?;
                Step::Taken
            }
            Err(fault) => {
                self.on_fault((fault, line), out)?;
                Step::Taken
            }
        };
        if step == Step::Taken {
            input.advance(whole);
        }
        Ok(step)
    }

    #[cold]
    fn on_fault(&mut self, (fault, line): (Fault, &[u8]), out: &mut Outbox) -> Result<(), Close> {
        self.check_stranger(line, out)?;
        if self.farewell.is_some() {
            return Ok(());
        }
        let text = match fault {
            Fault::BadFormat => map::BAD_FORMAT,
            Fault::Unknown => map::UNKNOWN_COMMAND,
        };
        self.say(text, out);
        Ok(())
    }

    /// Everything that was asked is answered, and nothing more is to come.
    fn end_if_over(&mut self) -> Result<(), Close> {
        if self.asked > 0 {
            return Ok(());
        }
        match self.farewell.take() {
            Some(close) => Err(close),
            None if self.is_ended && !self.is_held => Err(Close::Done),
            None => Ok(()),
        }
    }
}

impl wire::Connection for Connection {
    fn on_open(&mut self, now: Instant, out: &mut Outbox) {
        if self.options.needs_login {
            self.await_login(now);
        } else {
            self.enter(out);
        }
    }

    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        self.is_held = loop {
            if !out.has_room() {
                break !input.is_empty();
            }
            match self.step(now, input, out)? {
                Step::Taken => {}
                Step::Short => break false,
                Step::Wait => break !input.is_empty(),
            }
        };
        self.end_if_over()
    }

    fn on_reply(
        &mut self,
        _now: Instant,
        (_, ticket): (u16, Ticket),
        reply: Reply,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        if let Some(ask) = Ask::read(ticket).filter(|ask| *ask != Ask::Withdraw) {
            self.asked = self.asked.saturating_sub(1);
            self.answer(ask, reply, out)?;
        }
        self.end_if_over()
    }

    fn on_event(&mut self, _now: Instant, event: Event<'_>, out: &mut Outbox) -> Result<(), Close> {
        match event {
            Event::Got { ticket, delivery, .. } => {
                self.asked = self.asked.saturating_sub(1);
                self.got(ticket, &delivery, out);
            }
            Event::Job { ticket, facts, published, message } => {
                self.asked = self.asked.saturating_sub(1);
                answer::job(ticket, facts, published, (&message, out));
            }
            Event::Shutdown(reason) => return Err(Close::Shutdown(reason)),
            // Jobs come by claims only; puts are refused one by one.
            Event::Deliver { .. }
            | Event::Cancelled { .. }
            | Event::Blocked(_)
            | Event::Taken { .. }
            | Event::Result { .. }
            | Event::ResultGone { .. } => {}
        }
        self.end_if_over()
    }

    fn deadline(&self) -> Option<Instant> {
        self.claims.deadline().or_else(|| self.phase.deadline())
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Result<(), Close> {
        self.withdraw_if_due(now, out);
        self.phase.check_patience(now)
    }

    fn on_end_of_input(&mut self, _now: Instant, out: &mut Outbox) -> Result<(), Close> {
        self.is_ended = true;
        if let Reading::Body(_) = self.reading {
            // Its line was good. Source: observed, beanstalkd 1.13.
            self.host.count(Counted::RefusedPut);
        }
        self.withdraw_all(out);
        self.end_if_over()
    }

    fn wants_input(&self, held_bytes: usize) -> bool {
        !self.is_held || held_bytes <= HELD_BYTES_MAX
    }
}

#[cfg(test)]
mod tests;
