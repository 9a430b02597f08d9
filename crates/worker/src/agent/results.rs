//! Results on their way: gathered into batches, written to the spool, sent, and removed from it
//! once the server has said yes. What the server will never take is set aside, alone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Agent, Heard, Stage};
use crate::Fault;
use crate::api::{self, Batch, Call, Item, Lease, Payload, Said};
use crate::backoff::{Backoff, chance};
use crate::ending::{Failure, Perform};
use crate::server::{Server, Trouble};
use crate::spool::{Content, Spool, Stored, Unreadable};

/// Items of one batch.
const ITEMS_MAX: usize = 500;
/// Bytes after which a batch takes no further item; the server takes 20 MiB.
const BYTES_ENOUGH: usize = 2 << 20;
/// Bytes of batches that are kept in memory besides the disk.
const MEMORY_BYTES_MAX: usize = 32 << 20;

/// The state of results.
#[derive(Debug)]
pub(super) struct Results {
    /// Not yet in a batch; as many as there were items at most.
    fresh: VecDeque<(Call, Box<RawValue>)>,
    /// Batches to be sent, oldest first.
    entries: VecDeque<Entry>,
    is_storing: bool,
    is_sending: bool,
    backoff: Backoff,
    /// No try before this.
    next: Option<Instant>,
}

/// One batch.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it is on the disk; `None` if that did not work.
    stored: Option<Stored>,
    /// What it says; `None` leaves it on the disk.
    content: Option<(Call, Bytes)>,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Sent {
    /// The server has it, and says this.
    Taken { call: Call, leases: Vec<Lease>, said: Vec<Said> },
    /// Not now.
    Kept { entry: Entry, trouble: Trouble },
    /// The server will not take it as a whole; here is each of its items.
    Split(Vec<Entry>),
    /// The server will never take this one item.
    Never { call: Call, leases: Vec<Lease>, why: String },
    /// The file is not what was written.
    Torn,
}

impl Results {
    pub(super) fn new(backoff: Backoff, found: Vec<Stored>) -> Self {
        let entry = |stored| Entry { stored: Some(stored), content: None };
        Self {
            fresh: VecDeque::new(),
            entries: found.into_iter().map(entry).collect(),
            is_storing: false,
            is_sending: false,
            backoff,
            next: None,
        }
    }

    /// Nothing is to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.entries.is_empty() && !self.is_storing && !self.is_sending
    }

    /// Everything is on the disk, or cannot be.
    pub(super) fn is_stored(&self) -> bool {
        self.fresh.is_empty() && !self.is_storing
    }

    /// The last try failed and the next one waits.
    pub(super) const fn is_failing(&self) -> bool {
        self.backoff.failures() > 0 && !self.is_sending
    }

    /// The next try is made at once.
    pub(super) const fn hurry(&mut self) {
        self.backoff.succeeded();
        self.next = None;
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.next.filter(|next| *next > Instant::now() && !self.entries.is_empty())
    }

    pub(super) const fn forget_tasks(&mut self) {
        self.is_storing = false;
        self.is_sending = false;
    }

    /// Takes the next batch out of what is fresh: of one kind, in order.
    fn gather(&mut self, worker: &str) -> Option<(Call, Bytes)> {
        let call = self.fresh.front()?.0;
        let (mut items, mut bytes) = (Vec::new(), 0);
        while let Some((_, raw)) = self.fresh.front().filter(|(kind, _)| *kind == call) {
            bytes += raw.get().len();
            if !items.is_empty() && (items.len() >= ITEMS_MAX || bytes > BYTES_ENOUGH) {
                break;
            }
            items.extend(self.fresh.pop_front().map(|(_, raw)| raw));
        }
        Some((call, body_of(worker, items)))
    }

    fn memory_bytes(&self) -> usize {
        let contents = self.entries.iter().filter_map(|entry| entry.content.as_ref());
        contents.map(|(_, body)| body.len()).sum()
    }
}

fn body_of(worker: &str, items: Vec<Box<RawValue>>) -> Bytes {
    let batch = Batch { worker: worker.to_owned(), items };
    // Strings and text that is JSON already: writing it to memory cannot fail.
    Bytes::from(serde_json::to_vec(&batch).unwrap_or_default())
}

