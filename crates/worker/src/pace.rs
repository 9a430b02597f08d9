//! [`Pace`]: how many items one upstream gets at a time. It starts small, goes up while throughput
//! grows with it, goes back when it does not, and down at once when the upstream shows trouble.
//! Not here: which upstream gets an item (`lanes`), any clock.
//!
//! The judge is throughput, not latency: an engine that batches answers each request later the more
//! it has, and does more in all. Latency alone counts only where throughput falls with it.

use std::time::Duration;

use tokio::time::Instant;

/// Where an unknown upstream begins.
const START: usize = 4;
/// Most items at a time that are tried.
const LIMIT_MAX: usize = 512;
/// Shortest window that is judged.
const WINDOW_MIN: Duration = Duration::from_millis(500);
/// Windows between two tries to go up, at first and at most.
const HOLD: std::ops::RangeInclusive<u32> = 4..=32;
/// Part of a raise that has to come back as throughput for the raise to stay.
const WORTH: f64 = 0.25;
/// Throughput below this part of what it was, with [`SLOWER`], means that others use the machine.
const FELL: f64 = 0.8;
/// See [`FELL`].
const SLOWER: f64 = 1.5;
/// Shortest time between two steps down.
const CALM: Duration = Duration::from_secs(1);

/// One upstream's limit, and what it has shown.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: usize,
    /// Never changes.
    is_fixed: bool,
    /// Doubles instead of creeping: until the first raise that brought nothing.
    is_doubling: bool,
    window: Option<Window>,
    /// The last limit that was good, and what it brought.
    base: Option<Measured>,
    /// Windows until the next try, and how many that were.
    hold: u32,
    hold_length: u32,
    /// Steps down before this moment are the same trouble.
    calm_until: Option<Instant>,
}

/// What happened since it began.
#[derive(Debug)]
struct Window {
    began: Instant,
    done: usize,
    units: f64,
    latency_s: f64,
    starts: usize,
    /// Starts that took the last free place.
    full: usize,
}

/// What a limit brought.
#[derive(Clone, Copy, Debug)]
struct Measured {
    limit: usize,
    /// Units a second.
    throughput: f64,
    latency_s: f64,
}

impl Pace {
    /// As many as that, always.
    pub(crate) const fn fixed(limit: usize) -> Self {
        Self { limit, is_fixed: true, ..Self::adaptive() }
    }

    /// To be found out.
    pub(crate) const fn adaptive() -> Self {
        Self {
            limit: START,
            is_fixed: false,
            is_doubling: true,
            window: None,
            base: None,
            hold: 0,
            hold_length: *HOLD.start(),
            calm_until: None,
        }
    }

    /// Items at a time.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// An item starts; `busy` run with it.
    pub(crate) fn started(&mut self, now: Instant, busy: usize) {
        let limit = self.limit;
        let window = self.window.get_or_insert_with(|| Window::new(now));
        window.starts += 1;
        window.full += usize::from(busy >= limit);
    }

    /// An item ended well after `took` and was worth `units` (tokens, or one).
    pub(crate) fn finished(&mut self, now: Instant, took: Duration, units: f64) {
        if self.is_fixed {
            return;
        }
        let window = self.window.get_or_insert_with(|| Window::new(now));
        window.done += 1;
        window.units += units;
        window.latency_s += took.as_secs_f64();
        let length = now.saturating_duration_since(window.began);
        if window.done < self.limit.saturating_mul(2) || length < WINDOW_MIN {
            return;
        }
        if let Some(window) = self.window.replace(Window::new(now))
            && window.is_full()
        {
            self.judge(window.measure(self.limit, length));
        }
    }

    /// The upstream refused, broke or timed out: less, once per trouble.
    pub(crate) fn troubled(&mut self, now: Instant) {
        if self.is_fixed || self.calm_until.is_some_and(|until| now < until) {
            return;
        }
        let latency_s = self.base.map_or(0.0, |base| base.latency_s);
        let latency = Duration::try_from_secs_f64(latency_s).unwrap_or(CALM);
        self.calm_until = Some(now + CALM.max(latency));
        self.step_down();
        self.window = None;
    }

    fn judge(&mut self, measured: Measured) {
        let Some(base) = self.base else {
            self.base = Some(measured);
            self.raise();
            return;
        };
        let growth = measured.throughput / base.throughput.max(f64::MIN_POSITIVE);
        if self.limit > base.limit {
            let raised = real(self.limit) / real(base.limit) - 1.0;
            if growth >= 1.0 + WORTH * raised {
                self.base = Some(measured);
                self.hold_length = *HOLD.start();
                self.raise();
            } else {
                self.limit = base.limit;
                self.is_doubling = false;
                self.rest();
            }
            return;
        }
        if growth < FELL && measured.latency_s > SLOWER * base.latency_s {
            self.step_down();
            return;
        }
        self.base = Some(measured);
        self.hold = self.hold.saturating_sub(1);
        if self.hold == 0 {
            self.raise();
        }
    }

