//! A virtual host: a name space with its own routing; and the requests that make and remove one.
//! Queues themselves are the state's, by id.

use std::sync::Arc;

use bytes::Bytes;
use model::{Log, Lsn, Noun, QueueSpec, Refusal, Reply, VhostId};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::effects::{Output, Push};
use crate::permission::Row;
use crate::record;
use crate::result::Results;
use crate::routing::Router;

/// One virtual host.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub name: Bytes,
    /// Its exchanges, bindings and queue names.
    pub router: Router,
    /// End of the last record about its exchanges and bindings. Volatile.
    pub changed: Lsn,
    pub results: Results,
    /// The last declared queue spec: most queues of an application are declared alike.
    last_spec: Option<Arc<QueueSpec>>,
}

impl Vhost {
    pub(crate) fn new(name: Bytes) -> Self {
        let (router, results) = (Router::new(), Results::default());
        Self { name, router, changed: Lsn::ZERO, results, last_spec: None }
    }

    /// One copy of equal neighbours.
    pub(crate) fn share(&mut self, spec: QueueSpec) -> Arc<QueueSpec> {
        match &self.last_spec {
            Some(last) if **last == spec => Arc::clone(last),
            _ => Arc::clone(self.last_spec.insert(Arc::new(spec))),
        }
    }
}

impl Engine {
    /// `Admin::PutVhost`: a user who makes one may do everything in it, in the same group of
    /// records.
    ///
    /// Source: `RabbitMQ` 3.13, `rabbit_vhost.erl`, `put_vhost`.
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
            let id = VhostId(next);
            let mut bytes = id.0.to_le_bytes().to_vec();
            record::put_text(&mut bytes, name);
            let mut group = vec![(record::VHOST_PUT, bytes)];
            let maker = self.user_of(asker).cloned();
            let row = Row::new(model::Permission::full())?;
            if let Some(maker) = &maker {
                group.push((record::PERMISSION_SET, record::permission(maker, id, &row.text)));
            }
            record::append_group(turn.log, &group);
            self.state.put_vhost(id, Bytes::copy_from_slice(name));
            if let Some(maker) = &maker {
                self.state.set_permission(maker, id, row);
            }
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
        let id = self.vhost_named(name)?;
        record::append(turn.log, record::VHOST_DELETED, &id.0.to_le_bytes());
        let gate = turn.log.next_lsn();
        for mut queue in self.state.delete_vhost(id) {
            queue.changed = gate;
            self.timers.forget(&queue);
            self.forget_ties(&queue);
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

    /// The virtual host with this name.
    pub(crate) fn vhost_named(&self, name: Bytes) -> Result<VhostId, Refusal> {
        let id = self.state.vhost_ids.get(&name).copied();
        id.ok_or(Refusal::NotFound { noun: Noun::Vhost, name })
    }
}
