//! [`Hall`]: where the calls of the work API meet the engine. A worker has no connection of its
//! own, so what it holds belongs to a session that stands in its name and stays between its calls;
//! every other call has a short session like a question at the [`super::Desk`].
//!
//! Lives here: which session a call runs under, how long it waits, what becomes of it when its
//! client goes away. Not here: what calls mean (`gateway`), one session (`seat`).

mod seat;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use gateway::{Answer, Ask, Call, Code, Failure, Under};
use tokio::time::{sleep, timeout};

use super::server::{self, Server};
use seat::Seat;

/// Workers with a session.
const WORKERS_MAX: usize = 10_000;
/// A worker that is not heard of is forgotten after so long, or after two of its leases.
const KEEP_MIN: Duration = Duration::from_mins(2);
/// How long a call waits before it is told that the log takes nothing now.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long one that was taken in part waits for the rest.
const REST_MAX: Duration = Duration::from_secs(10);
/// Questions submitted together.
const BATCH: usize = 256;

/// Whose session it is.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Name {
    user: Bytes,
    vhost: Bytes,
    worker: Bytes,
}

/// See the head of the file.
pub(crate) struct Hall {
    server: Rc<Server>,
    workers: RefCell<HashMap<Name, Rc<Seat>>>,
}

impl Hall {
    pub(super) fn new(server: Rc<Server>) -> Rc<Self> {
        Rc::new(Self { server, workers: RefCell::default() })
    }

    /// Carries out a call in a user's name. Dropping the future gives the call up: what was
    /// taken for it goes back.
    pub(crate) async fn call(self: Rc<Self>, user: Bytes, mut call: Call) -> Answer {
        let outcome = match call.under().clone() {
            Under::Nobody => {
                call.start(server::now());
                call.answer().ok_or_else(lost)
            }
            Under::OneOff => {
                let seat = Seat::open(&self.server, (user, Bytes::new()), &call);
                let outcome = run(&seat, call).await;
                seat.close();
                outcome
            }
            Under::Worker { name, lease_s } => match self.seat(user, name, lease_s, &call) {
                Ok(seat) => run(&seat, call).await,
                Err(failure) => Err(failure),
            },
        };
        outcome.unwrap_or_else(Answer::from)
    }

    /// The session of a worker.
    fn seat(
        self: &Rc<Self>,
        user: Bytes,
        worker: Bytes,
        lease_s: u32,
        call: &Call,
    ) -> Result<Rc<Seat>, Failure> {
        let name = Name { user: user.clone(), vhost: call.vhost().clone(), worker: worker.clone() };
        let keep = KEEP_MIN.max(Duration::from_secs(2 * u64::from(lease_s)));
        let mut workers = self.workers.borrow_mut();
        if let Some(seat) = workers.get(&name).filter(|seat| !seat.is_ended()) {
            seat.keep_for(keep);
            return Ok(Rc::clone(seat));
        }
        if workers.len() >= WORKERS_MAX {
            return Err(Failure::new(Code::TooManyWaiting, "there are too many workers"));
        }
        let seat = Seat::open(&self.server, (user, worker), call);
        seat.keep_for(keep);
        workers.insert(name.clone(), Rc::clone(&seat));
        let watch = watch(Rc::downgrade(self), name, Rc::clone(&seat));
        tokio::task::spawn_local(watch);
        Ok(seat)
    }

    fn forget(&self, name: &Name, seat: &Rc<Seat>) {
        let mut workers = self.workers.borrow_mut();
        if workers.get(name).is_some_and(|found| Rc::ptr_eq(found, seat)) {
            workers.remove(name);
        }
    }
}

fn lost() -> Failure {
    Failure::new(Code::Unavailable, "the server gave no answer")
}

/// Brings a worker's session what comes for it, until nobody needs it any more.
async fn watch(hall: Weak<Hall>, name: Name, seat: Rc<Seat>) {
    while !seat.is_ended() {
        if timeout(seat.keep(), seat.rung()).await.is_ok() {
            seat.pump();
        } else if seat.is_idle() {
            break;
        }
    }
    if let Some(hall) = hall.upgrade() {
        hall.forget(&name, &seat);
    }
    seat.close();
}

/// Closes a call's part in a session, however the call ends.
struct Part<'a> {
    seat: &'a Rc<Seat>,
    number: u32,
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.seat.leave(self.number);
    }
}

/// Drives a call to its answer.
async fn run(seat: &Rc<Seat>, call: Call) -> Result<Answer, Failure> {
    let number = seat.enter(call)?;
    let part = Part { seat, number };
    let first = seat.start(number);
    let mut patience = PAUSE_MAX;
    let mut rest = first.into_iter();
    loop {
        let batch: Vec<Ask> = rest.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        if batch.iter().any(Ask::is_adding) {
            let room = timeout(patience, seat.room(number)).await;
            let full = |_| Failure::new(Code::Unavailable, "the log or memory is short of room");
            room.map_err(full)?;
            patience = REST_MAX;
        }
        seat.submit(number, batch)?;
        seat.pump();
    }
    let answer = loop {
        if let Some(outcome) = seat.answer(number) {
            break outcome;
        }
        match seat.deadline(number) {
            None => seat.news(number).await,
            Some(deadline) => {
                let left = Duration::from_millis(deadline.0.saturating_sub(server::now().0));
                tokio::select! {
                    biased;
                    () = seat.news(number) => {}
                    () = sleep(left) => seat.on_deadline(number),
                }
            }
        }
    };
    drop(part);
    answer
}
