//! Publishes that come although the log has no room to spare: which requests that concerns, and
//! what they are answered. Not here: when (`Node::submit`), and holding back who has published
//! before (`Node::is_paused`).

use engine::Push;
use model::{Enqueue, Envelope, Op, Publish, Refusal, Reply, Request, Results, StoreResult, Work};

/// What a message has in the log besides names, properties and body: heads, and some targets.
const OVERHEAD_BYTES: usize = 128;

/// About how much log the messages of a request take; 0 when it adds none.
pub(crate) fn added_bytes(request: &Request) -> u64 {
    let bytes = if let Request::Publish(publish) = request {
        message_bytes(publish)
    } else if let Request::Commit(ops) = request {
        ops.iter().map(step_bytes).sum()
    } else if let Request::Enqueue(job) = request {
        job_bytes(job)
    } else if let Request::Results(question) = request
        && let Results::Put(result) = &**question
    {
        result_bytes(result)
    } else if makes_records(request) {
        OVERHEAD_BYTES
    } else {
        0
    };
    bytes as u64
}

/// Whether a request writes something that can as well be asked for later: a queue of jobs that is
/// made, jobs that are kicked, a result that no job is acknowledged with.
fn makes_records(request: &Request) -> bool {
    if let Request::Results(question) = request {
        return matches!(**question, Results::Put(_));
    }
    let Request::Work(work) = request else { return false };
    matches!(**work, Work::Use(_) | Work::Watch(_) | Work::Kick(..))
}

fn step_bytes(op: &Op) -> usize {
    match op {
        Op::Publish(publish) => message_bytes(publish),
        Op::Enqueue(job) => job_bytes(job),
        Op::Store(result) => result_bytes(result),
        Op::Ack { .. } | Op::Release { .. } | Op::Finish(_) => 0,
    }
}

fn job_bytes(job: &Enqueue) -> usize {
    OVERHEAD_BYTES + job.queue.len() + job.properties.len() + job.body.len()
}

fn result_bytes(result: &StoreResult) -> usize {
    OVERHEAD_BYTES + result.key.len() + result.notes.len() + result.value.len()
}

const fn message_bytes(publish: &Publish) -> usize {
    let names = publish.exchange.len() + publish.routing_key.len();
    OVERHEAD_BYTES + names + publish.properties.len() + publish.body.len()
}

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
        && ops.iter().any(|op| step_bytes(op) > 0)
    {
        Reply::Refused(Box::new(no_room()))
    } else if matches!(envelope.request, Request::Enqueue(_)) || makes_records(&envelope.request) {
        Reply::Refused(Box::new(no_room()))
    } else {
        return None;
    };
    Some(Push::Reply { channel: envelope.channel, ticket: envelope.ticket, reply })
}

const fn no_room() -> Refusal {
    Refusal::Unavailable { reason: "the disk is full; consume messages or make room" }
}
