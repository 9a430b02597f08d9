//! What the worker tells about itself: items, speed, money, upstreams. Not here: showing it (the
//! binary does).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::hardware::Gpu;

/// How far back "recent" reaches.
const RECENT: Duration = Duration::from_mins(10);
/// Classes of failures that are counted apart.
const CLASSES_MAX: usize = 50;

/// Where the worker stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Its name at the server.
    pub worker: String,
    /// `starting`, `working`, `draining` or `ended`.
    pub state: &'static str,
    /// Whether the last call to the server was answered.
    pub is_connected: bool,
    /// Why the last claim brought nothing; `None` when it did.
    pub idle: Option<String>,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Items that ended with a result.
    pub done: u64,
    /// Items that failed.
    pub failed: u64,
    /// Failures by class.
    pub failures: BTreeMap<String, u64>,
    /// Items given back unfinished.
    pub interrupted: u64,
    /// Results for items that were finished already.
    pub done_before: u64,
    /// Items that run now.
    pub running: usize,
    /// Items that wait for their turn here.
    pub waiting: usize,
    /// Results that the server does not have yet.
    pub undelivered: usize,
    /// Bytes of them on the disk.
    pub spool_bytes: u64,
    /// Tokens that came back, prompts and answers.
    pub tokens: u64,
    /// Results an hour, over the last ten minutes.
    pub items_per_hour: f64,
    /// Tokens a second, over the last ten minutes.
    pub tokens_per_second: f64,
    /// Money for 1,000 results, when a price is given and there are any.
    pub cost_per_1000_items: Option<f64>,
    /// Money for a million tokens, likewise.
    pub cost_per_million_tokens: Option<f64>,
    /// Model servers, or this machine.
    pub upstreams: Vec<LaneFigures>,
    /// Graphics processors.
    pub gpus: Vec<Gpu>,
}

/// Figures of one model server, or of this machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LaneFigures {
    /// Its address.
    pub name: String,
    /// `warming`, `up` or `down`.
    pub state: &'static str,
    /// Why it is down.
    pub reason: Option<String>,
    /// Items that run on it.
    pub running: usize,
    /// Most that it gets at a time.
    pub limit: usize,
    /// Items that ended well.
    pub done: u64,
    /// Tries that did not.
    pub failed: u64,
    /// Tokens.
    pub tokens: u64,
    /// Seconds that its last item took.
    pub last_s: f64,
}

/// Counts since the start, and samples of them.
#[derive(Debug)]
pub(crate) struct Figures {
    began: Instant,
    price_per_hour: Option<f64>,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) interrupted: u64,
    pub(crate) done_before: u64,
    pub(crate) tokens: u64,
    failures: BTreeMap<String, u64>,
    samples: VecDeque<(Instant, u64, u64)>,
}

impl Figures {
    /// Nothing yet.
    pub(crate) fn new(now: Instant, price_per_hour: Option<f64>) -> Self {
        Self {
            began: now,
            price_per_hour,
            done: 0,
            failed: 0,
            interrupted: 0,
            done_before: 0,
            tokens: 0,
            failures: BTreeMap::new(),
            samples: VecDeque::from([(now, 0, 0)]),
        }
    }

    /// An item failed.
    pub(crate) fn count_failure(&mut self, class: &str) {
        self.failed += 1;
        let is_known = self.failures.contains_key(class);
        let class = if is_known || self.failures.len() < CLASSES_MAX { class } else { "others" };
        *self.failures.entry(class.to_owned()).or_default() += 1;
    }

    /// Puts the counts and speeds into a snapshot and remembers where they stood.
    pub(crate) fn fill(&mut self, now: Instant, snapshot: &mut Snapshot) {
        let recent =
            |sample: &(Instant, u64, u64)| now.saturating_duration_since(sample.0) > RECENT;
        // One sample older than the window stays: rates are counted from it.
        while self.samples.len() > 1 && self.samples.get(1).is_some_and(recent) {
            self.samples.pop_front();
        }
        let (since, done, tokens) = self.samples.front().copied().unwrap_or((self.began, 0, 0));
        let seconds = now.saturating_duration_since(since).as_secs_f64().max(1.0);
        snapshot.uptime_s = now.saturating_duration_since(self.began).as_secs();
        snapshot.done = self.done;
        snapshot.failed = self.failed;
        snapshot.failures = self.failures.clone();
        snapshot.interrupted = self.interrupted;
        snapshot.done_before = self.done_before;
        snapshot.tokens = self.tokens;
        let items_per_second = real(self.done.saturating_sub(done)) / seconds;
        snapshot.items_per_hour = items_per_second * 3600.0;
        snapshot.tokens_per_second = real(self.tokens.saturating_sub(tokens)) / seconds;
        let cost = |per_second: f64, count: f64| {
            let price = self.price_per_hour.filter(|_| per_second > 0.0)?;
            Some(price / 3600.0 / per_second * count)
        };
        snapshot.cost_per_1000_items = cost(items_per_second, 1e3);
        snapshot.cost_per_million_tokens = cost(snapshot.tokens_per_second, 1e6);
        self.samples.push_back((now, self.done, self.tokens));
    }
}

fn real(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_and_money_are_those_of_the_last_ten_minutes() {
        let start = Instant::now();
        let minutes = |count: u64| start + Duration::from_secs(60 * count);
        let mut figures = Figures::new(start, Some(2.0));
        let mut snapshot = Snapshot::default();
        figures.fill(start, &mut snapshot);
        assert_eq!(snapshot.cost_per_1000_items, None, "nothing is done yet");
        for minute in 1..=60 {
            // 10 a minute at first, then 100.
            figures.done += if minute <= 30 { 10 } else { 100 };
            figures.tokens += 6000;
            figures.fill(minutes(minute), &mut snapshot);
        }
        assert!((snapshot.items_per_hour - 6000.0).abs() < 1.0, "{}", snapshot.items_per_hour);
        assert!((snapshot.tokens_per_second - 100.0).abs() < 0.1);
        let cost = snapshot.cost_per_1000_items.unwrap();
        assert!((cost - 2.0 / 6.0).abs() < 1e-3, "{cost}");
        assert!(figures.samples.len() < 15);
    }

    #[test]
    fn classes_are_bounded() {
        let mut figures = Figures::new(Instant::now(), None);
        for n in 0..100 {
            figures.count_failure(&format!("c{n}"));
        }
        assert_eq!(figures.failures.len(), CLASSES_MAX + 1);
        assert_eq!(figures.failures["others"], 50);
    }
}
