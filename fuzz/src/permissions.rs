//! Permissions: any bytes as expressions are refused or answer; expressions of a small grammar give
//! the answers of the plainest possible matcher; and after a restart the answers are the same.

use bytes::Bytes;
use engine::{Actor, Effects, Engine, Push, SessionInfo};
use model::{
    Admin, Credentials, DeclareQueue, Envelope, Limits, Millis, Permission, Proof, QueueSpec,
    Refusal, Reply, Request, SessionId, Stamp, Ticket,
};

use crate::source::Source;
use crate::tape::Tape;

const SYSTEM: SessionId = SessionId::from_parts(0, 1);
const USER: SessionId = SessionId::from_parts(1, 1);
/// Letters of names and expressions; few, so that they meet.
const LETTERS: &[u8] = b"ab-.";
const NAMES_MAX: usize = 6;

/// One piece of an expression: a letter (`None` is any) and how often.
#[derive(Clone, Copy, Debug)]
struct Piece {
    letter: Option<u8>,
    least: usize,
    most: usize,
}

/// One alternative.
#[derive(Debug, Default)]
struct Branch {
    at_start: bool,
    at_end: bool,
    pieces: Vec<Piece>,
}

/// The first byte chooses between any bytes and the small grammar.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let is_raw = source.below(3) == 0;
    let mut branches = [Vec::new(), Vec::new()];
    let mut texts = [Bytes::new(), Bytes::new()];
    for (text, list) in texts.iter_mut().zip(&mut branches) {
        *text =
            if is_raw { Bytes::copy_from_slice(source.bytes(60)) } else { make(&mut source, list) };
    }
    let [configure, read] = texts;
    let permission = Permission { configure, write: Bytes::new(), read };
    let mut world = World::new();
    if world.ask(SYSTEM, set(permission)).is_err() {
        assert!(is_raw, "an expression of the small grammar was refused");
        return;
    }
    world.log_in();
    let mut answers = Vec::new();
    for _ in 0..NAMES_MAX {
        if source.is_empty() {
            break;
        }
        let name: Vec<u8> = (0..source.below(6)).map(|_| source.pick(LETTERS)).collect();
        if name.is_empty() {
            continue;
        }
        let name = Bytes::from(name);
        let may = world.may(&name);
        if !is_raw {
            assert_eq!(may[0], branches[0].iter().any(|branch| branch.agrees(&name)), "{name:?}");
            assert_eq!(may[1], branches[1].iter().any(|branch| branch.agrees(&name)), "{name:?}");
        }
        answers.push((name, may));
    }
    world.restart();
    for (name, may) in answers {
        assert_eq!(world.may(&name), may, "{name:?} after a restart");
    }
}

fn set(permission: Permission) -> Request {
    let (user, vhost) = (Bytes::from_static(b"u"), Bytes::from_static(b"/"));
    Request::Admin(Box::new(Admin::SetPermission { user, vhost, permission }))
}

/// An expression of the small grammar, as text and as pieces.
fn make(source: &mut Source<'_>, branches: &mut Vec<Branch>) -> Bytes {
    let mut text = String::new();
    for number in 0..=source.below(2) {
        if number > 0 {
            text.push('|');
        }
        let mut branch = Branch { at_start: source.is(), ..Branch::default() };
        if branch.at_start {
            text.push('^');
        }
        for _ in 0..=source.below(4) {
            let any = source.below(4) == 0;
            let letter = source.pick(LETTERS);
            match (any, letter) {
                (true, _) => text.push('.'),
                (false, b'.') => text.push_str("\\."),
                (false, letter) => text.push(char::from(letter)),
            }
            let (sign, least, most) = source.pick(&[
                ("", 1, 1),
                ("", 1, 1),
                ("*", 0, usize::MAX),
                ("+", 1, usize::MAX),
                ("?", 0, 1),
            ]);
            text.push_str(sign);
            branch.pieces.push(Piece { letter: (!any).then_some(letter), least, most });
        }
        branch.at_end = source.is();
        if branch.at_end {
            text.push('$');
        }
        branches.push(branch);
    }
    text.into()
}

