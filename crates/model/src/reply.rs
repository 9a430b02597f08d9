//! What the engine answers and announces. Everything here is shown to a client only after the log
//! position it depends on is durable; that gate is the commit pipeline's business, not seen here.

use bytes::Bytes;

use crate::{
    ConsumerId, Held, Idle, JobFacts, JobId, Lsn, MessageRef, Millis, Publish, QueueFacts, QueueId,
    Refusal, ResultFacts, ResultRef, TakenFacts, Ticket, WorkFacts,
};

/// The answer to one request.
#[derive(Debug)]
pub enum Reply {
    /// It is done.
    Done,
    /// The login is good; tags of the user.
    Authenticated {
        /// Comma-separated.
        tags: Bytes,
    },
    /// State of a queue.
    Queue {
        /// Its name.
        name: Bytes,
        /// Messages ready for delivery.
        ready: u64,
        /// Consumers of all sessions.
        consumers: u32,
    },
    /// How many messages went away.
    Deleted {
        /// Ready messages removed.
        messages: u64,
    },
    /// The next `count` publishes of this channel that asked for it, in order, are durable in all
    /// their queues (or had none).
    Published {
        /// How many.
        count: u32,
    },
    /// The next publish of this channel that asked for it was refused by a full queue.
    Rejected,
    /// A mandatory message nobody took; its own `Published` follows when asked for.
    Unroutable(Box<Publish>),
    /// `Get` found nothing.
    Empty,
    /// Rows of a listing: each a list of (column, value).
    Listing(Vec<Row>),
    /// The job is stored.
    Enqueued {
        /// Its id.
        job: JobId,
        /// The queue it is in.
        queue: QueueId,
    },
    /// The claim of a job has ended.
    Released {
        /// The job was laid aside.
        is_buried: bool,
    },
    /// How many queues the channel watches now.
    Watching {
        /// Their number.
        count: u32,
        /// Nothing was done: a channel watches at least one.
        is_last: bool,
    },
    /// How many jobs are ready now that were not.
    Kicked {
        /// Their number.
        count: u64,
    },
    /// Nothing is ready, and a lease of the channel is about to end.
    LeaseEnding,
    /// State of a queue of jobs.
    QueueFacts(Box<QueueFacts>),
    /// State of all work with jobs.
    WorkFacts(Box<WorkFacts>),
    /// Names, in order.
    Names(Vec<Bytes>),
    /// The jobs of a `Take` were handed over.
    Taken {
        /// How many.
        count: u32,
        /// Why there were none.
        idle: Idle,
    },
    /// All jobs that the session has under a lease, in the order in which they were taken.
    Renewed(Vec<Held>),
    /// A commit with a result, or a result alone, is durable.
    Stored {
        /// The key had no result, or the new one took its place.
        is_stored: bool,
    },
    /// The end of a list of results or of changes.
    Results {
        /// All changes up to here are in it or before it.
        revision: Lsn,
        /// There are more behind it.
        is_more: bool,
        /// Deletions between `after` and `revision` may be missing: they are forgotten.
        has_gap: bool,
    },
    /// Valid, but the state says no.
    Refused(Box<Refusal>),
}

/// One row of a listing.
pub type Row = Vec<(&'static str, Cell)>;

/// One value of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A name; may hold any bytes.
    Text(Bytes),
    /// A number.
    Number(u64),
    /// A claim.
    Flag(bool),
}

/// Something a client did not ask for just now.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message for a consumer.
    Deliver {
        /// For whom.
        consumer: ConsumerId,
        /// The delivery.
        delivery: Delivery<'a>,
    },
    /// The message that `Request::Get` asked for.
    Got {
        /// Of the request.
        ticket: Ticket,
        /// The delivery.
        delivery: Delivery<'a>,
        /// Messages still ready.
        ready: u64,
    },
    /// The job that was looked at.
    Job {
        /// Of the request.
        ticket: Ticket,
        /// What is known about it.
        facts: &'a JobFacts,
        /// When it was published.
        published: Millis,
        /// The message.
        message: MessageRef<'a>,
    },
    /// A job for the worker that asked with `Request::Take`.
    Taken {
        /// Of the request.
        ticket: Ticket,
        /// What is known about it.
        facts: &'a TakenFacts,
        /// When it was published.
        published: Millis,
        /// The delivery.
        delivery: Delivery<'a>,
    },
    /// A result that was asked for.
    Result {
        /// Of the request.
        ticket: Ticket,
        /// What is known about it.
        facts: &'a ResultFacts,
        /// As it was stored.
        result: ResultRef<'a>,
    },
    /// A result that was changed and is gone now.
    ResultGone {
        /// Of the request.
        ticket: Ticket,
        /// Its name.
        key: Bytes,
        /// Where its end stands among all changes.
        revision: Lsn,
    },
    /// The server ended a consumer: its queue is gone or its owner lost.
    Cancelled {
        /// On which channel.
        channel: u16,
        /// Whom.
        consumer: ConsumerId,
    },
    /// Publishing is held back (or free again when `None`): the reason, for people.
    Blocked(Option<&'static str>),
    /// The server wants this session to end: the reason, for people.
    Shutdown(&'static str),
}

/// One handing-out of a message.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// On which channel.
    pub channel: u16,
    /// Numbered from 1 on its channel.
    pub tag: u64,
    /// It may have been handed out before.
    pub is_redelivered: bool,
    /// How often it came back unsettled so far; `None` when the queue does not show it.
    pub returns: Option<u32>,
    /// Its id as a job; `None` for a message that lives in memory only.
    pub job: Option<JobId>,
    /// The message.
    pub message: MessageRef<'a>,
}

/// What the pipeline hands to a door, in order.
#[derive(Debug)]
pub enum Output<'a> {
    /// The answer to a request.
    Reply {
        /// On which channel it was asked.
        channel: u16,
        /// Of the request.
        ticket: Ticket,
        /// The answer.
        reply: Reply,
    },
    /// Not asked for just now.
    Event(Event<'a>),
}
