//! Users, logins and virtual hosts as objects of administration. Passwords are checked outside:
//! the engine hands out the stored hash and waits for the verdict. Fine-grained permissions are
//! not here yet.

use bytes::Bytes;
use model::{Credentials, Log, Lsn, Noun, Proof, Refusal, Reply, SessionId, VhostId};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::effects::{Login, Output, Push};
use crate::record;

/// The user that may only come from this machine.
const LOCAL_ONLY: &[u8] = b"guest";

/// A user. Persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// PHC string.
    pub hash: Bytes,
    /// Comma-separated.
    pub tags: Bytes,
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
            session.user = Some(Bytes::copy_from_slice(user));
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
        let id = self.state.vhost_ids.get(&name).copied();
        let id = id.ok_or(Refusal::NotFound { noun: Noun::Vhost, name })?;
        let session = self.sessions.get_mut(asker.session).ok_or(Refusal::NotOpen)?;
        session.vhost = Some(id);
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

    /// `Admin::PutUser`.
    pub(crate) fn put_user<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, user): (Bytes, User),
    ) {
        if self.state.users.get(&name) != Some(&user) {
            let mut bytes = Vec::new();
            for text in [&name, &user.hash, &user.tags] {
                record::put_text(&mut bytes, text);
            }
            record::append(turn.log, record::USER_PUT, &bytes);
            self.state.users.insert(name, user);
            self.state.changed = turn.log.next_lsn();
        }
        turn.reply(asker, self.state.changed, Reply::Done);
    }

    /// `Admin::DeleteUser`.
    pub(crate) fn delete_user<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: Bytes,
    ) -> Result<(), Refusal> {
        if self.state.users.remove(&name).is_none() {
            return Err(Refusal::NotFound { noun: Noun::User, name });
        }
        let mut bytes = Vec::new();
        record::put_text(&mut bytes, &name);
        record::append(turn.log, record::USER_DELETED, &bytes);
        self.state.changed = turn.log.next_lsn();
        turn.reply(asker, self.state.changed, Reply::Done);
        Ok(())
    }

    /// `Admin::PutVhost`.
    pub(crate) fn put_vhost<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<(), Refusal> {
        if !self.state.vhost_ids.contains_key(name) {
            let max = self.limits.vhosts_max;
            let next = u16::try_from(self.state.vhosts.len());
            let is_full = self.state.vhost_ids.len() >= max as usize;
            let Some(next) = next.ok().filter(|_| !is_full) else {
                return Err(Refusal::LimitReached { limit: format!("virtual hosts ({max})") });
            };
            let mut bytes = next.to_le_bytes().to_vec();
            record::put_text(&mut bytes, name);
            record::append(turn.log, record::VHOST_PUT, &bytes);
            self.state.put_vhost(VhostId(next), Bytes::copy_from_slice(name));
            self.state.changed = turn.log.next_lsn();
        }
        turn.reply(asker, self.state.changed, Reply::Done);
        Ok(())
    }

    /// `Admin::DeleteVhost`: sessions in it have to end.
    pub(crate) fn delete_vhost<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: Bytes,
    ) -> Result<(), Refusal> {
        let id = self.state.vhost_ids.get(&name).copied();
        let id = id.ok_or(Refusal::NotFound { noun: Noun::Vhost, name })?;
        record::append(turn.log, record::VHOST_DELETED, &id.0.to_le_bytes());
        let gate = turn.log.next_lsn();
        for mut queue in self.state.delete_vhost(id) {
            queue.changed = gate;
            self.timers.forget(&queue);
            self.cancel_all(turn, &queue);
        }
        for session in self.sessions.iter().filter(|session| session.vhost == Some(id)) {
            let push = Push::Shutdown("the virtual host was deleted");
            turn.out.outputs.push(Output { session: session.id, gate, push });
        }
        self.state.changed = gate;
        turn.reply(asker, gate, Reply::Done);
        Ok(())
    }
}
