//! Requests about exchanges and bindings. What they mean is `routing`; here they are checked
//! against limits, written down and answered.

use bytes::Bytes;
use model::{Binding, DeclareExchange, DestinationKind, Log, Lsn, Noun, Refusal, Reply, VhostId};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::record;
use crate::routing::{Cascade, Declared, Removed};

impl Engine {
    /// `Request::DeclareExchange`: declaring an equal one again is a read.
    pub(crate) fn declare_exchange<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        declare: DeclareExchange,
    ) -> Result<(), Refusal> {
        let id = self.entered(asker)?;
        let DeclareExchange { name, spec } = declare;
        let Some(vhost) = self.state.vhost(id) else { return Err(Refusal::NotOpen) };
        let is_durable = spec.is_durable;
        if vhost.router.check_declare(&name, &spec)? == Declared::New {
            self.check_exchanges()?;
            if is_durable {
                let mut bytes = id.0.to_le_bytes().to_vec();
                record::put_text(&mut bytes, &name);
                record::put_exchange_spec(&mut bytes, &spec);
                record::append(turn.log, record::EXCHANGE_DECLARED, &bytes);
                self.note_topology(turn, id);
            }
            self.state.put_exchange(id, &name, spec);
        }
        let gate = if is_durable { self.topology_gate(id) } else { Lsn::ZERO };
        turn.reply(asker, gate, Reply::Done);
        Ok(())
    }

    fn check_exchanges(&self) -> Result<(), Refusal> {
        let max = self.limits.exchanges_max;
        let all = self.state.vhosts.iter().flatten();
        let count: usize = all.map(|vhost| vhost.router.exchange_count()).sum();
        if count >= max as usize {
            return Err(Refusal::LimitReached { limit: format!("exchanges ({max})") });
        }
        Ok(())
    }

    fn check_bindings(&self) -> Result<(), Refusal> {
        let max = self.limits.bindings_max;
        let all = self.state.vhosts.iter().flatten();
        let count: usize = all.map(|vhost| vhost.router.binding_count()).sum();
        if count >= max as usize {
            return Err(Refusal::LimitReached { limit: format!("bindings ({max})") });
        }
        Ok(())
    }

    /// `Request::LookupExchange`.
    pub(crate) fn lookup_exchange<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: Bytes,
    ) -> Result<(), Refusal> {
        let id = self.entered(asker)?;
        let vhost = self.state.vhost(id).ok_or(Refusal::NotOpen)?;
        let exchange = vhost.router.exchange(&name);
        let exchange = exchange.ok_or(Refusal::NotFound { noun: Noun::Exchange, name })?;
        let gate = if exchange.spec().is_durable { vhost.changed } else { Lsn::ZERO };
        turn.reply(asker, gate, Reply::Done);
        Ok(())
    }

    /// `Request::DeleteExchange`: one that is not there is deleted already.
    pub(crate) fn delete_exchange<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, if_unused): (Bytes, bool),
    ) -> Result<(), Refusal> {
        let id = self.entered(asker)?;
        let vhost = self.state.vhost(id).ok_or(Refusal::NotOpen)?;
        let found = vhost.router.check_delete(&name, if_unused)?;
        let mut gate = vhost.changed;
        if let Some(exchange) = found {
            let mut group = Vec::new();
            if exchange.spec().is_durable {
                group.push((record::EXCHANGE_DELETED, named(id, &name)));
            }
            let removed = self.state.delete_exchange(id, &name, Cascade::Follow);
            gate = self.log_cascade(turn, id, group, &removed);
        }
        turn.reply(asker, gate, Reply::Done);
        Ok(())
    }

    /// `Request::Bind`.
    pub(crate) fn bind<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        binding: &Binding,
    ) -> Result<(), Refusal> {
        let id = self.entered(asker)?;
        let vhost = self.state.vhost(id).ok_or(Refusal::NotOpen)?;
        let declared = vhost.router.check_bind(binding)?;
        let is_durable = vhost.router.is_durable(binding);
        if binding.kind == DestinationKind::Queue {
            self.usable_queue(asker, &binding.destination)?;
        }
        if declared == Declared::New {
            self.check_bindings()?;
            if is_durable {
                record::append(turn.log, record::BOUND, &bound(id, binding));
                self.note_topology(turn, id);
            }
            let bound = self.state.bind(id, binding);
            assert!(bound.is_some(), "a checked binding was refused");
        }
        let gate = if is_durable { self.topology_gate(id) } else { Lsn::ZERO };
        turn.reply(asker, gate, Reply::Done);
        Ok(())
    }

    /// `Request::Unbind`: a binding that is not there is removed already.
    pub(crate) fn unbind<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        binding: &Binding,
    ) -> Result<(), Refusal> {
        let id = self.entered(asker)?;
        let vhost = self.state.vhost(id).ok_or(Refusal::NotOpen)?;
        let is_there = vhost.router.check_unbind(binding)?;
        let is_durable = vhost.router.is_durable(binding);
        // Only who takes something away must own it. Source: observed, RabbitMQ 3.10.8.
        if is_there && binding.kind == DestinationKind::Queue {
            self.usable_queue(asker, &binding.destination)?;
        }
        let mut gate = self.topology_gate(id);
        if is_there {
            let mut group = Vec::new();
            if is_durable {
                group.push((record::UNBOUND, bound(id, binding)));
            }
            let removed = self.state.unbind(id, binding, Cascade::Follow);
            gate = self.log_cascade(turn, id, group, &removed);
        }
        turn.reply(asker, gate, Reply::Done);
        Ok(())
    }

    /// Writes a deletion and the auto-delete exchanges that went with it as one group. Returns
    /// the gate.
    pub(crate) fn log_cascade<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        vhost: VhostId,
        mut group: Vec<(u8, Vec<u8>)>,
        removed: &Removed,
    ) -> Lsn {
        let durable = removed.exchanges.iter().filter(|exchange| exchange.is_durable);
        group.extend(durable.map(|it| (record::EXCHANGE_DELETED, named(vhost, &it.name))));
        if group.is_empty() {
            return Lsn::ZERO;
        }
        record::append_group(turn.log, &group);
        self.note_topology(turn, vhost);
        turn.log.next_lsn()
    }

    fn note_topology<L: Log>(&mut self, turn: &Turn<'_, L>, id: VhostId) {
        if let Some(vhost) = self.state.vhost_mut(id) {
            vhost.changed = turn.log.next_lsn();
        }
    }
}

fn named(vhost: VhostId, name: &[u8]) -> Vec<u8> {
    let mut bytes = vhost.0.to_le_bytes().to_vec();
    record::put_text(&mut bytes, name);
    bytes
}

fn bound(vhost: VhostId, binding: &Binding) -> Vec<u8> {
    let mut bytes = vhost.0.to_le_bytes().to_vec();
    record::put_binding(&mut bytes, binding);
    bytes
}
