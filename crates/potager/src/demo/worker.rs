//! A built-in worker: a process of its own that executes tasks, so that SIGKILL can end it.
//!
//! Each task is acknowledged and its result published in one `tx.commit`. Not here: what the
//! results are for (`collector`). Called by the hidden `potager demo worker`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::books::Book;
use crate::client::{Address, Client, Delivery, Event, Fault, Message, QueueSpec};

/// Where tasks wait.
pub(super) const TASKS: &str = "demo.tasks";
/// Where results wait.
pub(super) const RESULTS: &str = "demo.results";
/// Tasks that a worker may hold.
const PREFETCH: u16 = 64;
/// Tasks in one commit.
const COMMIT_MAX: usize = 32;
/// How long a worker tries to reach a server that is gone.
const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// Executes tasks until standard input ends or the server stays away.
///
/// # Errors
/// When something else than a lost connection happens.
pub(crate) fn run(address: &Address, books: &Path, name: &str) -> anyhow::Result<()> {
    let is_over = &*Box::leak(Box::new(AtomicBool::new(false)));
    // The parent holds the other end: when it is gone, whatever the reason, so are its workers.
    std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        is_over.store(true, Ordering::Relaxed);
    });
    let mut book = Book::open(books, name)?;
    while !is_over.load(Ordering::Relaxed) {
        let Some(mut client) = connect(address, RECONNECT_MAX, is_over)? else { return Ok(()) };
        match serve(&mut client, &mut book, name, is_over) {
            Ok(()) => client.close(),
            Err(error) if is_disconnect(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an error only means that the server went away.
pub(super) fn is_disconnect(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Fault>().is_some_and(Fault::is_disconnect)
}

/// Connects as soon as the server is there; `None` when it is not for `patience`.
pub(super) fn connect(
    address: &Address,
    patience: Duration,
    is_over: &AtomicBool,
) -> anyhow::Result<Option<Client>> {
    let until = Instant::now() + patience;
    loop {
        match Client::connect(address) {
            Ok(client) => return Ok(Some(client)),
            Err(fault) if !fault.is_disconnect() => return Err(fault.into()),
            Err(_) if Instant::now() > until || is_over.load(Ordering::Relaxed) => {
                return Ok(None);
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Declares the queues of the demonstration.
pub(super) fn declare(client: &mut Client) -> Result<(), Fault> {
    for name in [TASKS, RESULTS] {
        client.declare_queue(&QueueSpec { name, is_durable: true, ..QueueSpec::default() })?;
    }
    Ok(())
}

fn serve(
    client: &mut Client,
    book: &mut Book,
    name: &str,
    is_over: &AtomicBool,
) -> anyhow::Result<()> {
    declare(client)?;
    client.tx_select()?;
    client.consume(TASKS, PREFETCH, false)?;
    let mut batch: Vec<Delivery> = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let mut wait = Duration::from_millis(500);
        while batch.len() < COMMIT_MAX {
            let Some(event) = client.next_event(wait)? else { break };
            if let Event::Delivery(delivery) = event {
                batch.push(delivery);
                wait = Duration::ZERO;
            }
        }
        if !batch.is_empty() {
            execute(client, book, name, &batch)?;
            batch.clear();
        }
    }
    Ok(())
}

/// Executes a batch and makes it one commit: all acknowledged and all results, or nothing.
fn execute(
    client: &mut Client,
    book: &mut Book,
    name: &str,
    batch: &[Delivery],
) -> anyhow::Result<()> {
    let mut results = Vec::new();
    for delivery in batch {
        let task = std::str::from_utf8(&delivery.body)?.parse()?;
        let value = steps(task);
        let serial = book.note(task, delivery.is_redelivered);
        results.push(format!("{task} {value} {name} {serial}"));
    }
    book.write()?;
    for (delivery, result) in batch.iter().zip(&results) {
        client.publish(&Message {
            routing_key: RESULTS,
            properties: PERSISTENT,
            body: result.as_bytes(),
            ..Message::default()
        })?;
        client.ack(delivery.tag, false);
    }
    client.tx_commit()?;
    Ok(())
}

/// Properties with nothing but delivery mode 2.
pub(super) const PERSISTENT: &[u8] = &[0x10, 0x00, 2];

/// The work: how many steps the Collatz sequence takes from `task` to 1. Easy to check, and
/// different for every task.
pub(super) fn steps(task: u64) -> u32 {
    let (mut number, mut steps) = (task.max(1), 0);
    while number != 1 {
        number = if number.is_multiple_of(2) { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    steps
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_work_has_known_results() {
        for (task, expected) in [(0, 0), (1, 0), (6, 8), (27, 111), (97, 118)] {
            assert_eq!(super::steps(task), expected, "{task}");
        }
    }
}
