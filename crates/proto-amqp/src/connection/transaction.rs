//! Classes tx and confirm: steps held until `tx.commit`, and confirms gathered until written.
//!
//! A commit is one `Request::Commit`: all of it or nothing, one log record. Confirms are counted
//! from 1 per channel and written as one multiple acknowledgement per channel and batch.
//!
//! Deviation(AMQP-007): `tx.commit` is atomic over all queues, acknowledgements included.
//! Deviation(AMQP-008): a missing exchange or an unknown delivery tag inside a transaction is
//! reported by `tx.commit`, not by the step itself; then nothing of it has happened.
//! Deviation(AMQP-017): messages of a transaction are routed by the bindings that there are at
//! `tx.commit`, not by those at each publish.
//! Deviation(AMQP-009): `tx.rollback` drops held acknowledgements; the client may give them again.

use bytes::{Bytes, BytesMut};
use model::{Limits, Op, Publish, Request};
use wire::Outbox;

use super::{
    Connection, Stop,
    channel::{Channel, Mode, in_turn},
    ticket::{self, Ask},
    unimplemented_method,
};
use crate::{
    map::{Failure, precondition},
    table::Method,
};

/// What a transaction has gathered.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    ops: Vec<Op>,
    /// Bytes of all held messages, with a little for each step.
    bytes: u64,
}

/// Counted for each step beside the bytes of its message: what it really takes in memory.
const STEP_BYTES: u64 = size_of::<Op>() as u64 + 64;

impl Transaction {
    /// Holds a message; copies it, so that no network buffer is kept.
    pub(super) fn publish(&mut self, publish: &Publish, limits: &Limits) -> Result<(), Failure> {
        let parts = [&publish.exchange, &publish.routing_key, &publish.properties, &publish.body];
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.make_room(bytes as u64, limits)?;
        let mut copy = BytesMut::with_capacity(bytes);
        for part in parts {
            copy.extend_from_slice(part);
        }
        let mut rest = copy.freeze();
        let mut cut = |part: &Bytes| rest.split_to(part.len());
        self.ops.push(Op::Publish(Publish {
            exchange: cut(&publish.exchange),
            routing_key: cut(&publish.routing_key),
            properties: cut(&publish.properties),
            body: cut(&publish.body),
            options: publish.options.clone(),
        }));
        Ok(())
    }

    /// Holds an acknowledgement or a rejection.
    pub(super) fn settle(&mut self, op: Op, limits: &Limits) -> Result<(), Failure> {
        self.make_room(0, limits)?;
        self.ops.push(op);
        Ok(())
    }

    fn make_room(&mut self, bytes: u64, limits: &Limits) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(STEP_BYTES);
        if self.bytes > u64::from(limits.commit_bytes_max) {
            let max = limits.commit_bytes_max;
            return Err(precondition(format!("transaction is larger than {max} bytes")));
        }
        if self.ops.len() as u64 >= u64::from(limits.commit_ops_max) {
            let max = limits.commit_ops_max;
            return Err(precondition(format!("transaction has more than {max} steps")));
        }
        Ok(())
    }
}

impl Connection {
    /// Methods of the classes confirm and tx. Source of the texts: observed, `RabbitMQ` 3.10.8.
    pub(super) fn on_transaction_class(
        &mut self,
        number: u16,
        method: &Method<'_>,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        match method {
            Method::ConfirmSelect { nowait } => {
                if matches!(channel.mode, Mode::Transaction(_)) {
                    return Err(precondition("cannot switch from tx to confirm mode").into());
                }
                channel.mode = Mode::Confirm;
                in_turn(number, Ask::ConfirmSelect, *nowait, out);
            }
            Method::TxSelect {} => {
                match channel.mode {
                    Mode::Confirm => {
                        return Err(precondition("cannot switch from confirm to tx mode").into());
                    }
                    Mode::Plain => channel.mode = Mode::Transaction(Box::default()),
                    Mode::Transaction(_) => {}
                }
                in_turn(number, Ask::TxSelect, false, out);
            }
            Method::TxCommit {} => {
                let ops = std::mem::take(transaction(channel)?).ops;
                out.submit(number, ticket::plain(Ask::Commit), Request::Commit(ops));
            }
            Method::TxRollback {} => {
                *transaction(channel)? = Transaction::default();
                in_turn(number, Ask::TxRollback, false, out);
            }
            _ => return Err(unimplemented_method().into()),
        }
        Ok(())
    }

    /// So many publishes of the channel are durable.
    pub(super) fn gather_confirms(&mut self, number: u16, count: u32) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        if channel.gathered == 0 && count > 0 {
            self.confirming.push(number);
        }
        channel.answered = channel.answered.saturating_add(count.into());
        channel.gathered = channel.gathered.saturating_add(count.into());
    }

    /// The next publish of the channel was refused by a full queue.
    pub(super) fn on_rejected(&mut self, number: u16, out: &mut Outbox) -> Result<(), Failure> {
        self.write_confirms_of(number, out);
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        if matches!(channel.mode, Mode::Transaction(_)) {
            return Err(precondition("partial tx completion"));
        }
        channel.answered = channel.answered.saturating_add(1);
        let delivery_tag = channel.answered;
        let nack = Method::BasicNack { delivery_tag, multiple: false, requeue: false };
        nack.put(&mut out.bytes, number);
        Ok(())
    }

    /// Writes what was gathered, one acknowledgement per channel.
    pub(super) fn write_confirms(&mut self, out: &mut Outbox) {
        while let Some(number) = self.confirming.pop() {
            self.write_confirms_of(number, out);
        }
    }

    /// Writes what was gathered for one channel.
    pub(super) fn write_confirms_of(&mut self, number: u16, out: &mut Outbox) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        let count = std::mem::take(&mut channel.gathered);
        if count > 0 {
            let delivery_tag = channel.answered;
            let ack = Method::BasicAck { delivery_tag, multiple: count > 1 };
            ack.put(&mut out.bytes, number);
        }
    }
}

/// The channel's transaction. Source of the text: observed, `RabbitMQ` 3.10.8.
fn transaction(channel: &mut Channel) -> Result<&mut Transaction, Failure> {
    match &mut channel.mode {
        Mode::Transaction(transaction) => Ok(transaction),
        Mode::Plain | Mode::Confirm => Err(precondition("channel is not transactional")),
    }
}
