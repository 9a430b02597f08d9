//! What the engine wants done: outputs for sessions, records to be read, logins to be checked.
//! Nothing here acts; the commit pipeline (`replica`) collects and carries out.

use std::sync::Arc;

use bytes::Bytes;
use model::{ConsumerId, JobFacts, Lsn, Reply, ResultFacts, SessionId, TakenFacts, Ticket};

/// Who opened a session. Volatile. The default is the server itself, for its own questions and
/// for tests; doors name every field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// The peer's address, printed, for listings.
    pub peer: Bytes,
    /// The front door it came through, e.g. `amqp`.
    pub door: &'static str,
    /// In whose name it begins.
    pub actor: Actor,
}

/// In whose name a session asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Actor {
    /// The server itself: may do everything.
    #[default]
    System,
    /// Nobody yet: may log in, and nothing else.
    Stranger,
    /// A user whose login was good.
    User(Bytes),
}

impl Actor {
    /// The user's name.
    #[must_use]
    pub const fn user(&self) -> Option<&Bytes> {
        match self {
            Self::User(name) => Some(name),
            Self::System | Self::Stranger => None,
        }
    }
}

/// Everything that follows from one or more calls of the engine, in order. The pipeline reuses
/// one value: it drains the lists and hands it back.
#[derive(Debug, Default)]
pub struct Effects {
    /// For sessions; the order within one session must be kept.
    pub outputs: Vec<Output>,
    /// Stored messages the engine needs to see; each is answered by [`Resume::Record`].
    pub reads: Vec<Read>,
    /// Passwords to check; each is answered by [`Resume::Verified`].
    pub logins: Vec<Login>,
}

impl Effects {
    /// Whether nothing is asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.reads.is_empty() && self.logins.is_empty()
    }
}

/// One thing to show to a session.
#[derive(Debug)]
pub struct Output {
    /// To whom; the session may be gone by now.
    pub session: SessionId,
    /// May be shown once the log is durable up to here; `Lsn::ZERO` is at once.
    pub gate: Lsn,
    /// What.
    pub push: Push,
}

/// The kinds of outputs.
#[derive(Debug)]
pub enum Push {
    /// The answer to a request.
    Reply {
        /// On which channel it was asked.
        channel: u16,
        /// Of the request.
        ticket: Ticket,
        /// The answer; never `Reply::Published`, see [`Push::Published`].
        reply: Reply,
    },
    /// One confirmed publish of this channel; runs of them may become one `Reply::Published`.
    Published {
        /// On which channel.
        channel: u16,
    },
    /// A message for a consumer.
    Deliver {
        /// For whom.
        consumer: ConsumerId,
        /// The delivery.
        delivery: Handout,
    },
    /// The message that `Request::Get` asked for.
    Got {
        /// Of the request.
        ticket: Ticket,
        /// The delivery.
        delivery: Handout,
        /// Messages still ready.
        ready: u64,
    },
    /// The job that was looked at.
    Job {
        /// Of the request.
        ticket: Ticket,
        /// On which channel it was asked.
        channel: u16,
        /// What is known about it.
        facts: Box<JobFacts>,
        /// Where its message is.
        place: Place,
        /// What it weighs against its session.
        bytes: u32,
    },
    /// A job for a worker.
    Taken {
        /// Of the request.
        ticket: Ticket,
        /// The delivery.
        delivery: Handout,
        /// What is known about it.
        facts: Box<TakenFacts>,
    },
    /// A result that was asked for.
    Result {
        /// Of the request.
        ticket: Ticket,
        /// On which channel it was asked.
        channel: u16,
        /// What is known about it.
        facts: Box<ResultFacts>,
        /// Where its record is; [`crate::result`] reads what is there.
        place: Place,
        /// What it weighs against its session.
        bytes: u32,
    },
    /// A result that is gone.
    ResultGone {
        /// Of the request.
        ticket: Ticket,
        /// Its key.
        key: Bytes,
        /// Where its end stands among all changes.
        revision: Lsn,
    },
    /// The server ended a consumer.
    Cancelled {
        /// On which channel.
        channel: u16,
        /// Whom.
        consumer: ConsumerId,
    },
    /// Publishing is held back (or free again when `None`).
    Blocked(Option<&'static str>),
    /// The session has to end.
    Shutdown(&'static str),
}

/// One handing-out of a message, by reference.
#[derive(Debug)]
pub struct Handout {
    /// On which channel.
    pub channel: u16,
    /// Numbered from 1 on its channel.
    pub tag: u64,
    /// It may have been handed out before.
    pub is_redelivered: bool,
    /// How often it came back; `None` when the queue does not show it.
    pub returns: Option<u32>,
    /// Where the message is; [`crate::message`] reads what is there.
    pub place: Place,
    /// What it weighs against its session: the stored message and a fixed share for frames.
    pub bytes: u32,
}

/// Where a stored message is. Both places hold the same layout.
#[derive(Clone, Debug)]
pub enum Place {
    /// The payload of the log record with this address.
    Log(Lsn),
    /// In memory only.
    Memory(Arc<[u8]>),
}

/// A stored message the engine needs to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The engine's own number for this read.
    pub token: u64,
    /// Address of the record.
    pub lsn: Lsn,
}

/// A password to check. `Debug` hides it.
#[derive(Clone)]
pub struct Login {
    /// Who wants to log in.
    pub session: SessionId,
    /// The engine's own number for this attempt.
    pub token: u64,
    /// User name.
    pub user: Bytes,
    /// Password, as sent.
    pub password: Bytes,
    /// Stored hash; `None` for an unknown user, whose check must cost the same and fail.
    pub hash: Option<Bytes>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The answer to something the engine asked for.
#[derive(Clone, Copy, Debug)]
pub enum Resume<'a> {
    /// The payload of a record that was to be read.
    Record {
        /// As in [`Read`].
        token: u64,
        /// As in [`Read`].
        lsn: Lsn,
        /// The whole payload.
        payload: &'a [u8],
    },
    /// A password was checked.
    Verified {
        /// As in [`Login`].
        session: SessionId,
        /// As in [`Login`].
        token: u64,
        /// It is right.
        is_ok: bool,
    },
    /// A slow session has drained, see [`crate::Engine::taken`].
    Room(SessionId),
}

/// Recovery met something the engine cannot have written, or a newer engine wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A record of the log does not read.
    #[error("the record of kind {kind} at log position {lsn} does not read: {what}")]
    Record {
        /// Its address.
        lsn: Lsn,
        /// Its kind.
        kind: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// A snapshot does not read.
    #[error("a snapshot does not read: {0}")]
    Snapshot(&'static str),
}

/// How much of a stretch of the log is still needed; may overestimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// References to message records.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
}