impl<S: Server, P: Perform> Agent<S, P> {
    pub(super) fn report_result(
        &mut self,
        item: &Item,
        payload: &Payload,
        notes: &Map<String, Value>,
    ) {
        let lease = self.newest(item);
        self.mark_ended(&item.id);
        match api::completion((&lease, item.key()), payload, notes, self.rules.policy) {
            Ok(raw) => self.results.fresh.push_back((Call::Complete, raw)),
            Err(error) => {
                let failure = Failure::new("bad_answer", error.to_string());
                self.report_failure(&lease, &failure);
            }
        }
    }

    pub(super) fn report_failure(&mut self, lease: &Lease, failure: &Failure) {
        self.mark_ended(&lease.id);
        let Failure { class, message, is_final } = failure;
        if let Ok(raw) = api::failing(lease, class, message, *is_final) {
            self.results.fresh.push_back((Call::Fail, raw));
        }
    }

    /// The lease of an item as it is now: it may have been lost and taken again while it ran.
    pub(super) fn newest(&self, item: &Item) -> Lease {
        let attempt = self.held.get(&item.id).map_or(item.attempt, |held| held.attempt);
        Lease { id: item.id.clone(), attempt }
    }

    fn mark_ended(&mut self, id: &str) {
        if let Some(held) = self.held.get_mut(id) {
            held.stage = Stage::Ended;
        }
    }

    /// Writes the next batch to the disk.
    pub(super) fn store(&mut self) {
        if self.results.is_storing {
            return;
        }
        let Some((call, body)) = self.results.gather(&self.rules.name) else { return };
        self.results.is_storing = true;
        let spool = Arc::clone(&self.spool);
        let _running = self.calls.spawn(async move {
            let written = {
                let body = body.clone();
                spawn_blocking(move || spool.put(call, &body)).await
            };
            let stored = match written {
                Ok(Ok(stored)) => Some(stored),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the spool cannot be written; sent from memory");
                    None
                }
                Err(error) => {
                    tracing::error!(%error, "a write to the spool broke");
                    None
                }
            };
            Heard::Stored(Entry { stored, content: Some((call, body)) })
        });
    }

    pub(super) fn on_stored(&mut self, mut entry: Entry) {
        self.results.is_storing = false;
        if entry.stored.is_some() && self.results.memory_bytes() > MEMORY_BYTES_MAX {
            entry.content = None;
        }
        self.results.entries.push_back(entry);
    }

    /// Sends the oldest batch.
    pub(super) fn send(&mut self) {
        let now = Instant::now();
        let must_wait = self.results.next.is_some_and(|next| next > now);
        if self.results.is_sending || must_wait {
            return;
        }
        let Some(entry) = self.results.entries.pop_front() else { return };
        self.results.is_sending = true;
        let (server, spool) = (Arc::clone(&self.server), Arc::clone(&self.spool));
        let _running =
            self.calls.spawn(async move { Heard::Sent(deliver(server, spool, entry).await) });
    }

    pub(super) fn on_sent(&mut self, sent: Sent) -> Result<(), Fault> {
        self.results.is_sending = false;
        if !matches!(sent, Sent::Kept { .. }) {
            self.results.backoff.succeeded();
            self.results.next = None;
        }
        match sent {
            Sent::Taken { call, leases, said } => {
                self.heard_from_server(&Ok(()));
                for lease in &leases {
                    self.let_go(lease);
                }
                for said in said {
                    let lease = leases.iter().find(|lease| lease.id == said.id);
                    self.on_said(call, lease, &said);
                }
            }
            Sent::Kept { entry, trouble } => {
                let pause = self.results.backoff.failed(chance(), trouble.retry_after());
                self.results.next = Some(Instant::now() + pause);
                let result = Err::<(), _>(trouble);
                self.results.entries.push_front(entry);
                self.refuse_login(&result)?;
                self.heard_from_server(&result);
            }
            Sent::Split(entries) => {
                for entry in entries.into_iter().rev() {
                    self.results.entries.push_front(entry);
                }
            }
            Sent::Never { call, leases, why } => {
                tracing::error!(why, "a result was refused for good and set aside");
                for lease in leases {
                    self.refuse(call, &lease, &why);
                }
            }
            Sent::Torn => {}
        }
        Ok(())
    }

    fn on_said(&mut self, call: Call, lease: Option<&Lease>, said: &Said) {
        if matches!(said.outcome.as_deref(), Some("done_before" | "kept_first")) {
            self.figures.done_before += 1;
        }
        if let Some(error) = &said.error {
            tracing::warn!(item = said.id, code = error.code, message = error.message, "refused");
            if let Some(lease) = lease.filter(|_| error.code != "not_found") {
                self.refuse(call, lease, &format!("{}: {}", error.code, error.message));
            }
        }
    }

    /// The server knows how an item ended. By now it may be ours anew: that is another lease.
    fn let_go(&mut self, lease: &Lease) {
        let held = self.held.get(&lease.id);
        if held.is_some_and(|h| h.attempt == lease.attempt && matches!(h.stage, Stage::Ended)) {
            let _ours = self.held.remove(&lease.id);
        }
    }

    /// A result that is refused leaves its item open: it fails, so that somebody sees it.
    fn refuse(&mut self, call: Call, lease: &Lease, why: &str) {
        self.let_go(lease);
        if call == Call::Complete {
            self.figures.count_failure("result_refused");
            let failure = Failure { is_final: true, ..Failure::new("result_refused", why) };
            self.report_failure(lease, &failure);
        }
    }
}

