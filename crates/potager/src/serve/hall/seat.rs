//! [`Seat`]: one session of the engine and the calls that run under it. Outputs find their call by
//! the upper half of their ticket; whoever waits is told by a bell of its own.
//!
//! A `Take` has a channel to itself while its call runs, because a wait is withdrawn by channel.
//! The channel stays open afterwards, for the next one: what was taken on it belongs to it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::{Answer, Ask, Call, Code, Failure, Lane};
use model::{Envelope, Event, Millis, Noun, Output, Refusal, Reply, Request, SessionId, Ticket};
use replica::Actor;
use tokio::sync::Notify;
use wire::Service;

use crate::serve::server::{self, Server};

/// The channel of all questions that need none of their own.
const SHARED: u16 = 1;
/// Channels beside that one.
const OWN_MAX: u16 = 64;
/// The number of no call: what prepares the session.
const NOBODY: u32 = 0;

/// See the head of the file.
pub(super) struct Seat {
    server: Rc<Server>,
    session: SessionId,
    /// Rung by the engine.
    bell: Rc<Notify>,
    state: RefCell<State>,
    keep: Cell<Duration>,
    heard: Cell<Instant>,
    is_closed: Cell<bool>,
    /// Nobody else brings what comes.
    is_one_off: bool,
}

#[derive(Default)]
struct State {
    calls: HashMap<u32, Slot>,
    last: u32,
    /// Channels that are open and used by no call.
    free: Vec<u16>,
    opened: u16,
    /// The session is no good any more.
    end: Option<Failure>,
    /// It never was: answers that came all the same say less than this.
    is_stillborn: bool,
}

struct Slot {
    call: Call,
    channel: Option<u16>,
    news: Rc<Notify>,
    is_abandoned: bool,
}

impl Seat {
    /// Opens a session in a user's name, known as `label`.
    pub(super) fn open(
        server: &Rc<Server>,
        (user, label): (Bytes, Bytes),
        call: &Call,
    ) -> Rc<Self> {
        let bell = Rc::new(Notify::new());
        let ring = Rc::clone(&bell);
        let is_one_off = *call.under() == gateway::Under::OneOff;
        let door = if is_one_off { "http" } else { "work" };
        let wake = Rc::new(move || ring.notify_one());
        let session = server.open_named(Actor::User(user), label, door, wake);
        let prepare = |channel, request| Envelope { channel, ticket: Ticket(0), request };
        let mut batch = vec![
            prepare(0, Request::OpenVhost(call.vhost().clone())),
            prepare(SHARED, Request::OpenChannel { is_strict: false }),
        ];
        server.submit(session, &mut batch);
        Rc::new(Self {
            server: Rc::clone(server),
            session,
            bell,
            state: RefCell::new(State { opened: SHARED, ..State::default() }),
            keep: Cell::default(),
            heard: Cell::new(Instant::now()),
            is_closed: Cell::new(false),
            is_one_off,
        })
    }

    /// Ends the session; what it holds goes back.
    pub(super) fn close(&self) {
        if !self.is_closed.replace(true) {
            self.server.close(self.session);
        }
    }

    /// The session takes no further calls.
    pub(super) fn is_ended(&self) -> bool {
        self.is_closed.get() || self.state.borrow().end.is_some()
    }

    /// Nothing was heard of the worker for as long as it is kept.
    pub(super) fn is_idle(&self) -> bool {
        self.state.borrow().calls.is_empty() && self.heard.get().elapsed() >= self.keep()
    }

    pub(super) fn keep(&self) -> Duration {
        self.keep.get()
    }

    pub(super) fn keep_for(&self, keep: Duration) {
        self.keep.set(self.keep.get().max(keep));
        self.heard.set(Instant::now());
    }

    /// Something has come.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Takes a call in; returns its number.
    ///
    /// # Errors
    /// The session has ended.
    pub(super) fn enter(&self, call: Call) -> Result<u32, Failure> {
        let mut state = self.state.borrow_mut();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        let number = state.next_number();
        let news = Rc::new(Notify::new());
        state.calls.insert(number, Slot { call, channel: None, news, is_abandoned: false });
        Ok(number)
    }

    pub(super) fn start(&self, number: u32) -> Vec<Ask> {
        let mut state = self.state.borrow_mut();
        state.calls.get_mut(&number).map(|slot| slot.call.start(server::now())).unwrap_or_default()
    }

    /// Asks what a call wants to ask.
    ///
    /// # Errors
    /// The call needs a channel of its own and there is none.
    pub(super) fn submit(&self, number: u32, asks: Vec<Ask>) -> Result<(), Failure> {
        let mut batch = Vec::with_capacity(asks.len() + 1);
        {
            let mut state = self.state.borrow_mut();
            for ask in asks {
                let channel = match ask.lane {
                    Lane::Shared => SHARED,
                    Lane::Own => state.own(number, &mut batch).ok_or_else(too_many)?,
                };
                let ticket = Ticket(u64::from(number) << 32 | ask.ticket.0);
                batch.push(Envelope { channel, ticket, request: ask.request });
            }
        }
        if !batch.is_empty() && !self.is_closed.get() {
            self.server.submit(self.session, &mut batch);
        }
        Ok(())
    }

