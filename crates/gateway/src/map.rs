//! The engine's words <-> the API's: refusals, states, reasons. Pure functions; called by every
//! call. What status a failure has is `answer`'s.

use model::{AttemptEnd, Idle, JobState, Refusal};

use crate::{Code, Failure};

/// A refusal in the API's words.
pub(crate) fn failure(refusal: &Refusal) -> Failure {
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (code, message) = match refusal {
        Refusal::NotFound { noun, name: of } => {
            (Code::NotFound, format!("there is no {} '{}'", noun.word(), name(of)))
        }
        Refusal::NotPermitted { user, verb, noun, name: of, .. } => {
            let (verb, noun) = (verb.word(), noun.word());
            let text = format!("'{}' may not {verb} {noun} '{}'", name(user), name(of));
            (Code::NotPermitted, text)
        }
        Refusal::TagMissing(tag) => {
            (Code::NotPermitted, format!("only users with the tag {} may", tag.word()))
        }
        Refusal::AccessRefused { reason } => (Code::NotPermitted, reason.clone()),
        Refusal::LimitReached { limit } if limit.starts_with("bytes of") => {
            (Code::TooLarge, format!("a limit is reached: {limit}"))
        }
        Refusal::LimitReached { limit } => {
            (Code::LimitReached, format!("a limit is reached: {limit}"))
        }
        Refusal::Unavailable { reason } => (Code::Unavailable, (*reason).to_owned()),
        Refusal::NotOpen => (Code::Unavailable, "the server is stopping".to_owned()),
        Refusal::UnknownJob { .. } => (Code::NotFound, "there is no such job".to_owned()),
        Refusal::JobHeldElsewhere { .. } => {
            (Code::WrongState, "a client of another door has the job".to_owned())
        }
        Refusal::Locked { queue } => {
            (Code::WrongState, format!("the queue '{}' belongs to a connection", name(queue)))
        }
        Refusal::ExclusiveConsumer { queue } | Refusal::SingleActiveConsumer { queue } => {
            (Code::WrongState, format!("the queue '{}' serves one consumer only", name(queue)))
        }
        Refusal::InvalidPattern { reason, .. } => (Code::BadRequest, reason.clone()),
        Refusal::Inequivalent { noun, name: of, .. } | Refusal::InUse { noun, name: of } => {
            (Code::WrongState, format!("the {} '{}' is in use", noun.word(), name(of)))
        }
        Refusal::NotEmpty { queue } => {
            (Code::WrongState, format!("the queue '{}' is not empty", name(queue)))
        }
        Refusal::UnknownDelivery { .. } => (Code::WrongState, "the delivery is settled".to_owned()),
    };
    Failure { code, message }
}

/// The engine gave another reply than was asked for.
pub(crate) fn odd() -> Failure {
    Failure::new(Code::Unavailable, "the server gave no fitting reply")
}

pub(crate) const fn idle(idle: Idle) -> &'static str {
    match idle {
        Idle::Empty => "empty",
        Idle::Claimed => "claimed",
        Idle::Buried => "buried",
        Idle::Delayed => "delayed",
        Idle::Paused => "paused",
    }
}

pub(crate) const fn state(state: JobState) -> &'static str {
    match state {
        JobState::Ready => "ready",
        JobState::Claimed => "claimed",
        JobState::Delayed => "delayed",
        JobState::Buried => "buried",
    }
}

pub(crate) const fn end(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Failed => "failed",
        AttemptEnd::Released => "released",
        AttemptEnd::Expired => "expired",
        AttemptEnd::Lost => "lost",
    }
}
