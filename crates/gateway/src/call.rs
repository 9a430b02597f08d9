//! [`Call`]: one HTTP call as a state machine, and what all calls have in common: questions with
//! tickets, a deadline, an end. What each call does stands in its own file below `call/`.
//!
//! Whoever drives a call puts its [`Ask`]s to the engine in order, brings it every output with
//! one of its tickets, tells it when its deadline has come, and takes its answer. When the client
//! goes away first, it says so ([`Call::abandon`]) and drives on until [`Call::is_over`].

pub(crate) mod claim;
pub(crate) mod complete;
pub(crate) mod give_back;
pub(crate) mod job;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod renew;
pub(crate) mod result;

use std::fmt;

use bytes::Bytes;
use model::{Event, Millis, Op, Output, Reply, Request, Results, Ticket};

use crate::address::Query;
use crate::{Answer, Failure, Incoming, map, route};

/// Under whose session a call runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Under {
    /// Nobody is asked anything, so nobody has to log in.
    Nobody,
    /// A session of its own that ends with the call.
    OneOff,
    /// The session of this worker, which stays.
    Worker {
        /// The name that it gave itself.
        name: Bytes,
        /// The longest lease that this call asks for; 0 when it asks for none.
        lease_s: u32,
    },
}

/// Which channel a question goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// One for all calls of the session.
    Shared,
    /// One that no other call uses until this one is over. It stays open: it owns what was taken.
    Own,
}

/// A question to the engine.
#[derive(Debug)]
pub struct Ask {
    /// Comes back with what belongs to it. Counted by each call alone, in the lower 32 bits: the
    /// upper ones are the driver's, to tell calls apart.
    pub ticket: Ticket,
    /// See [`Lane`].
    pub lane: Lane,
    /// What is asked.
    pub request: Request,
}

impl Ask {
    /// Whether it brings something that has to be kept, so that it waits while there is no room.
    #[must_use]
    pub fn is_adding(&self) -> bool {
        let keeps = |step: &Op| matches!(step, Op::Publish(_) | Op::Enqueue(_) | Op::Store(_));
        match &self.request {
            Request::Enqueue(_) | Request::Publish(_) => true,
            Request::Commit(steps) => steps.iter().any(keeps),
            Request::Results(question) => matches!(**question, Results::Put(_)),
            _ => false,
        }
    }
}

/// The questions of a call, in order.
#[derive(Debug, Default)]
pub(crate) struct Asks(Vec<Ask>);

impl Asks {
    pub(crate) fn ask(&mut self, ticket: usize, request: Request) {
        self.put(ticket, Lane::Shared, request);
    }

    pub(crate) fn ask_own(&mut self, ticket: usize, request: Request) {
        self.put(ticket, Lane::Own, request);
    }

    fn put(&mut self, ticket: usize, lane: Lane, request: Request) {
        let ticket = Ticket(u32::try_from(ticket).unwrap_or(u32::MAX).into());
        self.0.push(Ask { ticket, lane, request });
    }
}

/// What differs from call to call.
pub(crate) trait Task {
    fn start(&mut self, _asks: &mut Asks, _now: Millis) {}

    fn on_reply(&mut self, _asks: &mut Asks, _ticket: usize, _reply: Reply) {}

