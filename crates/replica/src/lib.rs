//! The commit pipeline: requests in, outputs out, each only once it is durable.
//!
//! Lives here: [`Node`] with [`Node::submit`] (append + apply) and [`Node::commit`] (the end of a
//! turn: sync, release, upkeep), the mailboxes that hold outputs back, recovery. Not here: what
//! requests mean (`engine`), files (`journal`), sockets (`net`). Called by the binary, from one
//! thread. A cluster will be a second implementation of the same face.

mod alarm;
mod backup;
mod checkpoint;
mod clock;
mod cold;
mod company;
mod held;
mod log;
mod mailbox;
mod node;
mod recovery;
mod repair;
mod tally;
mod upkeep;

pub use alarm::Alarm;
pub use backup::{
    Answer, Backup, InlineBackup, NoBackup, Restored, Step, Unfit, restore_backup, verify_backup,
};
pub use checkpoint::BadState;
pub use clock::Entropy;
pub use engine::{Actor, Login, SessionInfo};
pub use node::{Commit, Node};
pub use recovery::{Options, Recovered, Startup};
pub use repair::{Examined, QueueFound, Unrepaired, examine, repair};
pub use tally::Tally;
