//! Users, permissions and virtual hosts in [`State`]: what their records do, alive and at
//! recovery. Who may change them is `authorize.rs`.

use bytes::Bytes;
use model::{Permission, TopicPermission, VhostId};

use super::State;
use crate::permission::{Row, TopicRow};
use crate::record;
use crate::user::User;

impl State {
    /// Creates a user or changes one, whose permissions stay.
    pub(crate) fn put_user(&mut self, name: Bytes, mut user: User) {
        if let Some(before) = self.users.get(&name) {
            user.is_unrestricted = before.is_unrestricted;
        }
        self.users.insert(name, user);
    }

    /// Removes a user with all permissions. Says whether there was one.
    pub(crate) fn delete_user(&mut self, name: &Bytes) -> bool {
        self.rights.forget_user(name);
        self.users.remove(name).is_some()
    }

    pub(crate) fn set_permission(&mut self, user: &Bytes, vhost: VhostId, row: Row) {
        self.restrict(user);
        self.rights.set(Bytes::copy_from_slice(user), vhost, row);
    }

    pub(crate) fn clear_permission(&mut self, user: &Bytes, vhost: VhostId) {
        self.restrict(user);
        self.rights.clear(user, vhost);
    }

    /// The first word about the permissions of a user from before there were any: what they could
    /// do everywhere becomes a row for each virtual host that is there.
    fn restrict(&mut self, user: &Bytes) {
        let Some(found) = self.users.get_mut(user) else { return };
        if std::mem::replace(&mut found.is_unrestricted, false) {
            for vhost in self.vhost_ids.values() {
                self.rights.set_full(Bytes::copy_from_slice(user), *vhost);
            }
        }
    }

    /// Takes in one record about users, permissions or virtual hosts.
    pub(super) fn replay_access(&mut self, kind: u8, mut payload: &[u8]) -> Option<()> {
        let rest = &mut payload;
        match kind {
            record::VHOST_PUT => {
                let id = VhostId(record::take_u16(rest)?);
                self.put_vhost(id, record::take_text(rest)?);
            }
            record::VHOST_DELETED => {
                self.delete_vhost(VhostId(record::take_u16(rest)?));
            }
            record::OLD_USER_PUT | record::USER_PUT => {
                let name = record::take_text(rest)?;
                let (hash, tags) = (record::take_text(rest)?, record::take_text(rest)?);
                let is_unrestricted = kind == record::OLD_USER_PUT;
                self.put_user(name, User { hash, tags, is_unrestricted });
            }
            record::USER_DELETED => {
                self.delete_user(&record::take_text(rest)?);
            }
            _ => return self.replay_permission(kind, rest),
        }
        Some(())
    }

    fn replay_permission(&mut self, kind: u8, rest: &mut &[u8]) -> Option<()> {
        let user = record::take_text(rest)?;
        let vhost = VhostId(record::take_u16(rest)?);
        match kind {
            record::PERMISSION_SET => self.set_permission(&user, vhost, take_row(rest)?),
            record::PERMISSION_CLEARED => self.clear_permission(&user, vhost),
            record::TOPIC_PERMISSION_SET => {
                let exchange = record::take_text(rest)?;
                let row = self.take_topic_row(&user, vhost, rest)?;
                self.rights.set_topic((user, vhost, exchange), row);
            }
            _ => {
                let has_exchange = record::take_u8(rest)? != 0;
                let exchange = record::take_text(rest)?;
                self.rights.clear_topics(&user, vhost, has_exchange.then_some(&exchange));
            }
        }
        Some(())
    }

    /// Three texts.
    pub(crate) fn take_topic_row(
        &self,
        user: &[u8],
        vhost: VhostId,
        rest: &mut &[u8],
    ) -> Option<TopicRow> {
        let write = record::take_text(rest)?;
        let text = TopicPermission { write, read: record::take_text(rest)? };
        TopicRow::new(text, user, &self.vhost(vhost)?.name).ok()
    }
}

/// Three texts: configure, write, read.
pub(crate) fn take_row(rest: &mut &[u8]) -> Option<Row> {
    let (configure, write) = (record::take_text(rest)?, record::take_text(rest)?);
    Row::new(Permission { configure, write, read: record::take_text(rest)? }).ok()
}
