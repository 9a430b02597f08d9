//! [`Appetite`]: how many items to have at a time: as many as can run, and what will be run while
//! the next claim travels. Not here: claiming (`agent`), how many can run (`lanes`).

use std::time::Duration;

/// Most items that a worker has, whatever its speed: what one claim can bring.
pub(crate) const HELD_MAX: usize = 1000;

/// Round trips of work that wait for their turn; more than one, for answers that come late.
const ROUND_TRIPS: f64 = 1.5;
/// Weight of a new figure.
const WEIGHT: f64 = 0.2;

/// Smoothed figures of round trips and items.
#[derive(Debug, Default)]
pub(crate) struct Appetite {
    round_trip_s: Option<f64>,
    item_s: Option<f64>,
}

impl Appetite {
    /// An answer that nobody waited for came after this long.
    pub(crate) fn saw_round_trip(&mut self, took: Duration) {
        blend(&mut self.round_trip_s, took);
    }

    /// An item ran for this long.
    pub(crate) fn saw_item(&mut self, took: Duration) {
        blend(&mut self.item_s, took);
    }

    /// Items to have, when `capacity` of them can run at a time.
    pub(crate) fn wanted(&self, capacity: usize) -> usize {
        if capacity == 0 {
            return 0;
        }
        let running = f64::from(u32::try_from(capacity).unwrap_or(u32::MAX));
        let ahead = match (self.round_trip_s, self.item_s) {
            // Each of the running ends once per item's time.
            (Some(trip), Some(item)) if item > 0.0 => running / item * trip * ROUND_TRIPS,
            _ => 1.0,
        };
        let most = HELD_MAX.saturating_sub(capacity);
        capacity.saturating_add(whole(ahead.max(1.0), most)).min(HELD_MAX.max(capacity))
    }
}

/// The next whole number, at most `most`.
fn whole(number: f64, most: usize) -> usize {
    let limit = u16::try_from(most).unwrap_or(u16::MAX);
    let mut found = 0_u16;
    // Bisection instead of a cast: there is no conversion from a float that cannot go wrong.
    let mut step = 1 << 15;
    while step > 0 {
        if f64::from(found | step) < number {
            found |= step;
        }
        step >>= 1;
    }
    usize::from(found.saturating_add(1).min(limit))
}

fn blend(figure: &mut Option<f64>, took: Duration) {
    let seconds = took.as_secs_f64();
    *figure = Some(figure.map_or(seconds, |old| old + WEIGHT * (seconds - old)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn appetite(trip: Duration, item: Duration) -> Appetite {
        let mut appetite = Appetite::default();
        appetite.saw_round_trip(trip);
        appetite.saw_item(item);
        appetite
    }

    #[test]
    fn one_waits_until_more_is_known() {
        assert_eq!(Appetite::default().wanted(8), 9);
        assert_eq!(Appetite::default().wanted(0), 0, "nothing can run");
    }

    #[test]
    fn what_waits_covers_the_round_trip() {
        // 8 at a time for 1 s each: 8 a second; 200 ms and a half of it again are 2.4 of them.
        assert_eq!(appetite(200 * MS, 1000 * MS).wanted(8), 8 + 3);
        // Items of 1 ms each: 1.5 round trips of 100 ms are 150.
        assert_eq!(appetite(100 * MS, MS).wanted(1), 1 + 150);
        assert_eq!(appetite(MS, 60_000 * MS).wanted(1), 2);
    }

    #[test]
    fn it_is_bounded() {
        assert_eq!(appetite(2000 * MS, MS).wanted(64), HELD_MAX);
        assert_eq!(appetite(2000 * MS, MS).wanted(5000), 5000);
        assert_eq!(appetite(MS, Duration::ZERO).wanted(1), 2);
    }

    #[test]
    fn figures_follow_slowly() {
        let mut appetite = appetite(100 * MS, 100 * MS);
        for _ in 0..50 {
            appetite.saw_item(1000 * MS);
        }
        let item = appetite.item_s.unwrap();
        assert!((item - 1.0).abs() < 0.01, "{item}");
    }
}
