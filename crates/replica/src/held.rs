//! Publishes that come although the log has no room to spare: which requests that concerns, and
//! what they are answered. Not here: when (`Node::submit`), and holding back who has published
//! before (`Node::is_paused`).

use engine::Push;
use model::{Envelope, Op, Refusal, Reply, Request};

/// The answer to a request that would add messages; `None` for every other.
///
/// Who wants confirms gets a negative one; for everybody else it is the request that failed.
pub(crate) fn refused(envelope: &Envelope) -> Option<Push> {
    let reply = if let Request::Publish(publish) = &envelope.request {
        if publish.options.wants_confirm {
            Reply::Rejected
        } else {
            Reply::Refused(Box::new(no_room()))
        }
    } else if let Request::Commit(ops) = &envelope.request
        && ops.iter().any(|op| matches!(op, Op::Publish(_)))
    {
        Reply::Refused(Box::new(no_room()))
    } else if let Request::Enqueue(_) = &envelope.request {
        Reply::Refused(Box::new(no_room()))
    } else {
        return None;
    };
    Some(Push::Reply { channel: envelope.channel, ticket: envelope.ticket, reply })
}

const fn no_room() -> Refusal {
    Refusal::Unavailable { reason: "the disk is full; consume messages or make room" }
}
