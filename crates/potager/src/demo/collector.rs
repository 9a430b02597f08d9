//! The collector: takes the results off their queue and notes each one once.
//! Not here: judging them (`ledger`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::producer::Board;
use super::worker::{RESULTS, connect, declare, is_disconnect};
use crate::client::{Address, Client, Event};

/// How long the server may be away.
const PATIENCE: Duration = Duration::from_mins(1);
/// Results that may be without acknowledgement.
const PREFETCH: u16 = 1000;

/// Every result, by task: value, worker, serial number of the execution.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) by_task: HashMap<u64, HashSet<(u32, String, u64)>>,
    /// Results that could not be read.
    pub(super) unreadable: u64,
}

/// Collects until everything is over.
pub(super) fn run(address: &Address, board: &Board) -> anyhow::Result<Results> {
    let mut results = Results::default();
    while !board.is_over.load(Ordering::Relaxed) {
        let Some(mut client) = connect(address, PATIENCE, &board.is_over)? else { break };
        match collect(&mut client, board, &mut results) {
            Ok(()) => client.close(),
            Err(error) if is_disconnect(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(results)
}

fn collect(client: &mut Client, board: &Board, results: &mut Results) -> anyhow::Result<()> {
    declare(client)?;
    client.consume(RESULTS, PREFETCH, false)?;
    while !board.is_over.load(Ordering::Relaxed) {
        let mut last = None;
        let mut wait = Duration::from_millis(20);
        while let Some(event) = client.next_event(wait)? {
            if let Event::Delivery(delivery) = event {
                last = Some(delivery.tag);
                results.note(&delivery.body);
                wait = Duration::ZERO;
            }
        }
        board.finished.store(results.by_task.len() as u64, Ordering::Relaxed);
        if let Some(tag) = last {
            client.ack(tag, true);
            client.flush()?;
        }
    }
    Ok(())
}

impl Results {
    /// Notes one result; the same one delivered twice counts once.
    pub(super) fn note(&mut self, body: &[u8]) {
        let parsed = std::str::from_utf8(body).ok().and_then(|text| {
            let mut words = text.split(' ');
            let task: u64 = words.next()?.parse().ok()?;
            let value: u32 = words.next()?.parse().ok()?;
            let worker = words.next()?.to_owned();
            let serial: u64 = words.next()?.parse().ok()?;
            Some((task, (value, worker, serial)))
        });
        match parsed {
            Some((task, result)) => {
                self.by_task.entry(task).or_default().insert(result);
            }
            None => self.unreadable += 1,
        }
    }
}
