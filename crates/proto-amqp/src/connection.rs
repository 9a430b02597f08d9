//! [`Connection`]: one client's AMQP 0-9-1 conversation as a pure state machine.
//!
//! Lives here: the states of a connection, the way of every frame, reply and event to its room.
//! Rooms: `handshake`, `channel` (what one channel remembers), `publish`, `consume` (and get,
//! ack), `topology`, `transaction` (and confirms), `close`, `ticket`. Not here: sockets, clocks,
//! tasks. Called by `net::drive` through `wire::Connection`.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the arm for all methods that do not belong here is the point of each match"
)]

mod channel;
mod close;
mod consume;
mod handshake;
mod heartbeat;
mod publish;
mod ticket;
mod topology;
mod transaction;

use std::{sync::Arc, time::Instant};

use bytes::{Buf, Bytes, BytesMut};
use model::{Event, Reply, Ticket};
use wire::{Close, Outbox};

use crate::{
    Options,
    codec::{self, FrameError, Head},
    map::{self, Code, Failure, Names},
    table::{Method, MethodError},
};
use channel::{Channels, State};
use consume::Settlement;
use ticket::Ask;

/// Where the conversation stands. Handshake phases come first, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing heard yet; the protocol header must come.
    Header,
    /// `connection.start` is sent.
    Start,
    /// The engine checks the login; nothing is read meanwhile.
    Login,
    /// `connection.tune` is sent.
    Tune,
    /// Tuned; `connection.open` must come.
    Open,
    /// The engine was asked for the virtual host; the peer may go on.
    Entering,
    /// In business.
    Running,
    /// We said goodbye and wait for the answer; all else is ignored. Then it ends like this.
    Closing(Box<Close>),
    /// The peer said goodbye; so many channels have yet to end before we answer.
    Leaving(u16),
}

/// What the client said of itself and of where it works.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one client")]
struct Login {
    user: Bytes,
    /// May publish in other users' names, as of the login.
    is_impersonator: bool,
    vhost: Bytes,
    /// The user that the client's certificate names, if it showed one.
    certificate_name: Option<Bytes>,
    /// How the client logged in.
    mechanism: &'static str,
    /// Client capability `authentication_failure_close`.
    hears_refusal: bool,
    /// Client capability `consumer_cancel_notify`.
    hears_cancel: bool,
    /// Client capability `connection.blocked`.
    hears_blocked: bool,
}

impl Login {
    /// The only name that `user-id` of a message may say; `None` for any.
    fn claimable(&self) -> Option<&[u8]> {
        (!self.is_impersonator).then_some(&self.user)
    }
}

/// What a handler says when it cannot go on.
#[derive(Debug)]
enum Stop {
    /// Tell the peer, close the channel or the connection.
    Fail(Failure),
    /// The connection ends at once.
    Close(Close),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Fail(failure)
    }
}

impl From<Close> for Stop {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// One client's conversation.
///
/// Invariant: requests of one channel are submitted in the order of their frames; nothing is
/// submitted for a channel between its failure and its next opening.
#[derive(Debug)]
pub struct Connection {
    options: Arc<Options>,
    phase: Phase,
    /// Largest frame in bytes, as negotiated.
    frame_max: u32,
    channel_max: u16,
    /// Negotiated; 0 is none.
    heartbeat_s: u16,
    is_loopback: bool,
    /// Bytes taken before login, against [`handshake::UNKNOWN_BYTES_MAX`].
    unknown_bytes: u32,
    /// Bytes of a frame that was refused by its size, still to come and to be thrown away.
    skipping: u64,
    last_read: Instant,
    last_written: Instant,
    /// When the present phase must be over.
    expires: Option<Instant>,
    names: Names,
    login: Box<Login>,
    channels: Channels,
    /// Channels with gathered confirms.
    confirming: Vec<u16>,
    /// Why publishing is held back, if it is.
    blocked: Option<&'static str>,
    /// The peer was told so.
    knows_blocked: bool,
    /// The peer has published something: it is told at once when publishing is held back.
    is_publisher: bool,
    /// Deliveries not answered yet, about: a multiple answer counts for all.
    owed: u64,
}

impl Connection {
    /// A conversation that begins `now`. `nonce` are random bits, different for each connection.
    #[must_use]
    pub fn new(options: Arc<Options>, is_loopback: bool, nonce: u64, now: Instant) -> Self {
        let expires = now.checked_add(options.handshake);
        Self {
            frame_max: handshake::UNKNOWN_FRAME_MAX,
            channel_max: options.channel_max,
            heartbeat_s: 0,
            is_loopback,
            unknown_bytes: 0,
            skipping: 0,
            last_read: now,
            last_written: now,
            expires,
            names: Names::new(nonce),
            login: Box::default(),
            channels: Channels::default(),
            confirming: Vec::new(),
            blocked: None,
            knows_blocked: false,
            is_publisher: false,
            owed: 0,
            phase: Phase::Header,
            options,
        }
    }

