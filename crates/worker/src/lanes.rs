//! [`Lanes`]: the places where items run (model servers, or this machine), and who gets the next
//! one: of those that are up, the one with the fewest items. Not here: running (`upstream`,
//! `process`), probing (`probe`), how many a lane takes (`pace`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use crate::figures::LaneFigures;
use crate::pace::Pace;

/// Whether a lane takes items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not yet seen to work: warming up.
    Unproven,
    /// It works.
    Up,
    /// It does not, and why; what it has may still end.
    Down(String),
}

/// One place where items run.
#[derive(Debug)]
struct Lane {
    name: String,
    health: Health,
    pace: Pace,
    busy: usize,
    /// It asked not to be given more before this.
    hold_until: Option<Instant>,
    done: u64,
    failed: u64,
    tokens: u64,
    latency: Duration,
}

/// All of them. Shared by the agent, the running items and the probes; the lock is never held
/// across a wait.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Mutex<Vec<Lane>>,
    changed: Notify,
}

/// A place for one item, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    lanes: Arc<Lanes>,
    lane: usize,
}

impl Lanes {
    /// Lanes by name, in this state.
    pub(crate) fn new(
        names: impl IntoIterator<Item = String>,
        health: &Health,
        pace: impl Fn() -> Pace,
    ) -> Arc<Self> {
        let lane = |name| Lane {
            name,
            health: health.clone(),
            pace: pace(),
            busy: 0,
            hold_until: None,
            done: 0,
            failed: 0,
            tokens: 0,
            latency: Duration::ZERO,
        };
        let lanes = Mutex::new(names.into_iter().map(lane).collect());
        Arc::new(Self { lanes, changed: Notify::new() })
    }

    /// A place for an item, on another lane than `except` when there is one.
    pub(crate) fn take(self: &Arc<Self>, except: Option<usize>) -> Option<Slot> {
        let now = Instant::now();
        let mut lanes = self.lock();
        let open = lanes.iter_mut().enumerate().filter(|(_, lane)| lane.has_room(now));
        let best = open.min_by_key(|(at, lane)| (Some(*at) == except, lane.busy, lane.done));
        let (at, lane) = best?;
        lane.busy += 1;
        lane.pace.started(now, lane.busy);
        Some(Slot { lanes: Arc::clone(self), lane: at })
    }

