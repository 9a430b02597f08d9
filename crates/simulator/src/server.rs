//! [`Server`]: the real node over the simulated disk, and its lines: what the binary puts together
//! out of runtime, doors and pipeline, here without threads and sockets.
//!
//! Lives here: opening, turns, logins, lines. Not here: when things happen (`world`), what goes
//! wrong (`world::faults`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use journal::disk::FaultyDisk;
use journal::{Fault, Workers};
use model::{
    Admin, Envelope, Limits, Millis, Output, Permission, Reply, Request, SessionId, Ticket,
};
use replica::{Actor, Node, Recovered, SessionInfo, Startup};

use crate::dice::Dice;
use crate::fact::ConnId;
use crate::hatch::Hatch;
use crate::line::{Line, Moment};
use crate::speech::Door;

/// Rounds of log work within which a fresh server has its first user.
const FIRST_USER_ROUNDS: u32 = 64;

/// How a server is set up in this run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) journal: journal::Options,
    pub(crate) limits: Limits,
    pub(crate) door: Arc<proto_amqp::Options>,
    pub(crate) tubes: Arc<proto_beanstalk::Options>,
}

/// No process stands around the beanstalk door.
struct Nobody;

impl proto_beanstalk::Host for Nobody {
    fn facts(&self) -> proto_beanstalk::HostFacts {
        proto_beanstalk::HostFacts::default()
    }

    fn is_draining(&self) -> bool {
        false
    }
}

/// See the module's head.
pub(crate) struct Server {
    pub(crate) setup: Setup,
    pub(crate) node: Option<Node>,
    pub(crate) disk: FaultyDisk,
    pub(crate) lines: BTreeMap<ConnId, Line>,
    /// Lines for which the node has something.
    pub(crate) rung: Rc<RefCell<Vec<ConnId>>>,
    entropy: Dice,
    /// Virtual time zero as the doors see it. Only differences are ever looked at.
    pub(crate) base: Instant,
}

impl Server {
    pub(crate) fn new(setup: Setup, entropy: Dice) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an origin; only differences are looked at")]
        let base = Instant::now();
        let (node, disk, lines) = (None, FaultyDisk::new(), BTreeMap::new());
        Self { setup, node, disk, lines, rung: Rc::default(), entropy, base }
    }

    /// Starts the server on what its disk holds.
    pub(crate) fn open(&mut self, wall: Millis) -> Result<Recovered, Startup> {
        let mut entropy = self.entropy.fork();
        let options =
            replica::Options { journal: self.setup.journal.clone(), limits: self.setup.limits };
        let disk = Arc::new(self.disk.clone());
        let entropy = Box::new(move || entropy.roll());
        let (node, recovered) = Node::open(disk, options, Workers::Inline, wall, entropy)?;
        self.lines.clear();
        let node = self.node.insert(node);
        if recovered.is_new {
            first_user(node, wall)?;
        }
        Ok(recovered)
    }

    /// A client's connection arrives.
    pub(crate) fn accept(&mut self, conn: ConnId, door: Door, moment: Moment) -> bool {
        let nonce = self.entropy.roll();
        let Some(node) = self.node.as_mut() else { return false };
        let rung = Rc::clone(&self.rung);
        let peer = Bytes::from_static(b"127.0.0.1:1");
        let (door, actor) = match door {
            Door::Amqp => ("amqp", Actor::Stranger),
            Door::Beanstalk => ("beanstalk", Actor::User(Bytes::from_static(b"guest"))),
            Door::Work => ("work", Actor::User(Bytes::from_static(b"guest"))),
        };
        let info = SessionInfo { peer, door, actor };
        let session = node.open_session(info, Rc::new(move || rung.borrow_mut().push(conn)));
        let connection: Box<dyn wire::Connection> = match door {
            "amqp" => {
                let options = Arc::clone(&self.setup.door);
                Box::new(proto_amqp::Connection::new(options, true, nonce, moment.instant()))
            }
            "beanstalk" => {
                let options = Arc::clone(&self.setup.tubes);
                Box::new(proto_beanstalk::Connection::new(options, Rc::new(Nobody), true))
            }
            _ => Box::new(Hatch::default()),
        };
        let mut line = Line::new(session, connection);
        line.open(node, moment);
        self.lines.insert(conn, line);
        true
    }

    /// The end of a turn, and the answers to logins.
    pub(crate) fn turn(&mut self, wall: Millis) -> Result<Option<Millis>, Fault> {
        let Some(node) = self.node.as_mut() else { return Ok(None) };
        let commit = node.commit(wall)?;
        for login in node.take_logins() {
            let is_ok = login.hash.is_some();
            node.verified(wall, &login, is_ok);
        }
        Ok(commit.deadline)
    }
}

/// What the binary does before its doors open on a new directory.
fn first_user(node: &mut Node, wall: Millis) -> Result<(), Fault> {
    let session = node.open_session(SessionInfo::default(), Rc::new(|| {}));
    let admin = Admin::PutUser {
        name: Bytes::from_static(b"guest"),
        password_hash: Bytes::from_static(b"$simulated$"),
        tags: Bytes::from_static(b"administrator"),
    };
    let right = Admin::SetPermission {
        user: Bytes::from_static(b"guest"),
        vhost: Bytes::from_static(b"/"),
        permission: Permission::full(),
    };
    let ask = |(ticket, admin)| {
        let request = Request::Admin(Box::new(admin));
        Envelope { channel: 0, ticket: Ticket(ticket), request }
    };
    let mut batch: Vec<Envelope> = [(0, admin), (1, right)].map(ask).into();
    node.submit(wall, session, &mut batch);
    for _ in 0..FIRST_USER_ROUNDS {
        node.commit(wall)?;
        if is_answered(node, wall, session) {
            break;
        }
        node.run_pending();
    }
    node.close_session(wall, session);
    Ok(())
}

fn is_answered(node: &mut Node, wall: Millis, session: SessionId) -> bool {
    let mut is_done = false;
    let outcome = node.collect(wall, session, &mut |output| {
        is_done |= matches!(output, Output::Reply { reply: Reply::Done, .. });
        Ok::<_, std::convert::Infallible>(true)
    });
    outcome.is_ok() && is_done
}