    /// Takes one frame (or one whole publish) from the front of `input`. Says whether there may be
    /// more to take.
    fn step(&mut self, input: &mut BytesMut, out: &mut Outbox) -> Result<bool, Close> {
        match self.phase {
            Phase::Header => return self.on_protocol_header(input, out),
            Phase::Login => return Ok(false),
            Phase::Start
            | Phase::Tune
            | Phase::Open
            | Phase::Entering
            | Phase::Running
            | Phase::Closing(_)
            | Phase::Leaving(_) => {}
        }
        if self.skipping > 0 {
            let length = input.len().min(usize::try_from(self.skipping).unwrap_or(usize::MAX));
            input.advance(length);
            self.skipping = self.skipping.saturating_sub(length as u64);
            return Ok(length > 0);
        }
        let head = match codec::peek(input, self.frame_max) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(error) => return self.on_frame_error(error, out).map(|()| true),
        };
        if head.kind == codec::METHOD && self.takes_content() {
            match self.take_frequent(input, head, out) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(stop) => return self.on_stop(head.channel, stop, out).map(|()| true),
            }
        }
        self.count_unknown(head.total())?;
        let result = if head.kind == codec::BODY && self.takes_content() {
            self.on_body(head, input, out)
        } else {
            let result = self.on_frame(head, head.payload(input), out);
            input.advance(head.total());
            result
        };
        match result {
            Ok(()) => Ok(true),
            Err(stop) => self.on_stop(head.channel, stop, out).map(|()| true),
        }
    }

    /// The two methods that come by the million, without the general reader; `false` when it is
    /// neither, or when anything about it is unusual.
    fn take_frequent(
        &mut self,
        input: &mut BytesMut,
        head: Head,
        out: &mut Outbox,
    ) -> Result<bool, Stop> {
        match *head.payload(input) {
            [0, 60, 0, 40, ..] => self.take_whole_publish(input, head, out),
            [0, 60, 0, 80, t0, t1, t2, t3, t4, t5, t6, t7, bits]
                if self.channels.is_between_messages(head.channel) =>
            {
                let tag = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
                let settlement = Settlement { tag, is_multiple: bits & 1 != 0, is_requeue: None };
                input.advance(head.total());
                self.settle(head.channel, Ask::Ack, settlement, out)
                    .map_err(|failure| failure.because_of(Ask::Ack.cause()))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether frames of channels mean anything now.
    const fn takes_content(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Entering)
    }

    /// A frame that is not a body.
    fn on_frame(&mut self, head: Head, payload: &[u8], out: &mut Outbox) -> Result<(), Stop> {
        if matches!(self.phase, Phase::Closing(_) | Phase::Leaving(_)) {
            return self.on_frame_while_closing(head, payload, out);
        }
        match head.kind {
            codec::METHOD if head.channel == 0 => {
                let method = parsed(payload)?;
                self.on_connection_method(&method, out).map_err(|stop| stop.because_of(&method))
            }
            codec::METHOD if self.takes_content() => self.on_method(head.channel, payload, out),
            codec::HEADER if self.takes_content() && head.channel != 0 => {
                self.on_content_header(head.channel, payload, out)
            }
            codec::HEARTBEAT if head.size == 0 && head.channel == 0 => Ok(()),
            codec::HEARTBEAT if head.size == 0 => Err(frame_failure(
                Code::UnexpectedFrame,
                format!("type {}, all octets = <<>>", head.kind),
            )),
            codec::METHOD | codec::HEADER | codec::BODY if head.channel != 0 => {
                let text = format!("type {}: the connection is not open", head.kind);
                Err(frame_failure(Code::UnexpectedFrame, text))
            }
            _ => Err(frame_failure(
                Code::FrameError,
                format!("type {} on channel {}: unknown_frame", head.kind, head.channel),
            )),
        }
    }

    /// A method of a channel.
    fn on_method(&mut self, number: u16, payload: &[u8], out: &mut Outbox) -> Result<(), Stop> {
        if self.channels.is_ignoring(number) {
            return self.on_method_while_failed(number, payload, out);
        }
        if let Some(channel) = self.channels.get_mut(number)
            && let Some(assembly) = &channel.assembly
        {
            return Err(assembly.interrupted().into());
        }
        let method = parsed(payload)?;
        if !self.channels.is_open(number) && !matches!(method, Method::ChannelOpen { .. }) {
            let failure = Failure::new(Code::ChannelError, "expected 'channel.open'");
            return Err(failure.because_of(method.id()).into());
        }
        self.on_channel_method(number, &method, out).map_err(|stop| stop.because_of(&method))
    }

    /// Sends a method to its room by its class.
    fn on_channel_method(
        &mut self,
        number: u16,
        method: &Method<'_>,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        match method.id() {
            (20 | 30, _) => self.on_channel_class(number, method, out),
            (40 | 50, _) => self.on_topology_class(number, method, out),
            (60, 40) => {
                self.on_publish_method(number, method);
                Ok(())
            }
            (60, _) => self.on_basic_class(number, method, out),
            (85 | 90, _) => self.on_transaction_class(number, method, out),
            _ => Err(unimplemented_method().into()),
        }
    }

    /// Turns a handler's refusal to go on into frames.
    fn on_stop(&mut self, number: u16, stop: Stop, out: &mut Outbox) -> Result<(), Close> {
        match stop {
            Stop::Close(close) => Err(close),
            Stop::Fail(failure) => self.fail(number, failure, out),
        }
    }

    /// Bytes that can never become a frame.
    fn on_frame_error(&mut self, error: FrameError, out: &mut Outbox) -> Result<(), Close> {
        self.skipping = u64::from(error.size()).saturating_add(codec::FRAME_OVERHEAD as u64);
        if matches!(self.phase, Phase::Closing(_) | Phase::Leaving(_)) {
            return Err(Close::Violation(error.to_string()));
        }
        let text = match error {
            FrameError::TooLarge { kind, size, max, .. } => {
                format!("type {kind}, all octets = <<>>: {{frame_too_large,{size},{max}}}")
            }
            FrameError::End { kind, marker, .. } => {
                format!("type {kind}: {{invalid_frame_end_marker,{marker}}}")
            }
        };
        self.fail(0, Failure::new(Code::FrameError, text), out)
    }

    /// A name that stands for `""`: the queue declared last on the channel.
    fn queue_named(&mut self, number: u16, queue: &[u8]) -> Result<Bytes, Failure> {
        if !queue.is_empty() {
            return Ok(map::without_line_breaks(queue));
        }
        match self.channels.get_mut(number) {
            Some(channel) if !channel.last_queue.is_empty() => Ok(channel.last_queue.clone()),
            _ => Err(Failure::new(Code::NotFound, "no previously declared queue")),
        }
    }
}