impl Branch {
    /// Whether the name holds this anywhere.
    fn agrees(&self, name: &[u8]) -> bool {
        let last = if self.at_start { 0 } else { name.len() };
        (0..=last).any(|start| self.matches(&self.pieces, &name[start..]))
    }

    fn matches(&self, pieces: &[Piece], rest: &[u8]) -> bool {
        let Some((piece, later)) = pieces.split_first() else {
            return !self.at_end || rest.is_empty();
        };
        let fits = |byte: &&u8| piece.letter.is_none_or(|letter| letter == **byte);
        let run = rest.iter().take_while(fits).count().min(piece.most);
        (piece.least..=run).any(|taken| self.matches(later, &rest[taken..]))
    }
}

struct World {
    engine: Engine,
    tape: Tape,
}

impl World {
    fn new() -> Self {
        let mut world = Self { engine: Engine::new(Limits::default()), tape: Tape::default() };
        world.begin();
        let name = Bytes::from_static(b"u");
        let (password_hash, tags) = (name.clone(), Bytes::new());
        let put = Admin::PutUser { name, password_hash, tags };
        world.ask(SYSTEM, Request::Admin(Box::new(put))).expect("the system may");
        world
    }

    /// The system's own session.
    fn begin(&mut self) {
        self.engine.open_session(SYSTEM, SessionInfo::default());
        self.ask(SYSTEM, Request::OpenVhost(Bytes::from_static(b"/"))).expect("the system may");
        self.ask(SYSTEM, Request::OpenChannel { is_strict: false }).expect("the system may");
    }

    fn log_in(&mut self) {
        let info = SessionInfo { actor: Actor::Stranger, ..SessionInfo::default() };
        self.engine.open_session(USER, info);
        let (user, proof) = (Bytes::from_static(b"u"), Proof::Certificate);
        let credentials = Credentials { user, proof, is_loopback: true };
        for request in [
            Request::Authenticate(credentials),
            Request::OpenVhost(Bytes::from_static(b"/")),
            Request::OpenChannel { is_strict: false },
        ] {
            self.ask(USER, request).expect("who has a row may enter");
        }
    }

    fn restart(&mut self) {
        let mut engine = Engine::new(Limits::default());
        for (lsn, kind, _, payload) in &self.tape.records {
            engine.replay(*lsn, *kind, payload).expect("own record");
        }
        engine.recovered(Stamp { now: Millis(9), nonce: 9 });
        self.engine = engine;
        self.begin();
        self.log_in();
    }

    fn ask(&mut self, session: SessionId, request: Request) -> Result<(), Refusal> {
        let mut out = Effects::default();
        let envelope = Envelope { channel: 1, ticket: Ticket(1), request };
        let at = Stamp { now: Millis(5), nonce: 7 };
        self.engine.apply(at, session, envelope, &mut self.tape, &mut out);
        for output in out.outputs {
            if let Push::Reply { reply: Reply::Refused(refusal), .. } = output.push {
                return Err(*refusal);
            }
        }
        Ok(())
    }

    /// Whether the user may configure and read a queue of this name.
    fn may(&mut self, name: &Bytes) -> [bool; 2] {
        let declare = |name: &Bytes| {
            let spec = QueueSpec::default();
            Request::DeclareQueue(Box::new(DeclareQueue { name: name.clone(), spec }))
        };
        let configure = self.allows(declare(name));
        self.ask(SYSTEM, declare(name)).expect("the system may");
        [configure, self.allows(Request::PurgeQueue(name.clone()))]
    }

    fn allows(&mut self, request: Request) -> bool {
        match self.ask(USER, request) {
            Ok(()) => true,
            Err(Refusal::NotPermitted { .. }) => false,
            Err(other) => panic!("refused for another reason: {other:?}"),
        }
    }
}
