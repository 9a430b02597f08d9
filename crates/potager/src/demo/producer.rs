//! The producer: publishes numbered tasks with confirms until each one is confirmed.
//!
//! A task whose confirm was lost with the server is published again: that is what any careful
//! client does, and the ledger shows how often it led to a repetition. Not here: executing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::worker::{PERSISTENT, TASKS, connect, declare, is_disconnect};
use crate::client::{Address, Client, Event, Message};

/// Unconfirmed tasks.
const WINDOW: usize = 256;
/// How far publishing may be ahead of the results, so that every kill hits both.
const AHEAD_MAX: u64 = 4000;
/// How long the server may be away.
const PATIENCE: Duration = Duration::from_mins(1);

/// What everybody in a demonstration can see.
#[derive(Default)]
pub(super) struct Board {
    /// Distinct tasks handed to the socket.
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    /// Distinct tasks whose result is there.
    pub(super) finished: AtomicU64,
    /// Everybody ends.
    pub(super) is_over: AtomicBool,
}

/// How many tasks.
#[derive(Clone, Copy)]
pub(super) enum Quota {
    Tasks(u64),
    Until(Instant),
}

impl Quota {
    fn allows(self, next: u64) -> bool {
        match self {
            Self::Tasks(tasks) => next <= tasks,
            Self::Until(end) => Instant::now() < end,
        }
    }
}

/// What became of the publishing: by task number minus one.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) attempts: Vec<u32>,
    pub(super) is_confirmed: Vec<bool>,
}

/// Publishes all tasks and returns when all are confirmed.
pub(super) fn run(address: &Address, quota: Quota, board: &Board) -> anyhow::Result<Published> {
    let mut published = Published::default();
    let mut again = VecDeque::new();
    loop {
        let Some(mut client) = connect(address, PATIENCE, &board.is_over)? else {
            bail!("the server did not come back");
        };
        let mut flight = Flight { by_number: Vec::new(), again: &mut again };
        let outcome = publish(&mut client, quota, board, (&mut published, &mut flight));
        match outcome {
            Ok(()) => {
                client.close();
                return Ok(published);
            }
            Err(error) if is_disconnect(&error) => {
                let lost = flight.by_number.iter().flatten().copied();
                again.extend(lost);
            }
            Err(error) => return Err(error),
        }
    }
}

/// What is under way on one connection.
struct Flight<'a> {
    /// The task of each publish number, from 1; `None` once answered.
    by_number: Vec<Option<u64>>,
    /// Tasks to publish again, oldest first.
    again: &'a mut VecDeque<u64>,
}

fn publish(
    client: &mut Client,
    quota: Quota,
    board: &Board,
    (published, flight): (&mut Published, &mut Flight<'_>),
) -> anyhow::Result<()> {
    declare(client)?;
    client.confirm_select()?;
    while !board.is_over.load(Ordering::Relaxed) {
        while client.unconfirmed() < WINDOW
            && let Some(task) = next_task(quota, board, published, flight)
        {
            let body = task.to_string();
            client.publish(&Message {
                routing_key: TASKS,
                properties: PERSISTENT,
                body: body.as_bytes(),
                ..Message::default()
            })?;
            flight.by_number.push(Some(task));
            if let Some(attempts) = published.attempts.get_mut(index_of(task)) {
                *attempts += 1;
            }
        }
        let is_done = client.unconfirmed() == 0 && flight.again.is_empty();
        if is_done && !quota.allows(published.attempts.len() as u64 + 1) {
            return Ok(());
        }
        let mut wait = Duration::from_millis(5);
        while let Some(event) = client.next_event(wait)? {
            settle(&event, board, published, flight);
            wait = Duration::ZERO;
        }
    }
    Ok(())
}

/// The next task to publish: one to repeat, or a new one if that is not too far ahead.
fn next_task(
    quota: Quota,
    board: &Board,
    published: &mut Published,
    flight: &mut Flight<'_>,
) -> Option<u64> {
    if let Some(task) = flight.again.pop_front() {
        return Some(task);
    }
    let task = published.attempts.len() as u64 + 1;
    let ahead = task.saturating_sub(board.finished.load(Ordering::Relaxed));
    if ahead > AHEAD_MAX || !quota.allows(task) {
        return None;
    }
    published.attempts.push(0);
    published.is_confirmed.push(false);
    board.published.store(task, Ordering::Relaxed);
    Some(task)
}

fn settle(event: &Event, board: &Board, published: &mut Published, flight: &mut Flight<'_>) {
    let Event::Confirm { number, is_ack } = *event else { return };
    let slot = flight.by_number.get_mut(index_of(number));
    let Some(task) = slot.and_then(Option::take) else { return };
    if !is_ack {
        flight.again.push_back(task);
    } else if let Some(is_confirmed) = published.is_confirmed.get_mut(index_of(task))
        && !std::mem::replace(is_confirmed, true)
    {
        board.confirmed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where something numbered from 1 lies.
pub(super) fn index_of(number: u64) -> usize {
    usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX)
}
