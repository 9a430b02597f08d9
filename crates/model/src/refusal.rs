//! Refusals: the request was valid, but the state says no. Deterministic, replicated, never logged
//! as an error. Each door turns them into its own codes and words (`map.rs`).

use bytes::Bytes;

use crate::{JobRef, Tag, Verb};

/// The kinds of things a refusal can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// A virtual host.
    Vhost,
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
    /// A binding.
    Binding,
    /// A user.
    User,
    /// A result, named `result.<key>` in permissions.
    Result,
}

impl Noun {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vhost => "vhost",
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Binding => "binding",
            Self::User => "user",
            Self::Result => "result",
        }
    }
}

/// Why the engine says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such thing.
    NotFound {
        /// What kind.
        noun: Noun,
        /// Its name.
        name: Bytes,
    },
    /// Declared again, differently.
    Inequivalent {
        /// What kind.
        noun: Noun,
        /// Its name.
        name: Bytes,
        /// Which argument differs, e.g. `durable`, `x-message-ttl`.
        argument: &'static str,
        /// As asked for now, printed.
        received: String,
        /// As it is, printed.
        current: String,
    },
    /// An exclusive queue of another session.
    Locked {
        /// The queue.
        queue: Bytes,
    },
    /// `if-unused` and it is used.
    InUse {
        /// What kind.
        noun: Noun,
        /// Its name.
        name: Bytes,
    },
    /// `if-empty` and it is not.
    NotEmpty {
        /// The queue.
        queue: Bytes,
    },
    /// The user's permissions do not cover it.
    NotPermitted {
        /// Who asked.
        user: Bytes,
        /// What for; to enter a virtual host is to read it.
        verb: Verb,
        /// What kind of thing.
        noun: Noun,
        /// Its name; the default exchange is `amq.default`.
        name: Bytes,
        /// The routing key, when that is what is not covered.
        key: Option<Bytes>,
    },
    /// The user lacks a tag.
    TagMissing(Tag),
    /// A permission's expression is not one.
    InvalidPattern {
        /// As given.
        pattern: Bytes,
        /// For people.
        reason: String,
    },
    /// The login is wrong, or nobody may do this.
    AccessRefused {
        /// What was tried, for people.
        reason: String,
    },
    /// An exclusive consumer is there, or one was asked for and others are there.
    ExclusiveConsumer {
        /// The queue.
        queue: Bytes,
    },
    /// Nobody was handed this tag, or it is settled already.
    UnknownDelivery {
        /// The tag.
        tag: u64,
    },
    /// The job is done, was deleted, or was never there.
    UnknownJob {
        /// Which.
        job: JobRef,
    },
    /// A client of another door has the job now.
    JobHeldElsewhere {
        /// Which.
        job: JobRef,
    },
    /// Single-active-consumer queues are not for `Get`.
    SingleActiveConsumer {
        /// The queue.
        queue: Bytes,
    },
    /// A named limit is reached.
    LimitReached {
        /// Which, with its value.
        limit: String,
    },
    /// A server resource (disk, memory) is short; try again later.
    Unavailable {
        /// Which.
        reason: &'static str,
    },
    /// The session has not entered a virtual host, or the channel is not open.
    NotOpen,
}
