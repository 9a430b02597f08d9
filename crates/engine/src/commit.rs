//! `Request::Commit`: acknowledgements, returns, drops and publishes of one channel as one atomic
//! group of records. First everything is checked; then nothing can fail any more.

use std::ops::Range;

use bytes::Bytes;
use model::{Enqueue, Log, Lsn, Op, Overflow, Publish, QueueId, Record, Refusal, Reply, VhostId};

use crate::Engine;
use crate::channel::{Asker, Slot, Turn};
use crate::dead_letter::{Reason, put_condemned};
use crate::map::Map;
use crate::publish::{Plan, extra_keys, head_of, memory_short};
use crate::record::{self, Run};
use crate::reply_to;
use crate::result::Storing;
use crate::settle::{End, Which};
use crate::work::Finishing;

/// What one settled delivery adds to its record at most.
const RUN_BYTES_MAX: u64 = 20;

/// A publish whose way is known.
struct Planned {
    publish: Publish,
    plan: Plan,
    /// Its part of the list of all targets.
    targets: Range<usize>,
    /// It makes a record.
    is_logged: bool,
}

/// Everything of a commit whose way is known.
#[derive(Default)]
struct Plans {
    publishes: Publishes,
    settles: Vec<(Which, End)>,
    finishing: Finishing,
    /// A result; also one that is kept back.
    storing: Option<Storing>,
    is_kept_back: bool,
    jobs: Vec<(QueueId, Enqueue)>,
}

/// All of a commit's publishes.
#[derive(Default)]
struct Publishes {
    planned: Vec<Planned>,
    targets: Vec<QueueId>,
    /// To reply consumers, which no log knows.
    replies: Vec<Publish>,
}

/// Deliveries by how they end.
type Ends = Vec<(End, Vec<Slot>)>;

