//! What doors ask of the engine. One enum, so that there is one place where work enters.

use bytes::Bytes;

use crate::{
    Binding, ConsumerId, Enqueue, ExchangeSpec, GiveBack, Held, JobId, JobRef, JobVerb, Permission,
    Publish, QueueSpec, Results, StoreResult, Take, Ticket, TopicPermission, Work,
};

/// A request with its place in the asking session.
#[derive(Debug)]
pub struct Envelope {
    /// The door's own channel number (0 where a door has only one).
    pub channel: u16,
    /// Comes back with the reply.
    pub ticket: Ticket,
    /// What is asked.
    pub request: Request,
}

/// Everything a door can ask. Refusals come back as `Reply::Refused`.
#[derive(Debug)]
pub enum Request {
    /// Check a login; answered by `Authenticated` or `Refused(AccessRefused)`.
    Authenticate(Credentials),
    /// Enter a virtual host; answered by `Done`.
    OpenVhost(Bytes),
    /// Open a channel. `is_strict`: after a refusal everything on the channel is ignored until
    /// it is closed. Answered by `Done`.
    OpenChannel {
        /// See above.
        is_strict: bool,
    },
    /// Close a channel: its consumers end, its unsettled deliveries return. Answered by `Done`.
    CloseChannel,
    /// Create an exchange or check that an equal one is there. `Done`.
    DeclareExchange(Box<DeclareExchange>),
    /// Check that an exchange is there. `Done`.
    LookupExchange(Bytes),
    /// Delete an exchange. `Done`.
    DeleteExchange {
        /// Which.
        name: Bytes,
        /// Refuse while bindings leave from it.
        if_unused: bool,
    },
    /// Create a queue or check that an equal one is there. `Queue`.
    DeclareQueue(Box<DeclareQueue>),
    /// Check that a queue is there. `Queue`.
    LookupQueue(Bytes),
    /// Delete a queue. `Deleted` with the number of ready messages.
    DeleteQueue {
        /// Which.
        name: Bytes,
        /// Refuse while it has consumers.
        if_unused: bool,
        /// Refuse while it has messages.
        if_empty: bool,
    },
    /// Remove the ready messages of a queue. `Deleted`.
    PurgeQueue(Bytes),
    /// Add a binding. `Done`.
    Bind(Box<Binding>),
    /// Remove a binding. `Done`.
    Unbind(Box<Binding>),
    /// Route a message. `Published` or `Rejected` when `wants_confirm`; `Unroutable` before it
    /// when mandatory and nobody took it; otherwise no answer but a refusal.
    Publish(Publish),
    /// Set how many unsettled deliveries may be out; 0 is no limit. Takes effect on live
    /// consumers at once. `Done`.
    SetCredit {
        /// The limit.
        count: u32,
        /// For the whole channel instead of for each consumer.
        is_channel_wide: bool,
    },
    /// Start a consumer. `Done`, then deliveries.
    Consume(Box<Consume>),
    /// Stop a consumer; what it has stays with the channel. `Done`.
    Cancel(ConsumerId),
    /// Take one message now: `Event::Got` or `Reply::Empty`.
    Get {
        /// From which queue.
        queue: Bytes,
        /// Settle it at once.
        no_ack: bool,
    },
    /// Settle deliveries as done. No answer but a refusal.
    Ack {
        /// Delivery tag; 0 with `is_multiple` means all.
        tag: u64,
        /// Up to and including the tag.
        is_multiple: bool,
    },
    /// Give deliveries back, or drop (dead-letter) them. No answer but a refusal.
    Release {
        /// Delivery tag; 0 with `is_multiple` means all.
        tag: u64,
        /// Up to and including the tag.
        is_multiple: bool,
        /// Back to the queue, else dropped or dead-lettered.
        is_requeue: bool,
    },
    /// Give every unsettled delivery of the channel back to its queue. `Done`.
    Recover,
    /// All of it or nothing, one log entry. `Done` once durable; `Stored` when a step stores a
    /// result. When that result stays away because another one was first, nothing is published
    /// either: what it led to was published with the first.
    Commit(Vec<Op>),
    /// Nothing; `Done`, in its turn among the other answers of the channel.
    Echo,
    /// Put a job into a queue. `Enqueued` or `Rejected`.
    Enqueue(Enqueue),
    /// Hand over one job of the watched queues: the lowest rank, then the oldest. `Event::Got`,
    /// now or as soon as there is one, in the order of the claims; `LeaseEnding` when a lease of
    /// the channel ends within a second and nothing is ready; `Empty` after a `Withdraw`.
    Claim {
        /// The door will withdraw it after some time; only counted.
        is_timed: bool,
    },
    /// The oldest claim of the channel that still waits is given up; nothing happens when none
    /// does. No answer of its own. The same for a `Take` and for changes of results.
    Withdraw,
    /// Do something with one job.
    Job(JobId, JobVerb),
    /// About queues of jobs.
    Work(Box<Work>),
    /// Hand jobs over to a worker: `Event::Taken` each, then `Taken`.
    Take(Box<Take>),
    /// The leases of all jobs that the session took begin anew. `Renewed`, with all of them.
    Renew {
        /// They are the worker's for so many seconds from now on.
        lease_s: u32,
        /// What the worker believes to have. Those that nobody has (the server was away) are taken
        /// again.
        claims: Vec<Held>,
    },
    /// Give a job of the session back. `Released`, or `Empty` when it is not the worker's any more.
    GiveBack(Box<GiveBack>),
    /// Look at a job, whoever has it: `Event::Job` or `Empty`.
    Inspect(JobRef),
    /// About results.
    Results(Box<Results>),
    /// Administration; answered by `Done` or its own reply.
    Admin(Box<Admin>),
}