    /// Brings every call what has come for it, and asks what follows from that.
    pub(super) fn pump(&self) {
        loop {
            let mut follows = Vec::new();
            let mut state = self.state.borrow_mut();
            let outcome = self.server.collect(self.session, &mut |output| {
                state.hear(output, &mut follows);
                Ok(true)
            });
            if outcome.is_err() {
                state.end.get_or_insert_with(stopping);
            }
            for slot in state.calls.values() {
                slot.news.notify_one();
            }
            state.sweep();
            drop(state);
            let is_quiet = follows.is_empty();
            for (number, asks) in follows {
                // A call that asks again has its channel.
                let _given = self.submit(number, asks);
            }
            if is_quiet && !outcome.unwrap_or(false) {
                return;
            }
        }
    }

    /// Waits until something may have changed for a call.
    pub(super) async fn news(&self, number: u32) {
        if self.is_one_off {
            self.bell.notified().await;
            self.pump();
            return;
        }
        let news = self.state.borrow().calls.get(&number).map(|slot| Rc::clone(&slot.news));
        if let Some(news) = news {
            news.notified().await;
        }
    }

    /// Waits until the log takes more.
    pub(super) async fn room(&self, number: u32) {
        while self.server.is_paused(self.session) && !self.is_ended() {
            self.news(number).await;
        }
    }

    /// The call's answer, if it is there.
    pub(super) fn answer(&self, number: u32) -> Option<Result<Answer, Failure>> {
        let mut state = self.state.borrow_mut();
        let State { calls, end, is_stillborn, .. } = &mut *state;
        let slot = calls.get_mut(&number)?;
        let answer = if *is_stillborn { None } else { slot.call.answer() };
        answer.map(Ok).or_else(|| end.clone().map(Err))
    }

    pub(super) fn deadline(&self, number: u32) -> Option<Millis> {
        self.state.borrow().calls.get(&number)?.call.deadline()
    }

    pub(super) fn on_deadline(&self, number: u32) {
        let mut state = self.state.borrow_mut();
        let asks = state.calls.get_mut(&number).map(|slot| slot.call.on_deadline());
        drop(state);
        let _given = self.submit(number, asks.unwrap_or_default());
        // What is answered at once rings no bell.
        self.pump();
    }

    /// The call has its answer, or nobody wants it any more.
    pub(super) fn leave(&self, number: u32) {
        self.heard.set(Instant::now());
        let mut state = self.state.borrow_mut();
        let Some(slot) = state.calls.get_mut(&number) else { return };
        let asks = slot.call.abandon();
        slot.is_abandoned = true;
        if asks.is_empty() && slot.call.is_over() {
            state.remove(number);
            return;
        }
        drop(state);
        let _given = self.submit(number, asks);
        self.pump();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn next_number(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != NOBODY && !self.calls.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// The channel of a call; one that is new is opened.
    fn own(&mut self, number: u32, batch: &mut Vec<Envelope>) -> Option<u16> {
        let slot = self.calls.get_mut(&number)?;
        if slot.channel.is_none() {
            slot.channel = self.free.pop();
        }
        if slot.channel.is_none() && self.opened < SHARED + OWN_MAX {
            self.opened += 1;
            let request = Request::OpenChannel { is_strict: false };
            batch.push(Envelope { channel: self.opened, ticket: Ticket(0), request });
            slot.channel = Some(self.opened);
        }
        slot.channel
    }

    /// Drops what was abandoned and is over.
    fn sweep(&mut self) {
        let is_over = |slot: &Slot| slot.is_abandoned && slot.call.is_over();
        let over: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, slot)| is_over(slot))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u32) {
        if let Some(channel) = self.calls.remove(&number).and_then(|slot| slot.channel) {
            self.free.push(channel);
        }
    }

    fn hear(&mut self, output: Output<'_>, follows: &mut Vec<(u32, Vec<Ask>)>) {
        let Some(ticket) = gateway::ticket_of(&output) else {
            if matches!(output, Output::Event(Event::Shutdown(_))) {
                self.end.get_or_insert_with(stopping);
            }
            return;
        };
        let number = u32::try_from(ticket.0 >> 32).unwrap_or(NOBODY);
        if let Some(slot) = self.calls.get_mut(&number) {
            let asks = slot.call.on_output(output);
            if !asks.is_empty() {
                follows.push((number, asks));
            }
        } else if let Output::Reply { reply: Reply::Refused(refusal), .. } = output
            && number == NOBODY
        {
            self.is_stillborn = true;
            self.end.get_or_insert_with(|| closed(&refusal));
        }
    }
}

fn too_many() -> Failure {
    Failure::new(Code::TooManyWaiting, "the worker waits in too many calls")
}

fn stopping() -> Failure {
    Failure::new(Code::Unavailable, "the server is stopping, or the login has ended")
}

/// The virtual host is not there, or not for this user.
fn closed(refusal: &Refusal) -> Failure {
    if matches!(refusal, Refusal::NotFound { noun: Noun::Vhost, .. }) {
        return Failure::new(Code::NotFound, "there is no such virtual host");
    }
    if matches!(refusal, Refusal::NotPermitted { .. } | Refusal::AccessRefused { .. }) {
        return Failure::new(Code::NotPermitted, "the user may not enter this virtual host");
    }
    stopping()
}