    /// As [`Lanes::take`], waiting for one.
    pub(crate) async fn next(self: &Arc<Self>, except: Option<usize>) -> Slot {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(slot) = self.take(except) {
                return slot;
            }
            match self.next_release() {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Ends when something changed since this was enabled.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Items that can run at a time, on the lanes that are up.
    pub(crate) fn capacity(&self) -> usize {
        let lanes = self.lock();
        lanes.iter().filter(|lane| lane.health == Health::Up).map(|lane| lane.pace.limit()).sum()
    }

    /// When the next lane that asked for rest takes items again.
    pub(crate) fn next_release(&self) -> Option<Instant> {
        let now = Instant::now();
        self.lock().iter().filter_map(|lane| lane.hold_until).filter(|until| *until > now).min()
    }

    /// A lane's state, and what became of it is told to whoever waits. True when it is new.
    pub(crate) fn set_health(&self, at: usize, health: Health) -> bool {
        let is_new = self.with(at, |lane| {
            let is_new = std::mem::discriminant(&lane.health) != std::mem::discriminant(&health);
            lane.health = health;
            is_new
        });
        if is_new == Some(true) {
            self.changed.notify_waiters();
        }
        is_new == Some(true)
    }

    /// Figures of all lanes.
    pub(crate) fn figures(&self) -> Vec<LaneFigures> {
        self.lock().iter().map(Lane::figures).collect()
    }

    fn with<T>(&self, at: usize, act: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        self.lock().get_mut(at).map(act)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn has_room(&self, now: Instant) -> bool {
        self.health == Health::Up
            && self.busy < self.pace.limit()
            && self.hold_until.is_none_or(|until| until <= now)
    }

    fn figures(&self) -> LaneFigures {
        let (state, reason) = match &self.health {
            Health::Unproven => ("warming", None),
            Health::Up => ("up", None),
            Health::Down(why) => ("down", Some(why.clone())),
        };
        LaneFigures {
            name: self.name.clone(),
            state,
            reason,
            running: self.busy,
            limit: self.pace.limit(),
            done: self.done,
            failed: self.failed,
            tokens: self.tokens,
            last_s: self.latency.as_secs_f64(),
        }
    }
}

impl Slot {
    /// Which lane.
    pub(crate) const fn lane(&self) -> usize {
        self.lane
    }

    /// The item ended well.
    pub(crate) fn finished(&self, took: Duration, tokens: u64) {
        let units = match u32::try_from(tokens) {
            Ok(0) => 1.0,
            Ok(tokens) => f64::from(tokens),
            Err(_) => f64::from(u32::MAX),
        };
        let _told = self.lanes.with(self.lane, |lane| {
            lane.done += 1;
            lane.tokens = lane.tokens.saturating_add(tokens);
            lane.latency = took;
            lane.pace.finished(Instant::now(), took, units);
        });
    }

    /// The item ended badly by its own fault.
    pub(crate) fn failed(&self) {
        let _told = self.lanes.with(self.lane, |lane| lane.failed += 1);
    }

    /// The lane showed trouble: less of it from now on.
    pub(crate) fn troubled(&self) {
        let _told = self.lanes.with(self.lane, |lane| {
            lane.failed += 1;
            lane.pace.troubled(Instant::now());
        });
    }

    /// The lane has too much: nothing more for a while.
    pub(crate) fn hold(&self, pause: Duration) {
        let _told = self.lanes.with(self.lane, |lane| {
            lane.pace.troubled(Instant::now());
            lane.hold_until = Some(Instant::now() + pause);
        });
    }

    /// The lane cannot be reached; a probe will find out when it can.
    pub(crate) fn lost(&self, why: &str) -> bool {
        self.lanes.set_health(self.lane, Health::Down(why.to_owned()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _given_back =
            self.lanes.with(self.lane, |lane| lane.busy = lane.busy.saturating_sub(1));
        self.lanes.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(count: usize, limit: usize) -> Arc<Lanes> {
        Lanes::new((0..count).map(|n| format!("u{n}")), &Health::Up, || Pace::fixed(limit))
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_busy_lane_gets_the_next_item() {
        let lanes = lanes(3, 2);
        let slots: Vec<Slot> = (0..6).map(|_| lanes.take(None).unwrap()).collect();
        let order: Vec<usize> = slots.iter().map(Slot::lane).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        assert!(lanes.take(None).is_none(), "all are full");
        drop(slots);
        assert_eq!(lanes.capacity(), 6);
        assert!(lanes.figures().iter().all(|lane| lane.running == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_try_goes_elsewhere_when_it_can() {
        let lanes = lanes(2, 2);
        assert_eq!(lanes.take(Some(0)).unwrap().lane(), 1);
        lanes.set_health(1, Health::Down("gone".into()));
        assert_eq!(lanes.take(Some(0)).unwrap().lane(), 0, "there is no other");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_runs_before_the_first_good_probe() {
        let lanes = Lanes::new(["a".to_owned()], &Health::Unproven, || Pace::fixed(1));
        assert!(lanes.take(None).is_none());
        assert_eq!(lanes.capacity(), 0);
        let waiting = tokio::spawn({
            let lanes = Arc::clone(&lanes);
            async move { lanes.next(None).await.lane() }
        });
        tokio::task::yield_now().await;
        assert!(lanes.set_health(0, Health::Up));
        assert!(!lanes.set_health(0, Health::Up), "nothing new");
        assert_eq!(waiting.await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_asked_for_rest_gets_it() {
        let lanes = lanes(1, 1);
        lanes.take(None).unwrap().hold(Duration::from_secs(7));
        assert!(lanes.take(None).is_none());
        let start = Instant::now();
        let slot = lanes.next(None).await;
        assert_eq!(start.elapsed().as_secs(), 7);
        drop(slot);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_reloads_ends_what_it_has_and_gets_no_more() {
        let lanes = lanes(1, 2);
        let slot = lanes.take(None).unwrap();
        lanes.set_health(0, Health::Unproven);
        assert!(lanes.take(None).is_none());
        slot.finished(Duration::from_secs(1), 10);
        drop(slot);
        let figures = lanes.figures();
        assert_eq!((figures[0].done, figures[0].tokens, figures[0].running), (1, 10, 0));
    }
}