/// A step of [`Request::Commit`].
#[derive(Debug)]
pub enum Op {
    /// As `Request::Publish`.
    Publish(Publish),
    /// As `Request::Ack`.
    Ack {
        /// Delivery tag.
        tag: u64,
        /// Up to and including the tag.
        is_multiple: bool,
    },
    /// As `Request::Release`.
    Release {
        /// Delivery tag.
        tag: u64,
        /// Up to and including the tag.
        is_multiple: bool,
        /// Back to the queue, else dropped or dead-lettered.
        is_requeue: bool,
    },
    /// A job is done, whoever has it: also one whose lease is over, as long as nobody was faster.
    Finish(JobRef),
    /// Store a result; at most one in a commit.
    Store(Box<StoreResult>),
    /// As `Request::Enqueue`: the queue is made when it is missing. When it is full, the whole
    /// commit is refused.
    Enqueue(Box<Enqueue>),
}

/// A login attempt.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name.
    pub user: Bytes,
    /// Why the peer should be believed.
    pub proof: Proof,
    /// The peer's socket address is a loopback address.
    pub is_loopback: bool,
}

/// What a peer shows to be who it says it is. `Debug` hides secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A password, as sent; yet to be checked.
    Password(Bytes),
    /// A certificate that names the user; the door has checked it already.
    Certificate,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::Certificate => "Certificate",
        })
    }
}

/// See [`Request::DeclareExchange`].
#[derive(Debug)]
pub struct DeclareExchange {
    /// Its name.
    pub name: Bytes,
    /// What it should be.
    pub spec: ExchangeSpec,
}

/// See [`Request::DeclareQueue`].
#[derive(Debug)]
pub struct DeclareQueue {
    /// Its name, already made up by the door for server-named queues.
    pub name: Bytes,
    /// What it should be.
    pub spec: QueueSpec,
}

/// See [`Request::Consume`].
#[derive(Debug)]
pub struct Consume {
    /// From which queue.
    pub queue: Bytes,
    /// The door's number for this consumer.
    pub id: ConsumerId,
    /// The client's name for it, for listings.
    pub label: Bytes,
    /// Deliveries count as settled when they leave.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub is_exclusive: bool,
    /// Higher ones are served first; default 0.
    pub priority: i32,
}

/// Administration that is not a protocol's business. Passwords arrive as finished hashes.
#[derive(Debug)]
pub enum Admin {
    /// Create or change a user. `Done`.
    PutUser {
        /// User name.
        name: Bytes,
        /// PHC string (`$argon2id$...`).
        password_hash: Bytes,
        /// Comma-separated tags, e.g. `administrator`.
        tags: Bytes,
    },
    /// Change a user's tags; the password stays. `Done`.
    SetTags {
        /// User name.
        name: Bytes,
        /// Comma-separated.
        tags: Bytes,
    },
    /// Remove a user, their permissions and their connections. `Done`.
    DeleteUser(Bytes),
    /// Create a virtual host; a user who makes one has every right in it. `Done`.
    PutVhost(Bytes),
    /// Remove a virtual host and everything in it. `Done`.
    DeleteVhost(Bytes),
    /// Say what a user may do in a virtual host, from now on. `Done`.
    SetPermission {
        /// Who.
        user: Bytes,
        /// Where.
        vhost: Bytes,
        /// What.
        permission: Permission,
    },
    /// Take a user's right to enter a virtual host. `Done`.
    ClearPermission {
        /// Who.
        user: Bytes,
        /// Where.
        vhost: Bytes,
    },
    /// Restrict the routing keys of a user at a topic exchange, whether it is there yet or not.
    /// `Done`.
    SetTopicPermission {
        /// Who.
        user: Bytes,
        /// Where.
        vhost: Bytes,
        /// At which exchange.
        exchange: Bytes,
        /// Which keys.
        permission: TopicPermission,
    },
    /// Lift such restrictions. `Done`.
    ClearTopicPermission {
        /// Who.
        user: Bytes,
        /// Where.
        vhost: Bytes,
        /// At which exchange; `None` for all.
        exchange: Option<Bytes>,
    },
    /// Read users, vhosts, queues, ...: `Reply::Listing`.
    List(Listing),
}

/// What [`Admin::List`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Users with tags.
    Users,
    /// Virtual hosts.
    Vhosts,
    /// Queues with counts.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Bindings.
    Bindings,
    /// Open sessions.
    Connections,
    /// Consumers.
    Consumers,
    /// Permissions of users in virtual hosts.
    Permissions,
    /// Restrictions of routing keys.
    TopicPermissions,
}
