//! The hot road: a message comes in, is routed, written once and put into its queues. Commits and
//! dead letters use the same steps. What happens next in a queue is `dispatch.rs`.

use std::sync::Arc;

use bytes::Bytes;
use model::properties::Properties;
use model::{
    Log, Lsn, MessageRef, Noun, Overflow, Publish, QueueId, Record, Refusal, Reply, VhostId,
};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::dead_letter::Reason;
use crate::effects::{Output, Push};
use crate::fifo::Stored;
use crate::perform::Arrival;
use crate::record::{self, Head, short_text};
use crate::reply_to;
use crate::routing::RouteRequest;

/// Capacity that a buffer may keep between calls.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;
/// Longest delay: what `x-delay` can say.
const DELAY_MS_MAX: u64 = u32::MAX as u64;

/// What is to be done with a message.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Hold it until then (ms since 1970) instead of routing it now.
    pub due: Option<u64>,
    /// Publish it to this exchange instead (the foot of a delay ladder).
    pub exchange: Option<Bytes>,
    /// Some queue took it, or will.
    pub is_routed: bool,
    /// Full queues that refuse it.
    pub refused: Vec<QueueId>,
}

impl Engine {
    /// `Request::Publish`.
    pub(crate) fn publish<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        publish: Publish,
    ) -> Result<(), Refusal> {
        let vhost = self.entered(asker)?;
        if reply_to::is_address(&publish) {
            self.publish_reply(turn, (asker, vhost), publish, Lsn::ZERO);
            return Ok(());
        }
        let mut targets = std::mem::take(&mut self.scratch.targets);
        let done = self.publish_to(turn, (asker, vhost), publish, &mut targets);
        self.scratch.targets = targets;
        done
    }

    fn publish_to<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, vhost): (Asker, VhostId),
        publish: Publish,
        targets: &mut Vec<QueueId>,
    ) -> Result<(), Refusal> {
        let plan = self.plan(turn.now(), vhost, &publish, targets)?;
        if self.is_memory_short(targets, &publish) {
            return Self::refuse_for_memory(turn, asker, &publish);
        }
        let gate = self.carry(turn, vhost, &publish, (&plan, targets));
        for queue in &plan.refused {
            self.bury_refused(turn, *queue, vhost, &publish);
        }
        let wants_confirm = publish.options.wants_confirm;
        if !plan.is_routed && !publish.options.is_mandatory {
            self.totals.dropped += 1;
        } else if !plan.is_routed {
            let gate = self.topology_gate(vhost);
            turn.reply(asker, gate, Reply::Unroutable(Box::new(publish)));
        }
        if wants_confirm {
            if plan.refused.is_empty() {
                let push = Push::Published { channel: asker.channel };
                turn.out.outputs.push(Output { session: asker.session, gate, push });
            } else {
                turn.reply(asker, gate, Reply::Rejected);
            }
        }
        Ok(())
    }

    /// Writes and enqueues a planned message. Returns the gate of its confirm.
    fn carry<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        vhost: VhostId,
        publish: &Publish,
        (plan, targets): (&Plan, &[QueueId]),
    ) -> Lsn {
        let head = head_of(vhost, turn.now(), publish, plan);
        let keys = extra_keys(publish);
        let keys = if plan.due.is_some() { keys } else { &[] };
        if self.store(turn, &head, (targets, keys), false) {
            turn.log.next_lsn()
        } else {
            Lsn::ZERO
        }
    }

    /// Decides what happens to a message; `targets` becomes the queues that take it, durable
    /// ones first. Changes nothing but counters.
    ///
    /// # Errors
    /// When the exchange is not there or not for clients.
    pub(crate) fn plan(
        &mut self,
        now: u64,
        id: VhostId,
        publish: &Publish,
        targets: &mut Vec<QueueId>,
    ) -> Result<Plan, Refusal> {
        targets.clear();
        let max = self.limits.message_bytes_max;
        if publish.body.len() > max as usize {
            return Err(Refusal::LimitReached { limit: format!("bytes of one message ({max})") });
        }
        let mut plan = Plan::default();
        let Some(vhost) = self.state.vhost_mut(id) else { return Err(Refusal::NotOpen) };
        let mut reads_headers = false;
        if !publish.exchange.is_empty() {
            let exchange = vhost.router.exchange(&publish.exchange);
            let spec = exchange.ok_or_else(|| no_exchange(&publish.exchange))?.spec();
            if spec.is_internal {
                return Err(internal(&publish.exchange, &vhost.name));
            }
            reads_headers = publish.options.has_headers;
            let delay = publish.options.delay_ms.filter(|delay| (1..=DELAY_MS_MAX).contains(delay));
            if let Some(delay) = delay.filter(|_| spec.is_delayed) {
                plan.due = Some(now.saturating_add(delay));
            } else if let Some(ladder) =
                vhost.router.ladder(&publish.exchange, &publish.routing_key)
            {
                plan.due = Some(now.saturating_add(ladder.delay_seconds.saturating_mul(1000)));
                plan.exchange = Some(ladder.exchange());
            }
            if plan.due.is_some() {
                plan.is_routed = true;
                return Ok(plan);
            }
        }
        let properties =
            if reads_headers { Properties::parse(&publish.properties).ok() } else { None };
        let request = RouteRequest {
            exchange: &publish.exchange,
            routing_key: &publish.routing_key,
            headers: properties.as_ref().and_then(Properties::headers),
            extra_keys: extra_keys(publish),
        };
        plan.is_routed = vhost.router.route(request, targets).unwrap_or(false);
        self.refuse_full(publish.body.len() as u64, targets, &mut plan);
        Ok(plan)
    }

    /// Moves full queues that refuse new messages from the targets to the refused.
    fn refuse_full(&self, bytes: u64, targets: &mut Vec<QueueId>, plan: &mut Plan) {
        targets.retain(|target| {
            let is_full = self.state.queues.get(target).is_some_and(|queue| {
                queue.spec.options.overflow != Overflow::DropHead && queue.is_over(1, bytes)
            });
            if is_full {
                plan.refused.push(*target);
            }
            !is_full
        });
    }

    /// Writes a message for its durable targets (and for later, when it is delayed) and puts it
    /// into all of them. `targets` stand in order, durable ones first. Returns whether a record
    /// was written.
    pub(crate) fn store<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        head: &Head<'_>,
        (targets, extra_keys): (&[QueueId], &[Bytes]),
        has_more: bool,
    ) -> bool {
        let split = targets.partition_point(|target| !target.is_volatile());
        let (durable, volatile) = targets.split_at_checked(split).unwrap_or((targets, &[]));
        let MessageRef { exchange, routing_key, properties, body } = head.message;
        let (exchange, routing_key) = (short_text(exchange), short_text(routing_key));
        let message = MessageRef { exchange, routing_key, properties, body };
        let head = &Head { message, ..*head };
        let content = exchange.len() + routing_key.len() + properties.len() + body.len();
        let is_logged = !durable.is_empty() || head.due.is_some();
        if is_logged {
            let bytes = &mut self.scratch.head;
            head.begin(durable, extra_keys, bytes);
            let record_bytes = bytes.len() + content;
            let parts = &[bytes, exchange, routing_key, properties, body];
            let lsn = turn.log.append(Record { kind: record::MESSAGE, has_more, parts });
            let arrival = Arrival::new(Stored::Log(lsn), head, record_bytes);
            if let Some(due) = head.due {
                self.state.hold_back(lsn, due, &arrival);
            }
            for target in durable {
                self.state.arrive(*target, &arrival);
            }
        }
        if !volatile.is_empty() {
            // Put together in a buffer that stays, so that the message itself is one allocation.
            let bytes = &mut self.scratch.head;
            head.begin(&[], &[], bytes);
            for part in [exchange, routing_key, properties, body] {
                bytes.extend_from_slice(part);
            }
            let record_bytes = bytes.len();
            let stored = Stored::Memory(Arc::from(bytes.as_slice()));
            bytes.clear();
            bytes.shrink_to(SCRATCH_BYTES_MAX);
            let arrival = Arrival::new(stored, head, record_bytes);
            for target in volatile {
                self.state.arrive(*target, &arrival);
            }
        }
        is_logged
    }

    /// Where a message that is in the log or in memory already goes now. A missing exchange leads
    /// nowhere.
    pub(crate) fn route_stored(
        &mut self,
        vhost: VhostId,
        message: &MessageRef<'_>,
        extra_keys: &[Bytes],
        targets: &mut Vec<QueueId>,
    ) {
        targets.clear();
        let Some(vhost) = self.state.vhost_mut(vhost) else { return };
        let properties = Properties::parse(message.properties).ok();
        let request = RouteRequest {
            exchange: message.exchange,
            routing_key: message.routing_key,
            headers: properties.as_ref().and_then(Properties::headers),
            extra_keys,
        };
        let routed = vhost.router.route(request, targets);
        debug_assert!(routed.is_ok() || targets.is_empty(), "no exchange, no targets");
    }

    /// Whether the message is for volatile queues and there is no memory left for them.
    pub(crate) fn is_memory_short(&self, targets: &[QueueId], publish: &Publish) -> bool {
        targets.last().is_some_and(|last| last.is_volatile())
            && self.state.holdings.volatile_bytes + publish.body.len() as u64
                > self.limits.volatile_bytes_max
    }

    fn refuse_for_memory<L: Log>(
        turn: &mut Turn<'_, L>,
        asker: Asker,
        publish: &Publish,
    ) -> Result<(), Refusal> {
        if !publish.options.wants_confirm {
            return Err(memory_short());
        }
        turn.reply(asker, Lsn::ZERO, Reply::Rejected);
        Ok(())
    }

    /// `x-overflow: reject-publish-dlx`: a message that a queue refused dies in it all the same.
    fn bury_refused<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        queue: QueueId,
        vhost: VhostId,
        publish: &Publish,
    ) {
        let spec = self.state.spec(queue);
        if spec.is_none_or(|spec| spec.options.overflow != Overflow::RejectPublishDeadLetter) {
            return;
        }
        let plan = Plan::default();
        let head = head_of(vhost, turn.now(), publish, &plan);
        self.dead_letter(turn, (queue, None), Reason::MaxLength, &head);
    }

    /// When the present exchanges and bindings of a virtual host may be seen.
    pub(crate) fn topology_gate(&self, vhost: VhostId) -> Lsn {
        self.state.vhost(vhost).map_or(Lsn::ZERO, |vhost| vhost.changed)
    }
}

