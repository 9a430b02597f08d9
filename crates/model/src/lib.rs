//! The language between front doors and the engine: ids, requests, replies, events, limits.
//!
//! Lives here: every shared noun, and the one stored shape of a message's properties. Not
//! here: behaviour (engine), bytes on a socket (wire, proto-*), bytes on disk (journal).
//! Everybody imports this crate; it imports nobody of ours.

mod id;
mod job;
mod lease;
pub mod limits;
mod log;
mod lsn;
mod message;
mod permission;
pub mod properties;
mod refusal;
mod reply;
mod request;
mod result;
pub mod table;
mod topology;

pub use id::{ConsumerId, Millis, QueueId, SessionId, Ticket, VhostId};
pub use job::{
    Enqueue, JobCounts, JobFacts, JobId, JobState, JobVerb, QueueFacts, RANK, Ties, Work,
    WorkCount, WorkFacts,
};
pub use lease::{
    Attempt, AttemptEnd, FAILURE_CLASS_BYTES_MAX, FAILURE_MESSAGE_BYTES_MAX, Failure, GiveBack,
    Held, Idle, JobRef, NoJobRef, Take, TakenFacts,
};
pub use limits::Limits;
pub use log::{Log, Record, Stamp};
pub use lsn::Lsn;
pub use message::{MessageRef, Publish, PublishOptions};
pub use permission::{Permission, Tag, TopicPermission, Verb};
pub use properties::Properties;
pub use refusal::{Noun, Refusal};
pub use reply::{Cell, Delivery, Event, Output, Reply, Row};
pub use request::{
    Admin, Consume, Credentials, DeclareExchange, DeclareQueue, Envelope, Listing, Op, Proof,
    Request,
};
pub use result::{Policy, RESULT_KEY_BYTES_MAX, ResultFacts, ResultRef, Results, StoreResult};
pub use topology::{
    Binding, DestinationKind, ExchangeKind, ExchangeSpec, Overflow, QueueKind, QueueOptions,
    QueueSpec,
};