impl wire::Connection for Connection {
    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        self.last_read = now;
        while out.has_room() && self.step(input, out)? {}
        self.note_goodbye(now);
        Ok(())
    }

    fn on_reply(
        &mut self,
        now: Instant,
        (number, ticket): (u16, Ticket),
        reply: Reply,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        let (ask, data) = ticket::read(ticket);
        let result = self.on_answer(number, (ask, data), reply, out);
        self.note_goodbye(now);
        match result {
            Ok(()) => Ok(()),
            Err(stop) => {
                let result = self.on_stop(number, stop.because_of_id(ask.cause()), out);
                self.note_goodbye(now);
                result
            }
        }
    }

    fn on_event(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) -> Result<(), Close> {
        match event {
            Event::Deliver { consumer, delivery } => self.deliver(consumer, &delivery, out),
            Event::Got { ticket, delivery, ready } => self.got(ticket, &delivery, ready, out),
            Event::Cancelled { channel, consumer } => self.on_cancelled(channel, consumer, out),
            Event::Blocked(reason) => self.on_blocked(reason, out),
            Event::Job { .. }
            | Event::Taken { .. }
            | Event::Result { .. }
            | Event::ResultGone { .. } => {}
            Event::Shutdown(reason) => {
                self.on_shutdown(reason, out)?;
                self.note_goodbye(now);
            }
        }
        Ok(())
    }

    fn on_batch_end(&mut self, out: &mut Outbox) {
        self.write_confirms(out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_deadline()
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Result<(), Close> {
        self.on_time(now, out)
    }

    fn owed(&self) -> u64 {
        self.owed
    }

    fn on_held_back(&mut self, now: Instant) {
        self.last_read = now;
    }

    fn on_written(&mut self, now: Instant) {
        self.last_written = now;
    }
}

impl Stop {
    /// Names the method that caused a failure.
    fn because_of(self, method: &Method<'_>) -> Self {
        self.because_of_id(method.id())
    }

    fn because_of_id(self, cause: (u16, u16)) -> Self {
        match self {
            Self::Fail(failure) => Self::Fail(failure.because_of(cause)),
            Self::Close(_) => self,
        }
    }
}

/// Reads a method or says what `RabbitMQ` says. Source: observed, `RabbitMQ` 3.10.8.
///
/// Deviation(AMQP-006): what cannot be decoded is named, not repeated octet by octet; an unknown
/// method is 503, a malformed table or property list 502, where `RabbitMQ` says 501 or 541 or
/// drops the connection without a word.
fn parsed(payload: &[u8]) -> Result<Method<'_>, Failure> {
    Method::parse(payload).map_err(|error| {
        let cause = match *payload {
            [c0, c1, m0, m1, ..] => (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1])),
            _ => return Failure::new(Code::FrameError, "type 1: unknown_frame"),
        };
        let failure = match error {
            MethodError::Unknown(..) => unimplemented_method(),
            MethodError::Length => Failure::new(Code::FrameError, "cannot decode arguments"),
            MethodError::Table(error) => Failure::new(Code::SyntaxError, error.to_string()),
            MethodError::TableTooLarge => Failure::new(Code::SyntaxError, error.to_string()),
        };
        failure.because_of(cause)
    })
}

fn unimplemented_method() -> Failure {
    Failure::new(Code::CommandInvalid, "unimplemented method")
}

fn frame_failure(code: Code, text: String) -> Stop {
    Failure::new(code, text).into()
}

#[cfg(test)]
mod tests;