/// The record head of a published message.
pub(crate) fn head_of<'a>(
    vhost: VhostId,
    now: u64,
    publish: &'a Publish,
    plan: &'a Plan,
) -> Head<'a> {
    Head {
        vhost,
        priority: publish.options.priority,
        at: now,
        ttl: publish.options.expiration_ms,
        due: plan.due,
        job: None,
        ties: &[],
        targets: &[],
        extra_keys: &[],
        message: MessageRef {
            exchange: plan.exchange.as_ref().unwrap_or(&publish.exchange),
            routing_key: &publish.routing_key,
            properties: &publish.properties,
            body: &publish.body,
        },
    }
}

/// CC and BCC.
pub(crate) fn extra_keys(publish: &Publish) -> &[Bytes] {
    publish.options.extra_keys.as_ref().map_or(&[], |keys| keys.as_slice())
}

pub(crate) const fn memory_short() -> Refusal {
    Refusal::Unavailable { reason: "no memory left for volatile queues" }
}

fn no_exchange(name: &Bytes) -> Refusal {
    Refusal::NotFound { noun: Noun::Exchange, name: name.clone() }
}

fn internal(name: &Bytes, vhost: &Bytes) -> Refusal {
    let (name, vhost) = (String::from_utf8_lossy(name), String::from_utf8_lossy(vhost));
    let reason = format!("cannot publish to internal exchange '{name}' in vhost '{vhost}'");
    Refusal::AccessRefused { reason }
}
