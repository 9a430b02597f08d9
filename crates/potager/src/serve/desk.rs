//! [`Desk`]: asks the engine single questions, for the HTTP door and the server itself. Each
//! question is a short session of its own, in the name of whoever asks, so that it has their rights
//! and waits for durability like everybody else.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use model::{Envelope, Output, Refusal, Reply, Request, SessionId, Ticket};
use replica::Actor;
use tokio::sync::Notify;
use wire::{Close, Peer, Service};

use super::hall::Hall;
use super::server::Server;

/// The channel of all questions.
const CHANNEL: u16 = 1;
/// The ticket of the question itself; what prepares it has ticket 0.
const QUESTION: Ticket = Ticket(1);

/// A place to ask.
#[derive(Clone)]
pub(crate) struct Desk {
    server: Rc<Server>,
    hall: Rc<Hall>,
}

impl Desk {
    pub(crate) fn new(server: Rc<Server>) -> Self {
        let hall = Hall::new(Rc::clone(&server));
        Self { server, hall }
    }

    /// Where the calls of the work API are carried out.
    pub(crate) fn hall(&self) -> Rc<Hall> {
        Rc::clone(&self.hall)
    }

    /// The server behind the desk.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The server as a service for doors.
    pub(crate) fn server_rc(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    /// Asks one thing in somebody's name, in a virtual host when it needs one. A storage fault ends
    /// the process, so this always answers or dies with it.
    pub(crate) async fn ask(&self, actor: Actor, vhost: Option<Bytes>, request: Request) -> Reply {
        let news = Rc::new(Notify::new());
        let bell = Rc::clone(&news);
        let peer = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), door: "http" };
        let is_stranger = actor == Actor::Stranger;
        let session = self.server.open_as(actor, &peer, Rc::new(move || bell.notify_one()));
        let guard = SessionGuard { server: &self.server, session };
        let mut batch = Vec::with_capacity(3);
        if let Some(vhost) = vhost {
            batch.push(envelope(0, Ticket(0), Request::OpenVhost(vhost)));
        }
        if !is_stranger {
            let open = Request::OpenChannel { is_strict: false };
            batch.push(envelope(CHANNEL, Ticket(0), open));
        }
        batch.push(envelope(CHANNEL, QUESTION, request));
        self.server.submit(session, &mut batch);
        let reply = loop {
            if let Some(reply) = self.look(session) {
                break reply;
            }
            news.notified().await;
        };
        drop(guard);
        reply
    }

    /// The answer, if it is there: to the question, or a refusal of what prepares it.
    fn look(&self, session: SessionId) -> Option<Reply> {
        let mut answer = None;
        let outcome = self.server.collect(session, &mut |output| {
            if let Output::Reply { ticket, reply, .. } = output
                && (ticket == QUESTION || matches!(reply, Reply::Refused(_)))
                && answer.is_none()
            {
                answer = Some(reply);
            }
            Ok(true)
        });
        match outcome {
            Ok(_) => answer,
            Err(Close::Done | Close::Violation(_) | Close::Silence(_) | Close::Shutdown(_)) => {
                Some(Reply::Refused(Box::new(Refusal::NotOpen)))
            }
        }
    }
}

const fn envelope(channel: u16, ticket: Ticket, request: Request) -> Envelope {
    Envelope { channel, ticket, request }
}

/// Closes the session also when the question is given up half way.
struct SessionGuard<'a> {
    server: &'a Server,
    session: SessionId,
}

impl Drop for SessionGuard<'_> {
    fn drop(&mut self) {
        self.server.close(self.session);
    }
}
