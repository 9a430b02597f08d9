//! Bytes <-> commands, in both directions. Which verbs there are is `table`; what they mean is
//! `connection`. Called by `connection` for every byte that comes in and by clients.
//!
//! A command is one line, at most [`LINE_BYTES_MAX`] bytes with its CR LF; behind the line of a
//! `put` stand as many bytes of body as it says, and CR LF again. Numbers are decimal, any count
//! of spaces may stand before one, and a last number ends the line.
//! Source: `beanstalkd` 1.13, `prot.c`, and observed.

#![deny(clippy::arithmetic_side_effects)]

mod words;

use std::fmt;

use bytes::BufMut;
use memchr::memchr;
use model::Ties;

use crate::table::{self, Verb};
use words::{
    bound, count, ids, last, last_u32, login, nothing, number, number_u32, pause, put, put_numbers,
    put_ties, timeout, tube,
};
pub use words::{is_tube_name, put_number};

/// Longest line in bytes, with CR LF.
pub const LINE_BYTES_MAX: usize = 224;
/// Longest line of `delete-batch`, with CR LF: the verb and as many of the longest ids.
pub const BATCH_LINE_BYTES_MAX: usize = 13 + BATCH_MAX * 21 + 2;
/// Most jobs of one `reserve-batch` or `delete-batch`.
pub const BATCH_MAX: usize = 1000;
/// Longest name of a tube, and of a key in a suffix.
pub const NAME_BYTES_MAX: usize = 200;
/// Ends every line and every body.
pub const LINE_END: [u8; 2] = *b"\r\n";

/// What the front of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line; it ends, without its CR LF, here.
    Whole(usize),
    /// Not yet one; this many bytes need not be looked at again.
    Partial(usize),
    /// It can never become one.
    TooLong,
}

/// Looks for the end of the first line, past what an earlier look has `seen`.
///
/// Deviation(BEAN-002): a line ends at its first CR LF. The original loses the one of a line of 225
/// bytes, and every one behind a bare CR, and takes the next command for a part of that line.
#[must_use]
pub fn first_line(input: &[u8], seen: usize) -> Line {
    let bytes_max = if input.len() >= LINE_BYTES_MAX && input.starts_with(b"delete-batch ") {
        BATCH_LINE_BYTES_MAX
    } else {
        LINE_BYTES_MAX
    };
    let window = input.get(..bytes_max).unwrap_or(input);
    let found = line_end(window, seen);
    let is_over = window.len() == bytes_max && matches!(found, Line::Partial(_));
    if is_over { Line::TooLong } else { found }
}

/// As [`first_line`], however long the line is.
pub(crate) fn line_end(window: &[u8], seen: usize) -> Line {
    let mut from = seen;
    while let Some(offset) = window.get(from..).and_then(|rest| memchr(b'\r', rest)) {
        let at = from.saturating_add(offset);
        let behind = at.saturating_add(1);
        match window.get(behind) {
            Some(b'\n') => return Line::Whole(at),
            Some(_) => from = behind,
            None => return Line::Partial(at),
        }
    }
    Line::Partial(window.len())
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its form is wrong.
    #[error("bad format")]
    BadFormat,
    /// There is no such verb.
    #[error("unknown command")]
    Unknown,
}

