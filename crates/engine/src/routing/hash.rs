//! Consistent-hash exchanges: weighted rendezvous. Each destination draws a number for a key; the
//! smallest one, measured against its weight, wins. Called by the matcher.
//!
//! Nothing is stored per weight unit; a destination that comes or goes moves only its own share of
//! keys; and the arithmetic is integer only, so every machine routes alike. Cost: one step per
//! binding.
//!
//! Deviation(AMQP-101): the keys of `x-consistent-hash` fall on other queues than `RabbitMQ`'s
//! hash would choose (shares by weight are the same). Of two bindings to one destination the
//! heavier counts, not the first. `hash-property` is not read: such an exchange spreads by routing
//! key.

use bytes::Bytes;
use model::table::{find, put_value};
use model::{Binding, DestinationKind};

use super::target::Target;

/// Largest weight; with it scores stay below 2^64 (see [`cost`]).
pub(super) const WEIGHT_MAX: u32 = 1_000_000;

/// Reads a binding key as a weight.
pub(super) fn weight(routing_key: &[u8]) -> Option<u32> {
    let weight = std::str::from_utf8(routing_key).ok()?.parse().ok()?;
    (1..=WEIGHT_MAX).contains(&weight).then_some(weight)
}

/// Bindings of one consistent-hash exchange.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Sorted, so that it does not depend on the order of binding.
    buckets: Vec<Bucket>,
    /// Header to hash instead of the routing key.
    header: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket {
    /// From the destination's name alone: a changed weight moves no more keys than it must.
    seed: u64,
    weight: u32,
    target: Target,
}

impl Spread {
    /// For an exchange declared with these arguments.
    pub(super) fn new(arguments: &[u8]) -> Self {
        let header = find(arguments, b"hash-header").and_then(|value| value.as_text());
        Self { buckets: Vec::new(), header: header.map(Bytes::copy_from_slice) }
    }

    /// Whether a header decides instead of the routing key.
    pub(super) const fn reads_headers(&self) -> bool {
        self.header.is_some()
    }

    /// Adds one binding whose key was checked with [`weight`].
    pub(super) fn add(&mut self, binding: &Binding, target: Target) {
        if let Some(bucket) = bucket(binding, target) {
            // Twice the same: bindings that differ only in their arguments.
            let (Ok(at) | Err(at)) = self.buckets.binary_search(&bucket);
            self.buckets.insert(at, bucket);
        }
    }

    /// Removes one binding.
    pub(super) fn remove(&mut self, binding: &Binding, target: Target) {
        if let Some(bucket) = bucket(binding, target)
            && let Ok(at) = self.buckets.binary_search(&bucket)
        {
            self.buckets.remove(at);
        }
    }

    /// The one target for a message.
    pub(super) fn find(&self, routing_key: &[u8], headers: &[u8]) -> Option<Target> {
        let hash = match &self.header {
            None => hash(routing_key),
            Some(name) => match find(headers, name) {
                None => hash(&[]),
                Some(value) => {
                    let mut bytes = Vec::new();
                    put_value(&mut bytes, value);
                    hash(&bytes)
                }
            },
        };
        let mut best: Option<(u64, u32, Target)> = None;
        for bucket in &self.buckets {
            let score = cost(mix(hash ^ bucket.seed));
            let is_better = best.is_none_or(|(other, weight, _)| {
                score * u64::from(weight) < other * u64::from(bucket.weight)
            });
            if is_better {
                best = Some((score, bucket.weight, bucket.target));
            }
        }
        best.map(|(_, _, target)| target)
    }
}

fn bucket(binding: &Binding, target: Target) -> Option<Bucket> {
    let salt = match binding.kind {
        DestinationKind::Queue => 0,
        DestinationKind::Exchange => u64::MAX,
    };
    let seed = mix(hash(&binding.destination) ^ salt);
    Some(Bucket { seed, weight: weight(&binding.routing_key)?, target })
}

/// FNV-1a. Part of what the state becomes, so it may never change.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Spreads every input bit over all output bits (the last steps of `SplitMix64`).
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// `-log2(draw / 2^64)` in units of 2^-32, at most 65 x 2^32: with a uniform draw an exponential
/// variable, whose minimum over weights falls on each in proportion.
fn cost(draw: u64) -> u64 {
    let draw = draw | 1;
    let zeros = draw.leading_zeros();
    let digits = (draw << zeros) << 1;
    let at = usize::try_from(digits >> 56).unwrap_or(0);
    let within = (digits >> 24) & 0xFFFF_FFFF;
    let low = LOG2.get(at).copied().unwrap_or(0);
    let high = LOG2.get(at + 1).copied().unwrap_or(1 << 32);
    let fraction = low + (((high - low) * within) >> 32);
    (u64::from(zeros + 1) << 32) - fraction
}

/// `log2(1 + i/256)` in units of 2^-32 for `i` in `0..=256`.
static LOG2: [u64; 257] = {
    let mut table = [0; 257];
    let mut i = 0_u64;
    let mut rest: &mut [u64] = &mut table;
    while let Some((entry, tail)) = rest.split_first_mut() {
        *entry = if i == 256 { 1 << 32 } else { log2_of((1 << 31) + (i << 23)) };
        rest = tail;
        i += 1;
    }
    table
};

/// `log2(x / 2^31)` in units of 2^-32 for `x` in `2^31..2^32`, bit by bit through squaring.
const fn log2_of(x: u64) -> u64 {
    let mut x = x;
    let mut log = 0;
    let mut bit = 1_u64 << 31;
    while bit > 0 {
        x = (x * x) >> 31;
        if x >= 1 << 32 {
            x >>= 1;
            log |= bit;
        }
        bit >>= 1;
    }
    log
}

#[cfg(test)]
mod tests;
