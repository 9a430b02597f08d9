//! The clients of a crash run and what they were promised. Each survives lost connections and
//! writes down only what the server has acknowledged. Not here: comparing (`audit`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::client::{Address, Client, Event, Fault, Message, QueueSpec};
use crate::demo::worker::{PERSISTENT, connect, is_disconnect};

/// Where inputs wait.
pub(super) const INPUTS: &str = "crash.inputs";
/// Where a step's result goes.
pub(super) const RESULTS: &str = "crash.results";
/// Where what comes next goes.
pub(super) const NEXT: &str = "crash.next";

const PUBLISHERS: usize = 2;
const STEPPERS: usize = 3;
/// Unconfirmed inputs per publisher.
const WINDOW: usize = 50;
/// Inputs in one transaction.
const COMMIT_MAX: usize = 5;
/// A pause after each wave, so that a run of a thousand kills stays small.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the server may be away.
const PATIENCE: Duration = Duration::from_mins(1);

/// What everybody shares.
pub(super) struct Stage {
    address: Address,
    /// The next input's number: each is published at most once.
    next: AtomicU64,
    first: u64,
    pub(super) is_over: AtomicBool,
}

/// What the server has acknowledged.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// All numbers below were handed out, from `first`.
    pub(super) first: u64,
    pub(super) end: u64,
    /// Inputs with a confirm.
    pub(super) confirmed: HashSet<u64>,
    /// Inputs of transactions with a commit-ok.
    pub(super) committed: HashSet<u64>,
    /// Connections that a kill cut.
    pub(super) cuts: u64,
}

impl Claims {
    /// Adds those of another actor.
    pub(super) fn add(&mut self, other: Self) {
        self.first = other.first;
        self.end = self.end.max(other.end);
        self.confirmed.extend(other.confirmed);
        self.committed.extend(other.committed);
        self.cuts += other.cuts;
    }
}

type Actor<'scope> = ScopedJoinHandle<'scope, anyhow::Result<Claims>>;

impl Stage {
    /// A stage whose inputs are numbered from `first`.
    pub(super) fn new(address: Address, first: u64) -> Self {
        Self { address, next: AtomicU64::new(first), first, is_over: AtomicBool::new(false) }
    }

    /// Starts all actors.
    pub(super) fn spawn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
    ) -> Vec<Actor<'scope>> {
        let mut actors = Vec::new();
        for _ in 0..PUBLISHERS {
            actors.push(scope.spawn(|| self.reconnecting(|client, c| self.publish(client, c))));
        }
        for _ in 0..STEPPERS {
            actors.push(scope.spawn(|| self.reconnecting(|client, c| self.step(client, c))));
        }
        actors
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Does `work` with a new connection until it is over.
    fn reconnecting(
        &self,
        work: impl Fn(&mut Client, &mut Claims) -> anyhow::Result<()>,
    ) -> anyhow::Result<Claims> {
        let mut claims = Claims { first: self.first, ..Claims::default() };
        while !self.is_over() {
            let Some(mut client) = connect(&self.address, PATIENCE, &self.is_over)? else { break };
            match declare(&mut client)
                .map_err(Into::into)
                .and_then(|()| work(&mut client, &mut claims))
            {
                Ok(()) => client.close(),
                Err(error) if is_disconnect(&error) => claims.cuts += 1,
                Err(error) => return Err(error),
            }
        }
        claims.end = self.next.load(Ordering::Relaxed);
        Ok(claims)
    }

    /// Publishes inputs; a confirm is noted, a cut connection's open ones stay unknown.
    fn publish(&self, client: &mut Client, claims: &mut Claims) -> anyhow::Result<()> {
        client.confirm_select()?;
        let mut numbers = Vec::new();
        loop {
            while client.unconfirmed() < WINDOW && !self.is_over() {
                let input = self.next.fetch_add(1, Ordering::Relaxed);
                numbers.push(input);
                publish(client, INPUTS, input)?;
            }
            let mut wait = PAUSE;
            while let Some(event) = client.next_event(wait)? {
                if let Event::Confirm { number, is_ack: true } = event {
                    let index = crate::demo::producer::index_of(number);
                    claims.confirmed.extend(numbers.get(index));
                }
                wait = Duration::ZERO;
            }
            if self.is_over() && client.unconfirmed() == 0 {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes inputs and makes of each a result and a next step, in one transaction.
    fn step(&self, client: &mut Client, claims: &mut Claims) -> anyhow::Result<()> {
        client.tx_select()?;
        client.consume(INPUTS, 20, false)?;
        while !self.is_over() {
            let mut inputs = Vec::new();
            let mut wait = Duration::from_millis(50);
            while inputs.len() < COMMIT_MAX
                && let Some(event) = client.next_event(wait)?
            {
                if let Event::Delivery(delivery) = event {
                    let input = number(&delivery.body)?;
                    publish(client, RESULTS, input)?;
                    client.ack(delivery.tag, false);
                    publish(client, NEXT, input)?;
                    inputs.push(input);
                }
                wait = Duration::ZERO;
            }
            if !inputs.is_empty() {
                client.tx_commit()?;
                claims.committed.extend(inputs);
            }
        }
        Ok(())
    }
}

/// Declares the queues of a crash run.
pub(super) fn declare(client: &mut Client) -> Result<(), Fault> {
    for name in [INPUTS, RESULTS, NEXT] {
        client.declare_queue(&QueueSpec { name, is_durable: true, ..QueueSpec::default() })?;
    }
    Ok(())
}

fn publish(client: &mut Client, queue: &str, number: u64) -> Result<u64, Fault> {
    client.publish(&Message {
        routing_key: queue,
        properties: PERSISTENT,
        body: number.to_string().as_bytes(),
        ..Message::default()
    })
}

/// The number in a body.
pub(super) fn number(body: &[u8]) -> anyhow::Result<u64> {
    Ok(std::str::from_utf8(body)?.parse()?)
}
