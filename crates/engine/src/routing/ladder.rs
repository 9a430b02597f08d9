//! Celery's delay ladder recognised: 28 topic exchanges and queues that hold a message for 1, 2, 4,
//! ... seconds each, so that the engine can keep one timer instead. Called by the engine's publish.
//!
//! The routing key begins with the delay as 28 binary digit words, highest first. Level `n` looks
//! at word `27 - n` only: `1` waits in queue `celery_delayed_<n>` for 2^n seconds and is then
//! dead-lettered to level `n - 1`; `0` goes there at once. Nothing changes the key, so
//! `celery_delayed_delivery` gets it with its digits, and the application binds `#.<key>` there.
//!
//! Source: kombu 5.7.0, `kombu/transport/native_delayed_delivery.py`.

use bytes::Bytes;
use model::{Binding, DestinationKind, ExchangeKind, QueueId};

use super::Router;
use super::topic::words;

/// Number of levels, and of digit words.
const LEVELS: usize = 28;
const STEM: &[u8] = b"celery_delayed_";
const DELIVERY: &[u8] = b"celery_delayed_delivery";

/// A message on its way into a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ladder<'a> {
    /// How long the ladder would hold it: at least 1, below 2^28.
    pub(crate) delay_seconds: u64,
    /// As `celery_delayed_delivery` will see it: unchanged, digits included.
    pub(crate) routing_key: &'a [u8],
    /// What stands before `celery_delayed_` in every name: empty, or a prefix with its `_`.
    prefix: &'a [u8],
    /// Where it enters; Celery always takes 27.
    level: usize,
}

impl Ladder<'_> {
    /// The exchange at the ladder's foot, where the message goes when its time has come.
    pub(crate) fn exchange(&self) -> Bytes {
        if self.prefix.is_empty() {
            Bytes::from_static(DELIVERY)
        } else {
            [self.prefix, DELIVERY].concat().into()
        }
    }
}

/// Reads exchange and routing key as a ladder's. `None` when they are not, and when there is
/// nothing to wait for.
pub(crate) fn parse<'a>(exchange: &'a [u8], routing_key: &'a [u8]) -> Option<Ladder<'a>> {
    // Nearly every message leaves here: its exchange does not end in a digit.
    exchange.last().filter(|byte| byte.is_ascii_digit())?;
    let digits = exchange.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (stem, number) = exchange.split_at_checked(exchange.len().checked_sub(digits)?)?;
    let prefix = stem.strip_suffix(STEM)?;
    let level: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
    if level >= LEVELS || (number.len() > 1 && number.first() == Some(&b'0')) {
        return None;
    }
    let mut delay_seconds = 0;
    let mut count = 0;
    for (at, word) in words(routing_key).take(LEVELS).enumerate() {
        count += 1;
        // Words before the entry's own are stars to every level below.
        if at + level + 1 >= LEVELS {
            delay_seconds = delay_seconds * 2
                + match word {
                    b"0" => 0,
                    b"1" => 1,
                    _ => return None,
                };
        }
    }
    let is_ladder = count == LEVELS && delay_seconds > 0;
    is_ladder.then_some(Ladder { delay_seconds, routing_key, prefix, level })
}

/// The last ladder that was looked at, and whether it stands. Volatile.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Generation plus one; 0 is nothing yet.
    stamp: u64,
    prefix: Box<[u8]>,
    level: usize,
    queues: Option<Box<[QueueId]>>,
}

impl Router {
    /// [`parse`], and the whole ladder below the entry stands in this router exactly as Celery
    /// builds it: no binding missing, none added. What the queues' arguments say is for the
    /// caller to check; it finds them with [`Router::ladder_queues`].
    pub(crate) fn ladder<'a>(
        &mut self,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    ) -> Option<Ladder<'a>> {
        let ladder = parse(exchange, routing_key)?;
        self.ladder_queues(&ladder).map(|_| ladder)
    }

    /// The queues of a standing ladder, level 0 first. Remembered until the topology changes.
    pub(crate) fn ladder_queues(&mut self, ladder: &Ladder<'_>) -> Option<&[QueueId]> {
        let stamp = self.cache.generation() + 1;
        let known = &self.ladders;
        if known.stamp != stamp || known.level != ladder.level || *known.prefix != *ladder.prefix {
            let queues = self.survey(ladder);
            let prefix = ladder.prefix.into();
            self.ladders = Known { stamp, prefix, level: ladder.level, queues };
        }
        self.ladders.queues.as_deref()
    }

    fn survey(&self, ladder: &Ladder<'_>) -> Option<Box<[QueueId]>> {
        let delivery = ladder.exchange();
        self.exchange(&delivery)?;
        let name = |level: usize| {
            Bytes::from([ladder.prefix, STEM, level.to_string().as_bytes()].concat())
        };
        let mut below = delivery;
        let mut queues = Vec::with_capacity(ladder.level + 1);
        for level in 0..=ladder.level {
            let here = name(level);
            let spec = self.exchange(&here)?.spec();
            if spec.kind != ExchangeKind::Topic || spec.is_delayed {
                return None;
            }
            let stars = "*.".repeat(LEVELS - 1 - level);
            let wait = binding(&here, DestinationKind::Queue, &here, format!("{stars}1.#"));
            let pass = binding(&here, DestinationKind::Exchange, &below, format!("{stars}0.#"));
            let is_whole = self.bindings.contains(&wait)
                && self.bindings.contains(&pass)
                && self.bindings.leaving(&here).nth(2).is_none();
            if !is_whole {
                return None;
            }
            queues.push(self.queue(&here)?);
            below = here;
        }
        Some(queues.into())
    }
}

fn binding(source: &Bytes, kind: DestinationKind, destination: &Bytes, key: String) -> Binding {
    Binding {
        source: source.clone(),
        kind,
        destination: destination.clone(),
        routing_key: key.into(),
        arguments: Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
