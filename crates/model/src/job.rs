//! Jobs: messages with an id, claimed one at a time under a lease. A job is an ordinary message in
//! an ordinary queue; what stands here is what a door that speaks of jobs asks about it. The door
//! for AMQP sees the same message as a delivery.
//!
//! Not here: what any of it does (`engine`), the words of a protocol (`proto-*`).

use std::fmt;

use bytes::Bytes;

use crate::{Attempt, Lsn, Millis};

/// The rank of a message that was published without one. AMQP priority `n` is `RANK - 256 * n`.
pub const RANK: u32 = 1 << 16;

/// A job's id: the address of its record in the log. Persisted; never used again, also not after
/// a restart. A message that was routed to several queues has one id in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl From<Lsn> for JobId {
    fn from(lsn: Lsn) -> Self {
        Self(lsn.0)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Puts a new job straight into a queue, which is made when it is missing. `Enqueued`, or
/// `Rejected` when the queue is full. Byte fields may be slices of a network buffer.
#[derive(Clone, Debug, Default)]
pub struct Enqueue {
    /// Name of the queue; 1 to 255 bytes.
    pub queue: Bytes,
    /// The body, whole.
    pub body: Bytes,
    /// Its property list; empty for that of a persistent message without any other.
    pub properties: Bytes,
    /// Lowest first; see [`RANK`].
    pub rank: u32,
    /// Not to be claimed before so many seconds have passed.
    pub delay_s: u32,
    /// How long a claim of it lasts; 0 is as long as the claiming session.
    pub lease_s: u32,
    /// What else was said about it; `None` for nearly every job.
    pub ties: Option<Box<Ties>>,
}

/// How a job hangs together with others of its queue. Everything is gone with the job itself,
/// but for an idempotency key with a time of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ties {
    /// A second job with this key is not stored: the first one's id is answered.
    pub idempotency: Option<Bytes>,
    /// The key counts for so many seconds after the job was deleted.
    pub idempotency_s: u32,
    /// It belongs to this group.
    pub group: Option<Bytes>,
    /// It waits until no job of this group is left.
    pub after_group: Option<Bytes>,
    /// Of jobs with this key only so many are claimed at a time.
    pub concurrency: Option<(Bytes, u32)>,
}

/// What is done with a job whose id is known. Unless said otherwise the answer is `Done`, or
/// `Empty` when there is no such job, or it is not in a state in which this can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobVerb {
    /// Claim it, whether ready, delayed or buried: `Event::Got` or `Empty`.
    Claim,
    /// It is done, or nobody wants it any more: own claims, and what nobody has claimed.
    Delete,
    /// Give an own claim back. `Released`.
    Release {
        /// Its rank from now on.
        rank: u32,
        /// Not to be claimed before so many seconds have passed.
        delay_s: u32,
    },
    /// Lay an own claim aside until somebody kicks it. `Released` with `is_buried`.
    Bury {
        /// Its rank from now on.
        rank: u32,
    },
    /// The lease of an own claim begins anew.
    Renew,
    /// Make it ready if it is buried or delayed.
    Kick,
    /// Look at it, whoever has it: `Event::Job` or `Empty`.
    Look,
    /// The same, counted apart.
    Describe,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It can be claimed.
    Ready,
    /// Somebody has it.
    Claimed,
    /// Its time has not come.
    Delayed,
    /// Laid aside.
    Buried,
}

/// What is known about a job. Durations in seconds; counters are of this job alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Its id.
    pub id: JobId,
    /// The queue it is in.
    pub queue: Bytes,
    /// Where it is there.
    pub state: JobState,
    /// Lowest first.
    pub rank: u32,
    /// The delay it was last given.
    pub delay_s: u32,
    /// How long a claim of it lasts; 0 is as long as the claiming session.
    pub lease_s: u32,
    /// Until its delay or its lease ends; 0 when there is nothing to wait for.
    pub left_s: u64,
    /// Times it was claimed.
    pub claims: u32,
    /// Times a lease of it ran out.
    pub timeouts: u32,
    /// Times it was given back.
    pub releases: u32,
    /// Times it was buried.
    pub buries: u32,
    /// Times it was kicked.
    pub kicks: u32,
    /// Times a worker said that it failed.
    pub failures: u32,
    /// The worker that has it, if its session took it.
    pub worker: Bytes,
    /// What became of the last attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// When the question was answered; its age is counted up to then.
    pub now: Millis,
}