    fn on_event(&mut self, _asks: &mut Asks, _ticket: usize, _event: &Event<'_>) {}

    /// When it waits no longer.
    fn deadline(&self) -> Option<Millis> {
        None
    }

    fn on_deadline(&mut self, _asks: &mut Asks) {}

    /// The answer, once, when there is nothing left to hear.
    fn answer(&mut self) -> Option<Answer>;

    /// Nobody wants the answer any more: what was taken goes back.
    fn abandon(&mut self, _asks: &mut Asks) {}

    /// After it was abandoned: nothing will be heard that has to be undone.
    fn is_over(&self) -> bool {
        true
    }
}

/// See the head of the file.
pub struct Call {
    under: Under,
    vhost: Bytes,
    task: Box<dyn Task>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("under", &self.under).finish_non_exhaustive()
    }
}

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// It is none: the answer says why.
    pub fn parse(incoming: &Incoming<'_>) -> Result<Self, Box<Answer>> {
        route::find(incoming)
    }

    pub(crate) fn new(query: &Query, under: Under, task: impl Task + 'static) -> Self {
        let vhost = query.get("vhost").unwrap_or(Bytes::from_static(b"/"));
        Self::within(vhost, under, task)
    }

    pub(crate) fn within(vhost: Bytes, under: Under, task: impl Task + 'static) -> Self {
        Self { under, vhost, task: Box::new(task) }
    }

    /// Under whose session it runs.
    #[must_use]
    pub const fn under(&self) -> &Under {
        &self.under
    }

    /// In which virtual host.
    #[must_use]
    pub const fn vhost(&self) -> &Bytes {
        &self.vhost
    }

    /// The first questions.
    pub fn start(&mut self, now: Millis) -> Vec<Ask> {
        self.with(|task, asks| task.start(asks, now))
    }

    /// Hears an output with one of its tickets; returns what it asks next.
    pub fn on_output(&mut self, output: Output<'_>) -> Vec<Ask> {
        self.with(|task, asks| match output {
            Output::Reply { ticket, reply, .. } => task.on_reply(asks, number(ticket), reply),
            Output::Event(event) => {
                if let Some(ticket) = event_ticket(&event) {
                    task.on_event(asks, number(ticket), &event);
                }
            }
        })
    }

    /// When it waits no longer; `None` when it does not wait.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.task.deadline()
    }

    /// Its deadline has come.
    pub fn on_deadline(&mut self) -> Vec<Ask> {
        self.with(|task, asks| task.on_deadline(asks))
    }

    /// The answer, once, when it is there. Nothing is asked after that.
    pub fn answer(&mut self) -> Option<Answer> {
        self.task.answer()
    }

    /// The client is gone: the rest is about leaving nothing behind.
    pub fn abandon(&mut self) -> Vec<Ask> {
        self.with(|task, asks| task.abandon(asks))
    }

    /// After [`Call::abandon`]: it need not be driven any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.task.is_over()
    }

    fn with(&mut self, act: impl FnOnce(&mut dyn Task, &mut Asks)) -> Vec<Ask> {
        let mut asks = Asks::default();
        act(&mut *self.task, &mut asks);
        asks.0
    }
}

/// The ticket of the question that an output belongs to.
#[must_use]
pub const fn ticket_of(output: &Output<'_>) -> Option<Ticket> {
    match output {
        Output::Reply { ticket, .. } => Some(*ticket),
        Output::Event(event) => event_ticket(event),
    }
}

const fn event_ticket(event: &Event<'_>) -> Option<Ticket> {
    match event {
        Event::Got { ticket, .. }
        | Event::Job { ticket, .. }
        | Event::Taken { ticket, .. }
        | Event::Result { ticket, .. }
        | Event::ResultGone { ticket, .. } => Some(*ticket),
        Event::Deliver { .. }
        | Event::Cancelled { .. }
        | Event::Blocked(_)
        | Event::Shutdown(_) => None,
    }
}

/// The upper half is the driver's.
fn number(ticket: Ticket) -> usize {
    usize::try_from(ticket.0 & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

/// The failure that a reply is when it is not the one that was hoped for.
pub(crate) fn unhoped(reply: &Reply) -> Failure {
    if let Reply::Refused(refusal) = reply { map::failure(refusal) } else { map::odd() }
}

/// The answers of a batch, each in its place whenever it comes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    items: Vec<Option<String>>,
    open: usize,
}

impl Batch {
    /// An item whose answer is known; returns its place.
    pub(crate) fn known(&mut self, text: String) -> usize {
        self.items.push(Some(text));
        self.items.len() - 1
    }

    /// An item whose answer will come; returns its place.
    pub(crate) fn open(&mut self) -> usize {
        self.items.push(None);
        self.open += 1;
        self.items.len() - 1
    }

    /// The answer has come. A second one counts for nothing.
    pub(crate) fn close(&mut self, at: usize, text: String) -> bool {
        match self.items.get_mut(at) {
            Some(slot @ None) => {
                *slot = Some(text);
                self.open -= 1;
                true
            }
            _ => false,
        }
    }

    pub(crate) const fn is_complete(&self) -> bool {
        self.open == 0
    }

    /// All answers, in order.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.items).into_iter().flatten().collect()
    }
}