impl Engine {
    /// `Request::Commit`.
    pub(crate) fn commit<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        ops: Vec<Op>,
    ) -> Result<(), Refusal> {
        let vhost = self.entered(asker)?;
        self.check_size(&ops)?;
        self.check_tags(asker, &ops)?;
        let mut plans = self.plan_all(turn, (asker, vhost), ops)?;
        self.check_finish((asker, vhost), &plans.finishing)?;
        self.check_room(&plans)?;

        let mut ends = self.take_all(asker, &plans.settles);
        let group = self.end_all(turn, (&mut ends, &plans.finishing));
        let publishes = std::mem::take(&mut plans.publishes);
        let logged = publishes.planned.iter().filter(|planned| planned.is_logged).count();
        let stored = usize::from(plans.storing.is_some() && !plans.is_kept_back);
        let mut left = group.len() + logged + stored + plans.jobs.len();
        let gate_moves = left > 0;
        for (kind, payload) in &group {
            left -= 1;
            turn.log.append(Record { kind: *kind, has_more: left > 0, parts: &[payload] });
        }
        for planned in &publishes.planned {
            left -= usize::from(planned.is_logged);
            let targets = publishes.targets.get(planned.targets.clone()).unwrap_or_default();
            let head = head_of(vhost, turn.now(), &planned.publish, &planned.plan);
            let keys: &[Bytes] =
                if planned.plan.due.is_some() { extra_keys(&planned.publish) } else { &[] };
            self.store(turn, &head, (targets, keys), left > 0);
        }
        for (queue, job) in &plans.jobs {
            left -= 1;
            self.store_job(turn, (vhost, *queue), (job, left > 0));
        }
        if let Some(storing) = plans.storing.as_ref().filter(|_| !plans.is_kept_back) {
            self.write_result(turn, asker, (storing, false));
        }
        let gate = if gate_moves { turn.log.next_lsn() } else { Lsn::ZERO };
        let reply = match plans.storing {
            None => Reply::Done,
            Some(_) => Reply::Stored { is_stored: !plans.is_kept_back },
        };
        self.answer_commit(turn, (asker, vhost), publishes, (gate, reply));
        if self.sessions.channel(asker.session, asker.channel).is_some_and(|it| it.credit_all > 0) {
            self.unpark_channel(asker.session, asker.channel);
        }
        Ok(())
    }

    fn answer_commit<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, vhost): (Asker, VhostId),
        publishes: Publishes,
        (gate, reply): (Lsn, Reply),
    ) {
        for planned in publishes.planned {
            if planned.publish.options.is_mandatory && !planned.plan.is_routed {
                turn.reply(asker, gate, Reply::Unroutable(Box::new(planned.publish)));
            }
        }
        for mut publish in publishes.replies {
            publish.options.wants_confirm = false;
            self.publish_reply(turn, (asker, vhost), publish, gate);
        }
        turn.reply(asker, gate, reply);
    }

    fn check_size(&self, ops: &[Op]) -> Result<(), Refusal> {
        let max = self.limits.commit_ops_max;
        if ops.len() > max as usize {
            return Err(Refusal::LimitReached { limit: format!("steps of one commit ({max})") });
        }
        self.check_bytes(ops.iter().map(op_bytes).sum())
    }

    fn check_bytes(&self, bytes: u64) -> Result<(), Refusal> {
        let max = self.limits.commit_bytes_max;
        if bytes > u64::from(max) {
            return Err(Refusal::LimitReached { limit: format!("bytes of one commit ({max})") });
        }
        Ok(())
    }

    /// Every tag is unsettled, and settled only once.
    fn check_tags(&self, asker: Asker, ops: &[Op]) -> Result<(), Refusal> {
        let channel = self.sessions.channel(asker.session, asker.channel);
        let channel = channel.ok_or(Refusal::NotOpen)?;
        let mut deliveries = 0_usize;
        let mut until = 0;
        let mut single: Map<u64, ()> = Map::default();
        for which in ops.iter().filter_map(|op| settled(op).map(|it| it.0)) {
            let is_all = which.is_multiple && which.tag == 0;
            if !is_all && (which.tag <= until || single.contains_key(&which.tag)) {
                return Err(Refusal::UnknownDelivery { tag: which.tag });
            }
            which.check(channel)?;
            if which.is_multiple {
                until = until.max(which.until());
                deliveries = deliveries.max(channel.unsettled.count_until(until));
            } else {
                single.insert(which.tag, ());
            }
        }
        // They make one record, which has to fit with the rest.
        let bytes = (deliveries + single.len()) as u64 * RUN_BYTES_MAX;
        self.check_bytes(bytes)
    }

    fn plan_all<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, vhost): (Asker, VhostId),
        ops: Vec<Op>,
    ) -> Result<Plans, Refusal> {
        let now = turn.now();
        let mut plans = Plans::default();
        let mut targets = Vec::new();
        self.plan_result(now, vhost, &ops, &mut plans)?;
        let all = &mut plans.publishes;
        for op in ops {
            let settle = settled(&op);
            match op {
                // They belong to the result that was first.
                Op::Publish(_) | Op::Enqueue(_) if plans.is_kept_back => {}
                Op::Enqueue(job) => {
                    let queue = self.make_job_queue(turn, asker, &job.queue)?;
                    self.check_body(&job.body)?;
                    // One with the same key is there already.
                    if self.holder(queue, &job, now).is_none() {
                        plans.jobs.push((queue, *job));
                    }
                }
                Op::Publish(publish) if reply_to::is_address(&publish) => all.replies.push(publish),
                Op::Publish(publish) => {
                    let plan = self.plan(now, vhost, &publish, &mut targets)?;
                    let start = all.targets.len();
                    all.targets.extend_from_slice(&targets);
                    let is_logged = plan.due.is_some()
                        || targets.first().is_some_and(|first| !first.is_volatile());
                    let targets = start..all.targets.len();
                    all.planned.push(Planned { publish, plan, targets, is_logged });
                }
                Op::Ack { .. } | Op::Release { .. } => plans.settles.extend(settle),
                Op::Finish(job) => plans.finishing.jobs.push(job),
                Op::Store(_) => {}
            }
        }
        if let Some(storing) = &mut plans.storing {
            storing.job = plans.finishing.jobs.first().copied();
        }
        Ok(plans)
    }

    /// Finds out what becomes of the result among the steps, which decides about the others.
    fn plan_result(
        &self,
        now: u64,
        vhost: VhostId,
        ops: &[Op],
        plans: &mut Plans,
    ) -> Result<(), Refusal> {
        let results = ops.iter().filter_map(|op| match op {
            Op::Store(result) => Some(&**result),
            Op::Publish(_)
            | Op::Ack { .. }
            | Op::Release { .. }
            | Op::Finish(_)
            | Op::Enqueue(_) => None,
        });
        for result in results {
            if plans.storing.is_some() {
                return Err(Refusal::LimitReached {
                    limit: "results of one commit (1)".to_owned(),
                });
            }
            self.check_result(result)?;
            plans.is_kept_back = self.is_kept_back(now, vhost, result);
            plans.storing = Some(Storing { vhost, job: None, result: result.clone() });
        }
        Ok(())
    }

    /// Every target takes all that is meant for it.
    fn check_room(&self, plans: &Plans) -> Result<(), Refusal> {
        let publishes = &plans.publishes;
        let mut wanted: Map<QueueId, (u64, u64)> = Map::default();
        for (queue, job) in &plans.jobs {
            let (messages, sum) = wanted.entry(*queue).or_default();
            *messages += 1;
            *sum += job.body.len() as u64;
            let (messages, sum) = (*messages, *sum);
            if self.state.queues.get(queue).is_some_and(|queue| {
                queue.spec.options.overflow != Overflow::DropHead && queue.is_over(messages, sum)
            }) {
                return Err(self.full(*queue));
            }
        }
        let mut volatile = self.state.holdings.volatile_bytes;
        for planned in &publishes.planned {
            if let Some(queue) = planned.plan.refused.first() {
                return Err(self.full(*queue));
            }
            let bytes = planned.publish.body.len() as u64;
            for target in publishes.targets.get(planned.targets.clone()).unwrap_or_default() {
                volatile += if target.is_volatile() { bytes } else { 0 };
                let (messages, sum) = wanted.entry(*target).or_default();
                *messages += 1;
                *sum += bytes;
                let (messages, sum) = (*messages, *sum);
                if self.state.queues.get(target).is_some_and(|queue| {
                    queue.spec.options.overflow != Overflow::DropHead
                        && queue.is_over(messages, sum)
                }) {
                    return Err(self.full(*target));
                }
            }
        }
        if volatile > self.limits.volatile_bytes_max
            && volatile > self.state.holdings.volatile_bytes
        {
            return Err(memory_short());
        }
        Ok(())
    }

    fn full(&self, id: QueueId) -> Refusal {
        let name = self.state.queues.get(&id).map(|queue| queue.name.clone()).unwrap_or_default();
        let limit = format!("length of queue '{}'", String::from_utf8_lossy(&name));
        Refusal::LimitReached { limit }
    }

    fn take_all(&mut self, asker: Asker, settles: &[(Which, End)]) -> Ends {
        let mut ends = Ends::new();
        let Some(channel) = self.sessions.channel_mut(asker.session, asker.channel) else {
            return ends;
        };
        for (which, end) in settles {
            let last = ends.pop_if(|(last, _)| last == end);
            let (_, mut slots) = last.unwrap_or((*end, Vec::new()));
            channel.take_deliveries(*which, &mut slots);
            ends.push((*end, slots));
        }
        ends
    }

    /// Ends the deliveries and returns what is to be written about them.
    fn end_all<L: Log>(
        &mut self,
        turn: &Turn<'_, L>,
        (ends, finishing): (&mut Ends, &Finishing),
    ) -> Vec<(u8, Vec<u8>)> {
        let mut returns = Vec::new();
        // What dies here must be known to the log as dead: it is in the client's commit.
        let others = std::mem::take(&mut self.graves);
        for (end, slots) in ends {
            for slot in slots.drain(..) {
                self.end_delivery(turn, &slot, *end, &mut returns);
            }
        }
        for job in &finishing.jobs {
            self.finish_job(turn, *job);
        }
        let dead = std::mem::replace(&mut self.graves, others);
        let mut group = Vec::new();
        let mut settled = std::mem::take(&mut self.scratch.runs);
        put_group(&mut group, record::SETTLE, &[], &mut settled);
        self.scratch.runs = settled;
        put_group(&mut group, record::RETURN, &[], &mut returns);
        for reason in [Reason::Rejected, Reason::DeliveryLimit] {
            let mut runs = Vec::new();
            for (place, entry) in dead.still_queued_for(reason) {
                if place.0.is_volatile() {
                    self.graves.add(place, reason, entry.clone());
                    continue;
                }
                runs.push(Run::one(place.0, place.1, place.2));
                self.state.condemned.insert(place, (reason, entry.clone()));
                if let Some(queue) = self.state.queues.get_mut(&place.0) {
                    queue.done(place.2);
                }
                self.graves.add_condemned(place, reason, entry.clone());
            }
            if !runs.is_empty() {
                record::join(&mut runs);
                let mut bytes = Vec::new();
                put_condemned(&mut bytes, reason, &runs);
                group.push((record::CONDEMN, bytes));
            }
        }
        group
    }
}

