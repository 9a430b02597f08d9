//! [`Fact`]: what happened in a run, in the words of the promises. The world and the clients tell
//! facts in the order in which they happened; invariants listen. Nothing is concluded here.

mod job;
mod work;

pub use job::{JobAnswer, JobAnswered, JobAsk, JobWish, Stand, Tube};
pub use work::WorkFact;

/// Virtual time in microseconds since the run began.
pub type Micros = u64;
/// A published message, numbered in the order of publishing.
pub type MessageId = u32;
/// A queue of the garden.
pub type Place = u8;
/// One connection; a client that connects again is a new one.
pub type ConnId = u32;

/// A publish as it left the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sent {
    /// Which message.
    pub message: MessageId,
    /// The publishing channel of one connection: what it sends has an order.
    pub source: u32,
    /// The queues it must enter: all of them.
    pub targets: Vec<Place>,
    /// As sent.
    pub priority: u8,
    /// The shorter of the message's and the queue's time to live.
    pub ttl_ms: Option<u64>,
    /// Held so long by a delayed exchange.
    pub delay_ms: Option<u64>,
    /// The server stamps this time or a later one.
    pub log_ms: u64,
    /// The transaction it belongs to.
    pub job: Option<u32>,
}

/// A message as it reached a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one delivery")]
pub struct Delivered {
    /// Which message.
    pub message: MessageId,
    /// From which queue.
    pub place: Place,
    /// Over which connection.
    pub conn: ConnId,
    /// The consumer: unique over all connections; a `get` is its own.
    pub subscription: u32,
    /// Read back at the end of the run.
    pub is_gleaned: bool,
    /// Asked for by `basic.get`, when the wall clock showed this.
    pub asked_ms: Option<u64>,
    /// As flagged by the server.
    pub is_redelivered: bool,
    /// `x-delivery-count`.
    pub count: Option<u64>,
    /// The first reason in `x-death`.
    pub reason: Option<String>,
    /// The latest time that the server can have stamped so far.
    pub log_ms: u64,
    /// The server's end of this connection is known to be closed: what arrives is stale.
    pub is_stale: bool,
    /// No answer is expected.
    pub no_ack: bool,
}

/// A message in a queue, and the connection that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Held {
    /// Which message.
    pub message: MessageId,
    /// In which queue.
    pub place: Place,
    /// Over which connection.
    pub conn: ConnId,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crash {
    /// Killed; what was written stays with the system.
    Kill,
    /// The power failed; what was not flushed is at the mercy of the disk.
    Power,
    /// The server ended itself over a storage fault.
    Fault,
    /// An orderly stop.
    Stop,
}

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// A publish left a client.
    Sent(Sent),
    /// The server said yes to it; and the latest time that it can have stamped by then.
    Confirmed(MessageId, u64),
    /// The server said no to it.
    Refused(MessageId),
    /// A message reached a client.
    Delivered(Delivered),
    /// What reached a client is not what was published.
    Garbled {
        /// From which queue.
        place: Place,
        /// What is wrong.
        detail: String,
    },
    /// A client asked for so many unsettled deliveries per consumer at most; 0: any number.
    Asked(ConnId, u16),
    /// A client asked to consume from a queue.
    Subscribed(ConnId, Place),
    /// A client sent an acknowledgement.
    Acked(Held),
    /// The server refused the transaction in which it was acknowledged.
    Undone(Held),
    /// A client gave a message back to its queue.
    Returned(Held),
    /// As [`Fact::Returned`], and the server has shown since that it knows.
    ReturnSeen(Held),
    /// A client refused a message for good.
    Rejected(Held),
    /// The server showed that this message has left this queue for good.
    Settled(Held),
    /// The server said that it has emptied or deleted a queue; this message was sent before.
    Emptied(ConnId, Place, MessageId),
    /// This message was published in a transaction that was rolled back.
    RolledBack(MessageId),
    /// The wall clock was set back: times from before mean nothing any more.
    SetBack,
    /// A transaction was sent: its input, its result, its follower.
    Step {
        /// The input.
        input: Held,
        /// The result's message.
        result: MessageId,
        /// The follower's message.
        next: MessageId,
    },
    /// A queue or exchange that the server confirmed is not there.
    Missing(String),
    /// A client said goodbye: what it still has goes back.
    Leaving(ConnId),
    /// The server asked a client to go and took back what it had; what it sends may be unheard.
    Dismissed(ConnId),
    /// The server's end of a connection closed.
    Ended(ConnId),
    /// The server is gone.
    Crashed(Crash),
    /// The server is back.
    Recovered {
        /// The log's end.
        lsn: u64,
        /// Hash of the durable state.
        state: u64,
    },
    /// Everything appended is durable: the state at this position.
    Quiet {
        /// The log's end.
        lsn: u64,
        /// Hash of the durable state.
        state: u64,
    },
    /// What an independent replay of the disk gave, and what the node has, at one position.
    Compared {
        /// The node's hash.
        node: u64,
        /// Of the replay.
        replay: u64,
    },
    /// A damaged copy of the disk was opened beside a sound one; each with its end and its state.
    Examined {
        /// The log says of itself that everything before this was durable.
        proven: u64,
        /// The sound copy.
        right: (u64, u64),
        /// The damaged one.
        found: (u64, u64),
    },
    /// A backup is whole: the state when it began, and what it reads back as.
    BackedUp {
        /// The node's hash.
        state: u64,
        /// The backup's; `None` when it does not read.
        copy: Option<u64>,
    },
    /// A flush or write of the log failed.
    DiskFailed,
    /// The server moved on after such a failure.
    WentOn,
    /// A resource alarm began or ended.
    Alarm(bool),
    /// A client was told that publishing is held back, or free again.
    Blocked(ConnId, bool),
    /// A publisher with something unanswered was neither answered nor told why, for so long.
    Unanswered {
        /// The connection.
        conn: ConnId,
        /// Milliseconds.
        ms: u64,
    },
    /// Bytes that one connection of the server holds.
    Holding {
        /// The connection.
        conn: ConnId,
        /// Read but not parsed.
        input: usize,
        /// Written but not sent.
        output: usize,
    },
    /// A client asked something of the beanstalk door.
    JobAsked(JobAsk),
    /// It was answered.
    JobAnswered(JobAnswered),
    /// Of workers without a connection of their own.
    Work(WorkFact),
    /// Faults have stopped; everything has to work from now on.
    Healed,
    /// The run gave up waiting for this.
    Stuck(String),
    /// Everything that is left has been read back; nothing follows.
    End,
}
