//! What clients and the beanstalk door say to each other, as facts: every request as it left a
//! client, every answer as it arrived. Nothing is concluded here; that is `ledger`'s business.

use model::JobId;

use super::{ConnId, MessageId};

/// A tube of the garden.
pub type Tube = u8;

/// What a client asks. Ranks: lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the protocol's own words")]
pub enum JobWish {
    /// Whether anybody is there.
    Hello,
    Use(Tube),
    Put {
        job: MessageId,
        tube: Tube,
        rank: u32,
        delay_s: u32,
        ttr_s: u32,
    },
    Watch(Tube),
    Ignore(Tube),
    /// With the tubes that the connection watches; `None`: without a timeout.
    Reserve {
        timeout_s: Option<u32>,
        watched: Vec<Tube>,
        is_gleaned: bool,
    },
    ReserveJob(JobId),
    Delete(JobId),
    Release {
        id: JobId,
        rank: u32,
        delay_s: u32,
    },
    Bury {
        id: JobId,
        rank: u32,
    },
    Touch(JobId),
    Peek(JobId),
    PeekReady(Tube),
    PeekDelayed(Tube),
    PeekBuried(Tube),
    Kick {
        tube: Tube,
        most: u32,
    },
    KickJob(JobId),
    StatsJob(JobId),
    StatsTube(Tube),
    Pause {
        tube: Tube,
        delay_s: u32,
    },
}

impl JobWish {
    /// The job that it names.
    #[must_use]
    pub const fn id(&self) -> Option<JobId> {
        match self {
            Self::ReserveJob(id)
            | Self::Delete(id)
            | Self::Touch(id)
            | Self::Peek(id)
            | Self::KickJob(id)
            | Self::StatsJob(id)
            | Self::Release { id, .. }
            | Self::Bury { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// A request as it left a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobAsk {
    /// In the order in which clients asked, over all of them; also the clock of `ledger`.
    pub number: u32,
    /// Over which connection.
    pub conn: ConnId,
    /// What the wall clock showed: the server does it at this time or later.
    pub shown_ms: u64,
    /// What is asked.
    pub wish: JobWish,
}

/// Where a job is, as the door says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the protocol's own words")]
pub enum Stand {
    Ready,
    Reserved,
    Delayed,
    Buried,
}

/// What the door answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the protocol's own words")]
pub enum JobAnswer {
    /// It is done.
    Yes,
    Inserted(JobId),
    Reserved(JobId, MessageId),
    Found(JobId, MessageId),
    Described {
        stand: Stand,
        rank: u32,
    },
    Kicked(u32),
    NotFound,
    TimedOut,
    DeadlineSoon,
    /// Anything else: refused, for now or for good.
    No(String),
}

/// An answer as it reached a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobAnswered {
    /// What was asked.
    pub ask: JobAsk,
    /// What came.
    pub answer: JobAnswer,
    /// The latest time that the server can have seen so far.
    pub log_ms: u64,
    /// The server's end of the connection is closed: what it held is no longer its own.
    pub is_stale: bool,
}