    fn raise(&mut self) {
        let step = if self.is_doubling { self.limit } else { (self.limit / 8).max(1) };
        self.limit = self.limit.saturating_add(step).min(LIMIT_MAX);
        if self.limit == LIMIT_MAX {
            self.rest();
        }
    }

    fn step_down(&mut self) {
        self.limit = (self.limit * 3 / 4).max(1);
        self.is_doubling = false;
        // What comes next is measured anew, the machine is not what it was, and no window of it
        // counts as a loss.
        self.base = Some(Measured { limit: self.limit, throughput: 0.0, latency_s: 0.0 });
        self.rest();
    }

    fn rest(&mut self) {
        self.hold = self.hold_length;
        self.hold_length = self.hold_length.saturating_mul(2).min(*HOLD.end());
    }
}

impl Window {
    const fn new(began: Instant) -> Self {
        Self { began, done: 0, units: 0.0, latency_s: 0.0, starts: 0, full: 0 }
    }

    /// There was enough to do for the limit to be felt.
    const fn is_full(&self) -> bool {
        self.full * 2 >= self.starts && self.starts > 0
    }

    fn measure(&self, limit: usize, length: Duration) -> Measured {
        let seconds = length.as_secs_f64().max(f64::MIN_POSITIVE);
        let latency_s = self.latency_s / real(self.done.max(1));
        Measured { limit, throughput: self.units / seconds, latency_s }
    }
}

fn real(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that does up to `cap` items at full speed side by side; more share that.
    struct Engine {
        cap: usize,
        base: Duration,
        now: Instant,
    }

    impl Engine {
        fn new(cap: usize) -> Self {
            Self { cap, base: Duration::from_secs(2), now: Instant::now() }
        }

        /// Runs `count` items with the limit always used up.
        fn run(&mut self, pace: &mut Pace, count: usize) {
            for _ in 0..count {
                let busy = pace.limit();
                pace.started(self.now, busy);
                let latency = self.base.mul_f64((real(busy) / real(self.cap)).max(1.0));
                self.now += latency.div_f64(real(busy));
                pace.finished(self.now, latency, 100.0);
            }
        }
    }

    #[test]
    fn the_limit_goes_up_to_what_the_engine_can_and_stays_there() {
        for cap in [1, 3, 8, 24, 100] {
            let (mut pace, mut engine) = (Pace::adaptive(), Engine::new(cap));
            engine.run(&mut pace, 6000);
            let found = pace.limit();
            assert!(found >= cap.max(START) * 3 / 4, "cap {cap}: stays at {found}");
            assert!(found <= (cap * 2).max(START + 1), "cap {cap}: went to {found}");
        }
    }

    #[test]
    fn trouble_costs_a_quarter_once_and_is_forgotten_later() {
        let (mut pace, mut engine) = (Pace::adaptive(), Engine::new(32));
        engine.run(&mut pace, 4000);
        let before = pace.limit();
        for _ in 0..20 {
            pace.troubled(engine.now);
        }
        assert_eq!(pace.limit(), before * 3 / 4, "one trouble, not twenty");
        engine.run(&mut pace, 20_000);
        assert!(pace.limit() >= before * 7 / 8, "{} after {before}", pace.limit());
    }

    #[test]
    fn an_engine_that_others_use_too_gets_less() {
        let (mut pace, mut engine) = (Pace::adaptive(), Engine::new(64));
        engine.run(&mut pace, 6000);
        let before = pace.limit();
        engine.cap = 8;
        engine.run(&mut pace, 600);
        assert!(pace.limit() < before, "{} after {before}", pace.limit());
    }

    #[test]
    fn without_enough_work_nothing_is_learnt() {
        let mut pace = Pace::adaptive();
        let mut now = Instant::now();
        for _ in 0..1000 {
            pace.started(now, 1);
            now += Duration::from_secs(1);
            pace.finished(now, Duration::from_secs(1), 1.0);
        }
        assert_eq!(pace.limit(), START);
    }

    #[test]
    fn a_fixed_pace_is_fixed() {
        let (mut pace, mut engine) = (Pace::fixed(5), Engine::new(64));
        engine.run(&mut pace, 1000);
        pace.troubled(engine.now);
        assert_eq!(pace.limit(), 5);
    }

    #[test]
    fn it_never_goes_below_one_nor_above_the_most() {
        let (mut pace, mut engine) = (Pace::adaptive(), Engine::new(100_000));
        engine.run(&mut pace, 40_000);
        assert_eq!(pace.limit(), LIMIT_MAX);
        for second in 0..100 {
            pace.troubled(engine.now + Duration::from_secs(second * 10));
        }
        assert_eq!(pace.limit(), 1);
    }
}