/// One command, read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the protocol's own words")]
pub enum Command<'a> {
    Put(Put),
    Peek(u64),
    PeekReady,
    PeekDelayed,
    PeekBuried,
    Reserve,
    /// Seconds, less than 2^31.
    ReserveWithTimeout(u32),
    ReserveJob(u64),
    /// How many, 1 to [`BATCH_MAX`].
    ReserveBatch(u32),
    Delete(u64),
    DeleteBatch(Ids<'a>),
    Release {
        id: u64,
        priority: u32,
        delay_s: u32,
    },
    Bury {
        id: u64,
        priority: u32,
    },
    /// At most so many.
    Kick(u32),
    KickJob(u64),
    Touch(u64),
    Stats,
    StatsJob(u64),
    StatsTube(&'a [u8]),
    Use(&'a [u8]),
    Watch(&'a [u8]),
    Ignore(&'a [u8]),
    ListTubes,
    ListTubeUsed,
    ListTubesWatched,
    Quit,
    PauseTube {
        tube: &'a [u8],
        delay_s: u32,
    },
    Login(Login<'a>),
}

/// The line of a `put`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// Lowest first.
    pub priority: u32,
    /// Seconds before it is ready.
    pub delay_s: u32,
    /// Seconds a reservation lasts; 0 is taken for 1.
    pub ttr_s: u32,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// What stands behind the numbers.
    pub tail: Tail,
}

/// What stands behind the four numbers of a `put`. It is judged after the size of the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    #[default]
    Nothing,
    /// Suffixes.
    Ties(Box<Ties>),
    /// What may once have been meant for suffixes: a body follows.
    BadTies,
    /// Something else.
    Garbage,
}

/// The ids of a `delete-batch`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids<'a>(&'a [u8]);

impl Iterator for Ids<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        number(&mut self.0)
    }
}

/// A name and its password; `Debug` hides the latter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// Who.
    pub user: &'a [u8],
    /// Up to the end of the line; it may hold spaces.
    pub password: &'a [u8],
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl<'a> Command<'a> {
    /// Reads a line, which comes without its CR LF.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        if memchr(0, line).is_some() {
            return Err(Fault::BadFormat);
        }
        let (verb, mut rest) = table::split(line).ok_or(Fault::Unknown)?;
        if verb == Verb::Put {
            return put(rest).map(Self::Put).ok_or(Fault::BadFormat);
        }
        Self::with_arguments(verb, &mut rest).ok_or(Fault::BadFormat)
    }

    fn with_arguments(verb: Verb, rest: &mut &'a [u8]) -> Option<Self> {
        Some(match verb {
            Verb::Put => Self::Put(put(rest)?),
            Verb::Peek => Self::Peek(last(rest)?),
            Verb::PeekReady => nothing(rest, Self::PeekReady)?,
            Verb::PeekDelayed => nothing(rest, Self::PeekDelayed)?,
            Verb::PeekBuried => nothing(rest, Self::PeekBuried)?,
            Verb::ReserveWithTimeout => Self::ReserveWithTimeout(timeout(rest)?),
            Verb::ReserveJob => Self::ReserveJob(last(rest)?),
            Verb::ReserveBatch => Self::ReserveBatch(count(rest)?),
            Verb::Reserve => nothing(rest, Self::Reserve)?,
            Verb::Delete => Self::Delete(last(rest)?),
            Verb::DeleteBatch => Self::DeleteBatch(ids(rest)?),
            Verb::Release => {
                let (id, priority) = (number(rest)?, number_u32(rest)?);
                Self::Release { id, priority, delay_s: last_u32(rest)? }
            }
            Verb::Bury => Self::Bury { id: number(rest)?, priority: last_u32(rest)? },
            Verb::Kick => Self::Kick(bound(rest)?),
            Verb::KickJob => Self::KickJob(last(rest)?),
            Verb::Touch => Self::Touch(last(rest)?),
            Verb::Stats => nothing(rest, Self::Stats)?,
            Verb::StatsJob => Self::StatsJob(last(rest)?),
            Verb::StatsTube => Self::StatsTube(tube(rest)?),
            Verb::Use => Self::Use(tube(rest)?),
            Verb::Watch => Self::Watch(tube(rest)?),
            Verb::Ignore => Self::Ignore(tube(rest)?),
            Verb::ListTubes => nothing(rest, Self::ListTubes)?,
            Verb::ListTubeUsed => nothing(rest, Self::ListTubeUsed)?,
            Verb::ListTubesWatched => nothing(rest, Self::ListTubesWatched)?,
            Verb::Quit => Self::Quit,
            Verb::PauseTube => pause(rest)?,
            Verb::Login => Self::Login(login(rest)?),
        })
    }

    /// Its verb.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Self::Put(_) => Verb::Put,
            Self::Peek(_) => Verb::Peek,
            Self::PeekReady => Verb::PeekReady,
            Self::PeekDelayed => Verb::PeekDelayed,
            Self::PeekBuried => Verb::PeekBuried,
            Self::Reserve => Verb::Reserve,
            Self::ReserveWithTimeout(_) => Verb::ReserveWithTimeout,
            Self::ReserveJob(_) => Verb::ReserveJob,
            Self::ReserveBatch(_) => Verb::ReserveBatch,
            Self::Delete(_) => Verb::Delete,
            Self::DeleteBatch(_) => Verb::DeleteBatch,
            Self::Release { .. } => Verb::Release,
            Self::Bury { .. } => Verb::Bury,
            Self::Kick(_) => Verb::Kick,
            Self::KickJob(_) => Verb::KickJob,
            Self::Touch(_) => Verb::Touch,
            Self::Stats => Verb::Stats,
            Self::StatsJob(_) => Verb::StatsJob,
            Self::StatsTube(_) => Verb::StatsTube,
            Self::Use(_) => Verb::Use,
            Self::Watch(_) => Verb::Watch,
            Self::Ignore(_) => Verb::Ignore,
            Self::ListTubes => Verb::ListTubes,
            Self::ListTubeUsed => Verb::ListTubeUsed,
            Self::ListTubesWatched => Verb::ListTubesWatched,
            Self::Quit => Verb::Quit,
            Self::PauseTube { .. } => Verb::PauseTube,
            Self::Login(_) => Verb::Login,
        }
    }

    /// Writes its line, as a client sends it. The body of a `put` follows by [`put_body`].
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_slice(table::prefix(self.verb()).as_bytes());
        self.write_arguments(out);
        out.put_slice(&LINE_END);
    }

    fn write_arguments(&self, out: &mut impl BufMut) {
        match self {
            Self::Put(put) => {
                let Put { priority, delay_s, ttr_s, body_bytes, tail } = put;
                put_numbers(out, &[*priority, *delay_s, *ttr_s, *body_bytes].map(u64::from));
                if let Tail::Ties(ties) = tail {
                    put_ties(out, ties);
                }
            }
            Self::Peek(id)
            | Self::ReserveJob(id)
            | Self::Delete(id)
            | Self::KickJob(id)
            | Self::Touch(id)
            | Self::StatsJob(id) => put_number(out, *id),
            Self::ReserveWithTimeout(number) | Self::ReserveBatch(number) | Self::Kick(number) => {
                put_number(out, (*number).into());
            }
            Self::DeleteBatch(ids) => put_numbers(out, &ids.clone().collect::<Vec<_>>()),
            Self::Release { id, priority, delay_s } => {
                put_numbers(out, &[*id, (*priority).into(), (*delay_s).into()]);
            }
            Self::Bury { id, priority } => put_numbers(out, &[*id, (*priority).into()]),
            Self::StatsTube(tube) | Self::Use(tube) | Self::Watch(tube) | Self::Ignore(tube) => {
                out.put_slice(tube);
            }
            Self::PauseTube { tube, delay_s } => {
                out.put_u8(b' ');
                out.put_slice(tube);
                out.put_u8(b' ');
                put_number(out, (*delay_s).into());
            }
            Self::Login(login) => {
                out.put_slice(login.user);
                out.put_u8(b' ');
                out.put_slice(login.password);
            }
            Self::PeekReady
            | Self::PeekDelayed
            | Self::PeekBuried
            | Self::Reserve
            | Self::Stats
            | Self::ListTubes
            | Self::ListTubeUsed
            | Self::ListTubesWatched
            | Self::Quit => {}
        }
    }
}

/// Writes the body of a job and its CR LF.
pub fn put_body(out: &mut impl BufMut, body: &[u8]) {
    out.put_slice(body);
    out.put_slice(&LINE_END);
}

#[cfg(test)]
mod tests;