/// Sends one batch and puts the disk in order after it.
async fn deliver<S: Server>(server: Arc<S>, spool: Arc<Spool>, mut entry: Entry) -> Sent {
    let (call, body) = match content_of(&spool, &mut entry).await {
        Ok(content) => content,
        Err(sent) => return sent,
    };
    let Ok(batch) = serde_json::from_slice::<Batch>(&body) else {
        return torn(&spool, &entry, "it is no batch");
    };
    let leases = || batch.items.iter().filter_map(|raw| api::lease_of(raw)).collect();
    match server.deliver(call, body.clone()).await {
        Ok(said) => {
            tidy(&spool, &entry, None).await;
            // The attempt is ours to know.
            Sent::Taken { call, leases: leases(), said }
        }
        Err(Trouble::Refused { code, message }) if batch.items.len() > 1 => {
            tracing::warn!(code, message, "a batch is refused: sent one by one");
            split(spool, entry, call, batch).await
        }
        Err(Trouble::Refused { code, message }) => {
            tidy(&spool, &entry, Some("refused")).await;
            Sent::Never { call, leases: leases(), why: format!("{code}: {message}") }
        }
        Err(trouble @ (Trouble::Away { .. } | Trouble::Login(_))) => Sent::Kept { entry, trouble },
    }
}

/// What a batch says, from memory or from the disk.
async fn content_of(spool: &Arc<Spool>, entry: &mut Entry) -> Result<(Call, Bytes), Sent> {
    if let Some((call, body)) = &entry.content {
        return Ok((*call, body.clone()));
    }
    let Some(stored) = entry.stored.clone() else { return Err(Sent::Torn) };
    match spawn_blocking(move || Spool::read(&stored)).await {
        Ok(Ok(Content { call, body })) => Ok((call, body)),
        Ok(Err(Unreadable::Io(error))) if error.kind() != std::io::ErrorKind::NotFound => {
            let detail = format!("the spool cannot be read: {error}");
            let entry = Entry { stored: entry.stored.take(), content: None };
            Err(Sent::Kept { entry, trouble: Trouble::Away { detail, retry_after: None } })
        }
        Ok(Err(fault)) => Err(torn(spool, entry, &fault.to_string())),
        Err(error) => Err(torn(spool, entry, &error.to_string())),
    }
}

fn torn(spool: &Spool, entry: &Entry, why: &str) -> Sent {
    if let Some(stored) = &entry.stored {
        let path = spool.set_aside(stored, "torn");
        tracing::error!(path = %path.display(), why, "a batch in the spool is damaged; set aside");
    }
    Sent::Torn
}

/// Removes the file, or sets it aside.
async fn tidy(spool: &Arc<Spool>, entry: &Entry, aside: Option<&'static str>) {
    let Some(stored) = entry.stored.clone() else { return };
    let spool = Arc::clone(spool);
    let done = spawn_blocking(move || match aside {
        Some(ending) => drop(spool.set_aside(&stored, ending)),
        None => spool.remove(&stored),
    });
    let _done_or_broken = done.await;
}

/// Each item of a batch as a batch of its own. The whole one goes after they are on the disk.
async fn split(spool: Arc<Spool>, entry: Entry, call: Call, batch: Batch) -> Sent {
    let divided = spawn_blocking(move || {
        let mut entries = Vec::new();
        let mut are_stored = true;
        for raw in batch.items {
            let body = body_of(&batch.worker, vec![raw]);
            let stored = spool.put(call, &body).ok();
            are_stored &= stored.is_some();
            entries.push(Entry { stored, content: Some((call, body)) });
        }
        if let Some(stored) = entry.stored.filter(|_| are_stored) {
            spool.remove(&stored);
        }
        entries
    });
    divided.await.map_or(Sent::Torn, Sent::Split)
}
