//! [`Server`]: the commit pipeline as the doors see it (`wire::Service`), and the task that ends
//! each turn. Everything runs on one thread; what other threads finish arrives by one bell.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use journal::Fault;
use model::{Envelope, Millis, Output, SessionId};
use net::Buffers;
use replica::{Actor, Login, Node, SessionInfo};
use tokio::sync::Notify;
use wire::{Close, Peer, Service};

use crate::login::Logins;

/// The node, shared by all connections of the thread.
pub(crate) struct Server {
    node: RefCell<Option<Node>>,
    /// Rung by connections (a turn has work) and by the journal's threads (something finished).
    bell: Arc<Notify>,
    is_rung: Cell<bool>,
    is_stopping: Cell<bool>,
    logins: Logins,
    /// Beanstalk clients may put no more jobs.
    pub(super) is_draining: Cell<bool>,
    /// What the journal counted when somebody last looked: a door that is asked while it is given
    /// answers cannot ask the node.
    pub(super) log: Cell<journal::Stats>,
    /// The buffers of the thread's connections, given back when nothing happens.
    pub(crate) buffers: Rc<Buffers>,
    /// When the certificate of the TLS doors ceases to hold.
    pub(super) certificate_ends: Cell<Option<SystemTime>>,
}

/// How long nothing must happen before memory is given back.
const IDLE: Duration = Duration::from_secs(5);

/// The wall clock.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Server {
    pub(crate) fn new(node: Node, bell: Arc<Notify>) -> Rc<Self> {
        Rc::new(Self {
            node: RefCell::new(Some(node)),
            bell,
            is_rung: Cell::new(false),
            is_stopping: Cell::new(false),
            logins: Logins::new(),
            is_draining: Cell::new(false),
            log: Cell::default(),
            buffers: Rc::new(Buffers::new()),
            certificate_ends: Cell::new(None),
        })
    }

    /// Does something with the node, if it is still open, and lets a turn follow.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let outcome = self.node.borrow_mut().as_mut().map(act);
        self.ring();
        outcome
    }

    /// As [`Server::with`], without letting a turn follow unless there is something to do.
    pub(crate) fn watch(&self, act: impl FnOnce(&mut Node)) {
        let has_work = self.node.borrow_mut().as_mut().is_some_and(|node| {
            act(node);
            node.has_work()
        });
        if has_work {
            self.ring();
        }
    }

    /// Reads from the node, if it is still open.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Node) -> T) -> Option<T> {
        self.node.borrow().as_ref().map(look)
    }

    /// Takes the node out; nothing can be submitted any more.
    pub(crate) fn take(&self) -> Option<Node> {
        self.node.borrow_mut().take()
    }

    /// The server is about to end: it is no longer ready for new work.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Says goodbye to every session.
    pub(crate) fn begin_stop(&self) {
        self.is_stopping.set(true);
        self.with(|node| node.shut_down("the server is stopping"));
    }

    fn ring(&self) {
        if !self.is_rung.replace(true) {
            self.bell.notify_one();
        }
    }

    /// Ends turns for ever: after every ready connection had its say, whatever they appended is
    /// handed to the commit thread, and what became durable is released.
    ///
    /// Returns only for a storage fault: the process must end then.
    pub(crate) async fn turns(self: &Rc<Self>) -> Fault {
        let mut is_trimmed = false;
        loop {
            self.is_rung.set(false);
            let outcome = self.node.borrow_mut().as_mut().map(|node| node.commit(now()));
            let deadline = match outcome {
                None => None,
                Some(Ok(commit)) => commit.deadline,
                Some(Err(fault)) => return fault,
            };
            self.check_logins();
            let longest = if is_trimmed { Duration::from_mins(1) } else { IDLE };
            let pause = deadline.map_or(longest, |deadline| {
                Duration::from_millis(deadline.0.saturating_sub(now().0)).min(longest)
            });
            tokio::select! {
                biased;
                () = self.bell.notified() => is_trimmed = false,
                () = tokio::time::sleep(pause) => {
                    if pause == IDLE && !is_trimmed {
                        is_trimmed = true;
                        self.trim();
                    }
                }
            }
        }
    }

    /// Gives memory of the last burst back.
    fn trim(&self) {
        if let Some(node) = self.node.borrow_mut().as_mut() {
            node.trim();
        }
        self.buffers.shrink();
    }

    /// Answers logins: known ones at once, others after a password check off the thread.
    fn check_logins(self: &Rc<Self>) {
        let waiting = self.node.borrow_mut().as_mut().map(Node::take_logins).unwrap_or_default();
        for login in waiting {
            let hash = login.hash.as_deref();
            if let Some(is_ok) = self.logins.check_cached(&login.user, &login.password, hash) {
                self.answer(&login, is_ok);
                continue;
            }
            let server = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let Login { user, password, hash, .. } = login.clone();
                let is_ok = server.logins.verify(user, password, hash).await;
                server.answer(&login, is_ok);
            });
        }
    }

    fn answer(&self, login: &Login, is_ok: bool) {
        self.with(|node| node.verified(now(), login, is_ok));
    }
}

impl Server {
    /// A session in somebody's name, whose login was good already.
    pub(crate) fn open_as(&self, actor: Actor, peer: &Peer, wake: Rc<dyn Fn()>) -> SessionId {
        let text = Bytes::from(peer.address.to_string());
        self.open_named(actor, text, peer.door, wake)
    }

    /// The same, for who is known by a name instead of an address.
    pub(super) fn open_named(
        &self,
        actor: Actor,
        peer: Bytes,
        door: &'static str,
        wake: Rc<dyn Fn()>,
    ) -> SessionId {
        let info = SessionInfo { peer, door, actor };
        self.with(|node| node.open_session(info, wake)).unwrap_or(SessionId(u64::MAX))
    }
}

impl Service for Server {
    /// Who comes through a door is a stranger until they log in.
    fn open(&self, peer: Peer, wake: Rc<dyn Fn()>) -> SessionId {
        self.open_as(Actor::Stranger, &peer, wake)
    }

    fn submit(&self, session: SessionId, batch: &mut Vec<Envelope>) {
        self.with(|node| node.submit(now(), session, batch));
        batch.clear();
    }

    fn collect(
        &self,
        session: SessionId,
        sink: &mut dyn FnMut(Output<'_>) -> Result<bool, Close>,
    ) -> Result<bool, Close> {
        let mut node = self.node.borrow_mut();
        let Some(node) = node.as_mut() else { return Ok(false) };
        let outcome = node.collect(now(), session, sink);
        if node.has_work() {
            self.ring();
        }
        outcome
    }

    fn is_paused(&self, session: SessionId) -> bool {
        self.read(|node| node.is_paused(session)).unwrap_or(true)
    }

    fn close(&self, session: SessionId) {
        self.with(|node| node.close_session(now(), session));
    }
}
