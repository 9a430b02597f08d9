//! Users and how sessions begin: login, entering a virtual host, opening channels. Passwords are
//! checked outside: the engine hands out the stored hash and waits for the verdict. What somebody
//! may do is `authorize.rs`, how users are administered `grant.rs`.

use bytes::Bytes;
use model::{Credentials, Log, Lsn, Proof, Refusal, Reply, SessionId, VhostId};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::effects::{Actor, Login};

/// The user that may only come from this machine.
const LOCAL_ONLY: &[u8] = b"guest";

/// A user. Persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// PHC string.
    pub hash: Bytes,
    /// Comma-separated.
    pub tags: Bytes,
    /// Stored before there were permissions and not given any since: may do everything in every
    /// virtual host, as then.
    pub is_unrestricted: bool,
}

/// A login whose password is being checked.
#[derive(Debug)]
pub(crate) struct Pending {
    asker: Asker,
    user: Bytes,
}

impl Engine {
    /// `Request::Authenticate`. Unknown users and `guest` from elsewhere take the same road as
    /// everybody, with no hash, so that the answer costs the same time.
    pub(crate) fn authenticate<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        credentials: Credentials,
    ) {
        let Credentials { user, proof, is_loopback } = credentials;
        let may_enter = is_loopback || user != LOCAL_ONLY;
        let Proof::Password(password) = proof else {
            return self.log_in(turn, asker, &user, may_enter);
        };
        let hash = self.state.users.get(&user).filter(|_| may_enter).map(|user| user.hash.clone());
        let token = self.take_token();
        self.logins.insert(token, Pending { asker, user: user.clone() });
        turn.out.logins.push(Login { session: asker.session, token, user, password, hash });
    }

    /// A password was checked.
    pub(crate) fn finish_login<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (session, token): (SessionId, u64),
        is_ok: bool,
    ) {
        let Some(Pending { asker, user }) = self.logins.remove(&token) else { return };
        self.log_in(turn, asker, &user, is_ok && asker.session == session);
    }

    /// Lets a known user in whose proof is good.
    fn log_in<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        user: &Bytes,
        is_proven: bool,
    ) {
        let gate = self.state.changed;
        let Some(found) = self.state.users.get(user).filter(|_| is_proven) else {
            let reason = format!("login of user '{}' failed", String::from_utf8_lossy(user));
            let refusal = Refusal::AccessRefused { reason };
            return turn.reply(asker, gate, Reply::Refused(Box::new(refusal)));
        };
        if let Some(session) = self.sessions.get_mut(asker.session) {
            session.actor = Actor::User(Bytes::copy_from_slice(user));
            session.channels.forget_grants();
            turn.reply(asker, gate, Reply::Authenticated { tags: found.tags.clone() });
        }
    }

    /// `Request::OpenVhost`.
    pub(crate) fn open_vhost<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: Bytes,
    ) -> Result<(), Refusal> {
        let id = self.vhost_named(name)?;
        let session = self.sessions.get_mut(asker.session).ok_or(Refusal::NotOpen)?;
        session.vhost = Some(id);
        session.channels.forget_grants();
        turn.reply(asker, self.state.changed, Reply::Done);
        Ok(())
    }

    /// `Request::OpenChannel`.
    pub(crate) fn open_channel<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        is_strict: bool,
    ) -> Result<(), Refusal> {
        let session = self.sessions.get_mut(asker.session).ok_or(Refusal::NotOpen)?;
        session.channels.open(asker.channel, is_strict);
        turn.reply(asker, Lsn::ZERO, Reply::Done);
        Ok(())
    }

    /// The virtual host of an open channel.
    pub(crate) fn entered(&self, asker: Asker) -> Result<VhostId, Refusal> {
        let session = self.sessions.get(asker.session).ok_or(Refusal::NotOpen)?;
        if session.channels.get(asker.channel).is_none() {
            return Err(Refusal::NotOpen);
        }
        session.vhost.ok_or(Refusal::NotOpen)
    }
}
