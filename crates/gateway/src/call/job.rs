//! Jobs by id: where one is and why, its end, and another try for it. Taking and finishing them is
//! `claim` and `complete`.

use model::{
    Event, JobFacts, JobRef, JobState, JobVerb, MessageRef, Millis, Reply, Request as Question,
};

use super::claim::put_message;
use super::{Asks, Call, Task, Under, unhoped};
use crate::answer::{Answer, Object};
use crate::route::Request;
use crate::{Code, Failure, map};

/// The ticket of the look at the job.
const LOOK: usize = 0;
/// The ticket of what is done with it.
const ACT: usize = 1;

/// What is wanted of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Look,
    Delete,
    Retry,
}

struct Wanted {
    job: JobRef,
    wish: Wish,
    answer: Option<Answer>,
}

pub(crate) fn read_look(request: &Request<'_>) -> Result<Call, Failure> {
    read(request, Wish::Look)
}

pub(crate) fn read_delete(request: &Request<'_>) -> Result<Call, Failure> {
    read(request, Wish::Delete)
}

pub(crate) fn read_retry(request: &Request<'_>) -> Result<Call, Failure> {
    read(request, Wish::Retry)
}

fn read(request: &Request<'_>, wish: Wish) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let id = request.named();
    let job = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok()).ok_or_else(gone)?;
    Ok(Call::new(&query, Under::OneOff, Wanted { job, wish, answer: None }))
}

fn gone() -> Failure {
    Failure::new(Code::NotFound, "the job is finished or was never there")
}

impl Task for Wanted {
    /// Every wish begins with a look: the other verbs do not know in which queue a job is meant.
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        asks.ask(LOOK, Question::Inspect(self.job));
    }

    fn on_event(&mut self, asks: &mut Asks, _ticket: usize, event: &Event<'_>) {
        let Event::Job { facts, published, message, .. } = event else { return };
        let verb = match self.wish {
            Wish::Look => {
                let text = shown(self.job, facts, *published, message);
                self.answer = Some(Answer::json(text));
                return;
            }
            Wish::Delete if facts.state == JobState::Claimed => {
                let text = "a worker has the job; it can be deleted when it is given back";
                self.answer = Some(Failure::new(Code::WrongState, text).into());
                return;
            }
            Wish::Delete => JobVerb::Delete,
            Wish::Retry => JobVerb::Kick,
        };
        asks.ask(ACT, Question::Job(self.job.id, verb));
    }

    fn on_reply(&mut self, _asks: &mut Asks, ticket: usize, reply: Reply) {
        let mut object = Object::new();
        object.text("id", &self.job.to_string());
        let failure = match (reply, self.wish) {
            (Reply::Done, Wish::Delete) => {
                object.text("outcome", "deleted");
                self.answer = Some(Answer::json(object.end()));
                return;
            }
            (Reply::Done, _) => {
                object.text("outcome", "ready");
                self.answer = Some(Answer::json(object.end()));
                return;
            }
            (Reply::Empty, Wish::Retry) if ticket == ACT => {
                Failure::new(Code::WrongState, "the job is neither buried nor delayed")
            }
            (Reply::Empty, _) => gone(),
            (other, _) => unhoped(&other),
        };
        self.answer = Some(failure.into());
    }

    fn answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }
}

fn shown(job: JobRef, facts: &JobFacts, published: Millis, message: &MessageRef<'_>) -> String {
    let id = job.to_string();
    let mut object = Object::new();
    object.text("id", &id);
    object.bytes("queue", &facts.queue);
    object.text("state", map::state(facts.state));
    if facts.worker.is_empty() {
        object.null("worker");
    } else {
        object.bytes("worker", &facts.worker);
    }
    object.number("left_s", facts.left_s);
    object.number("attempt", facts.claims);
    object.number("failures", facts.failures);
    object.number("interruptions", u64::from(facts.timeouts) + u64::from(facts.releases));
    object.number("published_ms", published.0);
    let attempts = facts.attempts.iter().map(|attempt| {
        let mut object = Object::new();
        object.bytes("worker", &attempt.worker);
        object.text("end", map::end(attempt.end));
        object.number("at_ms", attempt.at.0);
        object.bytes("class", &attempt.failure.class);
        object.bytes("message", &attempt.failure.message);
        object.end()
    });
    object.list("attempts", attempts);
    put_message(&mut object, &id, message);
    object.end()
}