/// Adds a record with these runs, if there are any.
fn put_group(group: &mut Vec<(u8, Vec<u8>)>, kind: u8, prefix: &[u8], runs: &mut Vec<Run>) {
    if !runs.is_empty() {
        record::join(runs);
        let mut bytes = prefix.to_vec();
        runs.drain(..).for_each(|run| run.put(&mut bytes));
        group.push((kind, bytes));
    }
}

fn op_bytes(op: &Op) -> u64 {
    match op {
        Op::Publish(publish) => (publish.body.len() + publish.properties.len()) as u64,
        Op::Enqueue(job) => (job.body.len() + job.properties.len()) as u64,
        Op::Store(result) => (result.value.len() + result.notes.len()) as u64,
        Op::Finish(_) => RUN_BYTES_MAX,
        Op::Ack { .. } | Op::Release { .. } => 0,
    }
}

/// What a step settles, and how.
const fn settled(op: &Op) -> Option<(Which, End)> {
    match op {
        Op::Publish(_) | Op::Enqueue(_) | Op::Store(_) | Op::Finish(_) => None,
        Op::Ack { tag, is_multiple } => {
            Some((Which { tag: *tag, is_multiple: *is_multiple }, End::Ack))
        }
        Op::Release { tag, is_multiple, is_requeue } => {
            let which = Which { tag: *tag, is_multiple: *is_multiple };
            Some((which, End::of_release(*is_requeue)))
        }
    }
}
