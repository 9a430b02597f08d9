//! The way in: the login where one is needed, the virtual host, the first tubes. Not here: how a
//! password is checked (the binary and the engine), any other command.
//!
//! `login USER PASSWORD` is answered `LOGGED_IN`, or `ACCESS_REFUSED` and the end. A password may
//! hold spaces; it is never kept, shown or logged.

use std::time::{Duration, Instant};

use bytes::Bytes;
use model::{Credentials, Proof, Request, Work};
use wire::{Close, Outbox};

use super::{CHANNEL, Connection, DEFAULT_TUBE, Step, ticket::Ask};
use crate::{codec::Login, map};

/// How long a stranger may take to log in.
const LOGIN_MAX: Duration = Duration::from_secs(10);

/// Where the conversation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A login must come first, until this time.
    Stranger(Option<Instant>),
    /// The login of a stranger is being checked.
    Checking,
    /// It was good, and the virtual host is being entered.
    Entering,
    /// In business.
    Open,
    /// In business, and another login is being checked.
    CheckingAgain,
}

impl Phase {
    /// Nothing is read until an answer has come.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self, Self::Checking | Self::Entering | Self::CheckingAgain)
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Stranger(deadline) => *deadline,
            Self::Checking | Self::Entering | Self::Open | Self::CheckingAgain => None,
        }
    }

    /// Gives a stranger up who has said nothing in time.
    pub(super) fn check_patience(&self, now: Instant) -> Result<(), Close> {
        let silence_ms = u64::try_from(LOGIN_MAX.as_millis()).unwrap_or(u64::MAX);
        match self.deadline() {
            Some(deadline) if deadline <= now => Err(Close::Silence(silence_ms)),
            _ => Ok(()),
        }
    }
}

impl Connection {
    /// The clock of a stranger begins.
    pub(super) fn await_login(&mut self, now: Instant) {
        self.phase = Phase::Stranger(now.checked_add(LOGIN_MAX));
    }

    /// Opens the door's channel and takes the first tubes.
    pub(super) fn enter(&mut self, out: &mut Outbox) {
        self.ask(Ask::Vhost, Request::OpenVhost(self.options.vhost.clone()), out);
        self.ask(Ask::Channel, Request::OpenChannel { is_strict: false }, out);
        let (first_use, first_watch) = (Work::Use(DEFAULT_TUBE), Work::Watch(DEFAULT_TUBE));
        self.ask(Ask::FirstUse, Request::Work(Box::new(first_use)), out);
        self.ask(Ask::FirstWatch, Request::Work(Box::new(first_watch)), out);
    }

    /// `login`. Its answer may come late, so it is asked alone.
    ///
    /// Deviation(BEAN-007): where a login is needed, anything before it is answered
    /// `ACCESS_REFUSED`, and the connection ends; so it does after a wrong one, needed or not.
    pub(super) fn on_login(&mut self, login: Login<'_>, out: &mut Outbox) -> Step {
        if self.asked > 0 {
            return Step::Wait;
        }
        let credentials = Credentials {
            user: Bytes::copy_from_slice(login.user),
            proof: Proof::Password(Bytes::copy_from_slice(login.password)),
            is_loopback: self.is_loopback,
        };
        self.phase = if self.phase == Phase::Open { Phase::CheckingAgain } else { Phase::Checking };
        self.ask(Ask::Login, Request::Authenticate(credentials), out);
        Step::Taken
    }

    /// Ends the connection of somebody whose bytes are no command, when it looks like a client of
    /// another protocol or must log in first.
    #[cold]
    pub(super) fn check_stranger(&mut self, line: &[u8], out: &mut Outbox) -> Result<(), Close> {
        if map::is_http(line) {
            let why = "an HTTP client spoke to the beanstalk port".to_owned();
            self.farewell = Some(Close::Violation(why));
            return self.end_if_over();
        }
        self.check_phase(out)
    }

    /// Ends the connection of somebody who must log in first.
    pub(super) fn check_phase(&self, out: &mut Outbox) -> Result<(), Close> {
        match self.phase {
            Phase::Stranger(_) => refuse("a command before the login".to_owned(), out),
            Phase::Checking | Phase::Entering | Phase::Open | Phase::CheckingAgain => Ok(()),
        }
    }

    /// The login is good.
    pub(super) fn on_authenticated(&mut self, out: &mut Outbox) {
        if self.phase == Phase::CheckingAgain {
            self.phase = Phase::Open;
            out.bytes.extend_from_slice(map::LOGGED_IN);
        } else {
            self.phase = Phase::Entering;
            self.enter(out);
        }
    }

    /// The virtual host is entered.
    pub(super) fn on_entered(&mut self, out: &mut Outbox) {
        if self.phase == Phase::Entering {
            self.phase = Phase::Open;
            out.bytes.extend_from_slice(map::LOGGED_IN);
        }
    }
}

/// Says that somebody may not come in, for the log `why`, and ends.
pub(super) fn refuse(why: String, out: &mut Outbox) -> Result<(), Close> {
    out.bytes.extend_from_slice(map::ACCESS_REFUSED);
    Err(Close::Violation(why))
}

/// The channel of the door is not to be had: nothing can be done for this client.
pub(super) fn give_up(why: String, out: &mut Outbox) -> Result<(), Close> {
    out.bytes.extend_from_slice(map::INTERNAL_ERROR);
    Err(Close::Violation(why))
}

const _: () = assert!(CHANNEL != 0, "channel 0 is not a channel of jobs");
