//! [`Publisher`]: sends items in chunks, each with a key that the queue knows it by, so that an
//! item that waits there already is not stored twice, and notes which item is which row.
//! Not here: which rows (`run`).

use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Api;
use super::api::{Said, Sent};
use super::outcome::{Failure, Spool};
use super::recipe::{Item, hash, hex};
use super::record::{Part, put_part};
use super::scan::{Slots, State};

/// Items of one call, and bytes of their bodies; a call has at most 20 MiB.
const CHUNK: (usize, usize) = (10_000, 4 << 20);
/// Shortest and longest pause when a queue is full.
const FULL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Sends the items of one batch.
pub(super) struct Publisher<'a> {
    pub(super) api: &'a Api,
    pub(super) name: &'a str,
    pub(super) queue: &'a str,
    pub(super) headers: Option<Value>,
    pub(super) priority: u8,
    chunk: Vec<Waiting>,
    bytes: usize,
    parts: u64,
    /// Items that the server took.
    pub(super) accepted: u64,
}

struct Waiting {
    slot: usize,
    key: String,
    body: Box<RawValue>,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(api: &'a Api, name: &'a str, queue: &'a str) -> Self {
        let (headers, priority, chunk) = (None, 0, Vec::new());
        Self { api, name, queue, headers, priority, chunk, bytes: 0, parts: 0, accepted: 0 }
    }

    /// Adds an item to the chunk; whether it is full.
    pub(super) fn add(&mut self, slot: usize, item: Item) -> bool {
        self.bytes += item.body.get().len() + item.key.len();
        self.chunk.push(Waiting { slot, key: item.key, body: item.body });
        self.chunk.len() >= CHUNK.0 || self.bytes >= CHUNK.1
    }

    /// Sends the chunk, without those that are done meanwhile.
    ///
    /// # Errors
    /// The server stays away, or refuses all.
    pub(super) async fn flush(
        &mut self,
        slots: &mut Slots,
        spool: &mut Spool,
    ) -> anyhow::Result<()> {
        self.bytes = 0;
        let mut left = std::mem::take(&mut self.chunk);
        left.retain(|item| slots.get(item.slot).is_some_and(|slot| slot.state != State::Done));
        let (mut part, mut pause) = (Part::new(), FULL.0);
        while !left.is_empty() {
            let said = self.send(&left).await?;
            let mut refused = Vec::new();
            for (item, said) in left.into_iter().zip(said) {
                if is_full(&said) {
                    refused.push(item);
                } else {
                    self.note(item, said, &mut part, (slots, spool))?;
                }
            }
            left = refused;
            if !left.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(FULL.1);
            }
        }
        if !part.is_empty() {
            put_part(self.api, self.name, self.parts, &part).await?;
            self.parts += 1;
        }
        Ok(())
    }

    async fn send(&self, items: &[Waiting]) -> anyhow::Result<Vec<Said>> {
        let sent: Vec<Sent<'_>> = items
            .iter()
            .map(|item| Sent {
                key: format!("{}/{}", self.name, item.key),
                body: &item.body,
                headers: self.headers.as_ref(),
                priority: self.priority,
                idempotency_key: hex(&hash(&[self.name.as_bytes(), item.key.as_bytes()])),
            })
            .collect();
        self.api.publish(self.queue, &sent).await
    }

    fn note(
        &mut self,
        item: Waiting,
        said: Said,
        part: &mut Part,
        (slots, spool): (&mut Slots, &mut Spool),
    ) -> anyhow::Result<()> {
        let Some(slot) = slots.get_mut(item.slot) else { return Ok(()) };
        if let Some(id) = said.id {
            self.accepted += 1;
            part.push((item.key, id.to_string()));
            slot.job = Some(id);
            slot.state = State::Sent;
            return Ok(());
        }
        let (class, message) = said.error.map_or_else(Default::default, |e| (e.code, e.message));
        let failure = Failure { class, message, attempts: 0 };
        (slot.at, slot.bytes) = spool.add(&serde_json::to_string(&failure)?)?;
        slot.state = State::Failed;
        Ok(())
    }
}

fn is_full(said: &Said) -> bool {
    said.error.as_ref().is_some_and(|error| error.code == "queue_full")
}
