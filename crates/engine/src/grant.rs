//! Administration of users and their permissions. What they mean is `authorize.rs` and
//! `permission.rs`; who may administer, `authorize.rs` too.

use bytes::Bytes;
use model::{Log, Noun, Permission, Refusal, Reply, TopicPermission, VhostId};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::effects::{Output, Push};
use crate::permission::{Row, TopicRow};
use crate::record;
use crate::user::User;

impl Engine {
    /// `Admin::PutUser`: their permissions stay as they are.
    pub(crate) fn put_user<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, user): (Bytes, User),
    ) {
        let before = self.state.users.get(&name);
        if before.is_none_or(|it| (&it.hash, &it.tags) != (&user.hash, &user.tags)) {
            let mut bytes = Vec::new();
            for text in [&name, &user.hash, &user.tags] {
                record::put_text(&mut bytes, text);
            }
            self.write_down(turn, record::USER_PUT, &bytes);
            self.state.put_user(name, user);
        }
        turn.reply(asker, self.state.changed, Reply::Done);
    }

    /// `Admin::SetTags`.
    pub(crate) fn set_tags<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, tags): (Bytes, Bytes),
    ) -> Result<(), Refusal> {
        self.check_user(&name)?;
        let found = self.state.users.get(&name);
        let hash = found.map(|user| user.hash.clone()).unwrap_or_default();
        self.put_user(turn, asker, (name, User { hash, tags, is_unrestricted: false }));
        Ok(())
    }

    /// `Admin::DeleteUser`: their connections have to end.
    ///
    /// Source: `RabbitMQ` 3.13, `rabbit_connection_tracking_handler.erl`, `user_deleted`.
    pub(crate) fn delete_user<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<(), Refusal> {
        self.check_user(name)?;
        let mut bytes = Vec::new();
        record::put_text(&mut bytes, name);
        self.write_down(turn, record::USER_DELETED, &bytes);
        self.state.delete_user(name);
        let gate = self.state.changed;
        turn.reply(asker, gate, Reply::Done);
        let sessions = self.sessions.iter().filter(|it| it.id != asker.session);
        for session in sessions.filter(|it| it.actor.user() == Some(name)) {
            let push = Push::Shutdown("the user was deleted");
            turn.out.outputs.push(Output { session: session.id, gate, push });
        }
        Ok(())
    }

    /// `Admin::SetPermission`.
    pub(crate) fn set_permission<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (user, vhost, permission): (Bytes, Bytes, Permission),
    ) -> Result<(), Refusal> {
        let id = self.check_place(&user, vhost)?;
        let row = Row::new(permission)?;
        if self.state.rights.row(&user, id).is_none_or(|before| before.text != row.text) {
            let bytes = record::permission(&user, id, &row.text);
            self.write_down(turn, record::PERMISSION_SET, &bytes);
            self.state.set_permission(&user, id, row);
            self.recheck(turn, &user, id);
        }
        turn.reply(asker, self.state.changed, Reply::Done);
        Ok(())
    }

    /// `Admin::ClearPermission`: one that is not there is cleared already.
    pub(crate) fn clear_permission<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (user, vhost): (Bytes, Bytes),
    ) -> Result<(), Refusal> {
        let id = self.check_place(&user, vhost)?;
        let is_unrestricted = self.state.users.get(&user).is_some_and(|it| it.is_unrestricted);
        if is_unrestricted || self.state.rights.row(&user, id).is_some() {
            let bytes = record::whose(&user, id);
            self.write_down(turn, record::PERMISSION_CLEARED, &bytes);
            self.state.clear_permission(&user, id);
            self.recheck(turn, &user, id);
        }
        turn.reply(asker, self.state.changed, Reply::Done);
        Ok(())
    }

    /// `Admin::SetTopicPermission`.
    pub(crate) fn set_topic_permission<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (user, vhost, exchange, permission): (Bytes, Bytes, Bytes, TopicPermission),
    ) -> Result<(), Refusal> {
        let id = self.check_place(&user, vhost.clone())?;
        let row = TopicRow::new(permission, &user, &vhost)?;
        let before = self.state.rights.topic_row(&user, id, &exchange);
        if before.is_none_or(|before| before.text != row.text) {
            let mut bytes = record::whose(&user, id);
            for text in [&exchange, &row.text.write, &row.text.read] {
                record::put_text(&mut bytes, text);
            }
            self.write_down(turn, record::TOPIC_PERMISSION_SET, &bytes);
            let owned = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
            self.state.rights.set_topic((owned(&user), id, owned(&exchange)), row);
        }
        turn.reply(asker, self.state.changed, Reply::Done);
        Ok(())
    }

    /// `Admin::ClearTopicPermission`.
    pub(crate) fn clear_topic_permission<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (user, vhost, exchange): (Bytes, Bytes, Option<Bytes>),
    ) -> Result<(), Refusal> {
        let id = self.check_place(&user, vhost)?;
        let mut bytes = record::whose(&user, id);
        bytes.push(u8::from(exchange.is_some()));
        record::put_text(&mut bytes, exchange.as_deref().unwrap_or_default());
        self.write_down(turn, record::TOPIC_PERMISSION_CLEARED, &bytes);
        self.state.rights.clear_topics(&user, id, exchange.as_ref());
        turn.reply(asker, self.state.changed, Reply::Done);
        Ok(())
    }

    fn check_user(&self, name: &Bytes) -> Result<(), Refusal> {
        if self.state.users.contains_key(name) {
            return Ok(());
        }
        Err(Refusal::NotFound { noun: Noun::User, name: name.clone() })
    }

    fn check_place(&self, user: &Bytes, vhost: Bytes) -> Result<VhostId, Refusal> {
        self.check_user(user)?;
        self.vhost_named(vhost)
    }

    /// Appends a record about users or permissions; what shows them waits for it.
    fn write_down<L: Log>(&mut self, turn: &mut Turn<'_, L>, kind: u8, payload: &[u8]) {
        record::append(turn.log, kind, payload);
        self.state.changed = turn.log.next_lsn();
    }

    /// Cancels the consumers of a user who may not read from their queues any more.
    fn recheck<L: Log>(&mut self, turn: &mut Turn<'_, L>, user: &Bytes, vhost: VhostId) {
        let mut lost = Vec::new();
        for (key, consumer) in self.sessions.keyed_consumers() {
            let session = self.sessions.get(consumer.session);
            let is_theirs = session.is_some_and(|session| {
                session.vhost == Some(vhost) && session.actor.user() == Some(user)
            });
            // Reply consumers have no queue, and need no right.
            let queue = self.state.queues.get(&consumer.queue).filter(|_| is_theirs);
            if queue.is_some_and(|queue| !self.may_read(user, vhost, &queue.name)) {
                lost.push(key);
            }
        }
        for key in lost {
            self.cancel_consumer(turn, key);
        }
    }
}