/// Jobs by state; of one queue or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Ready ones with a rank below 1024; they are counted as `ready`, too.
    pub urgent: u64,
    /// Ready.
    pub ready: u64,
    /// Claimed.
    pub claimed: u64,
    /// Delayed.
    pub delayed: u64,
    /// Buried.
    pub buried: u64,
    /// Messages that ever came in.
    pub total: u64,
}

/// What is known about a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// Its name.
    pub name: Bytes,
    /// What is in it.
    pub jobs: JobCounts,
    /// Sessions that use it for their jobs.
    pub using: u32,
    /// Sessions that watch it.
    pub watching: u32,
    /// Sessions that watch it and wait for a job now.
    pub waiting: u32,
    /// Jobs deleted.
    pub deletes: u64,
    /// Times it was paused.
    pub pauses: u64,
    /// The pause it is in, in seconds; 0 for none.
    pub pause_s: u64,
    /// Until that ends.
    pub pause_left_s: u64,
}

/// What sessions that work with jobs did and are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkFacts {
    /// In all queues of the virtual host.
    pub jobs: JobCounts,
    /// How often a lease ran out.
    pub timeouts: u64,
    /// Queues.
    pub queues: u64,
    /// Open sessions that have chosen a queue to use.
    pub sessions: u64,
    /// Those that have put at least one job.
    pub producers: u64,
    /// Those that have claimed at least once.
    pub workers: u64,
    /// Those that wait for a job now.
    pub waiting: u64,
    /// Sessions since the data directory was made.
    pub sessions_total: u64,
    /// Requests since the data directory was made, by [`WorkCount`].
    pub counts: [u64; WorkCount::ALL],
}

/// What is counted of the requests that have to do with jobs. The numbers are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the request of that name")]
pub enum WorkCount {
    Enqueue = 0,
    Look = 1,
    LookReady = 2,
    LookDelayed = 3,
    LookBuried = 4,
    Claim = 5,
    ClaimWithin = 6,
    ClaimById = 7,
    Use = 8,
    Watch = 9,
    Ignore = 10,
    Delete = 11,
    Release = 12,
    Bury = 13,
    Kick = 14,
    KickById = 15,
    Renew = 16,
    Describe = 17,
    DescribeJob = 18,
    DescribeQueue = 19,
    ListQueues = 20,
    Pause = 21,
}

impl WorkCount {
    /// How many there are.
    pub const ALL: usize = 22;
}

/// Requests about queues from doors that speak of jobs. All names are 1 to 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// This session puts its jobs there: the queue is made when missing and stays as long. `Done`.
    Use(Bytes),
    /// Claim from there too; the queue is made when missing and stays as long. `Watching`.
    Watch(Bytes),
    /// Claim from there no longer. `Watching`, with the same number when it was the last one.
    Ignore(Bytes),
    /// The first job in a state (the next to be claimed, to become ready, to be kicked):
    /// `Event::Job` or `Empty`.
    LookFirst(Bytes, JobState),
    /// Make at most so many jobs ready: buried ones if there are any, else delayed ones. `Kicked`.
    Kick(Bytes, u64),
    /// Hand nothing out from there for so many seconds. `Done` or `Empty`.
    Pause(Bytes, u32),
    /// `QueueFacts` or `Empty`.
    DescribeQueue(Bytes),
    /// `WorkFacts`.
    Describe,
    /// The names of all queues, in the order in which they were made: `Names`.
    ListQueues,
}
