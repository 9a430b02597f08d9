//! [`Progress`]: what people and programs see while a batch runs: a bar on a terminal, a plain line
//! now and then elsewhere, JSON lines for programs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::follow::Totals;
use crate::output;

/// How often a line is written where there is no terminal.
const PLAIN: Duration = Duration::from_secs(10);

/// Where a batch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) items: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Done before this run.
    pub(super) before: u64,
}

/// Tells where a batch stands.
pub(super) struct Progress {
    is_json: bool,
    bar: Option<ProgressBar>,
    began: Instant,
    last: Instant,
}

impl Progress {
    pub(super) fn new(items: u64, is_json: bool) -> Self {
        let has_bar = !is_json && std::io::stderr().is_terminal();
        let bar = has_bar.then(|| ProgressBar::new(items));
        let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
        if let (Some(bar), Ok(style)) = (&bar, style) {
            bar.set_style(style);
        }
        Self { is_json, bar, began: Instant::now(), last: Instant::now() }
    }

    /// Where it stands now.
    pub(super) fn tell(&mut self, figures: Figures, totals: Totals) {
        let told = Told::new(figures, totals, self.began.elapsed());
        if let Some(bar) = &self.bar {
            bar.set_position(figures.done + figures.failed);
            bar.set_message(told.line());
        } else if self.last.elapsed() >= PLAIN {
            self.last = Instant::now();
            if self.is_json {
                // Somebody who stops reading does not stop the batch.
                let _unread = output::json(&told.event());
            } else {
                output::note(&told.line());
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Figures with what follows from them.
struct Told {
    figures: Figures,
    totals: Totals,
    left: u64,
    per_second: f64,
    eta_s: Option<u64>,
}

impl Told {
    fn new(figures: Figures, totals: Totals, elapsed: Duration) -> Self {
        let Figures { items, done, failed, before } = figures;
        let left = items.saturating_sub(done).saturating_sub(failed);
        let here = crate::bench::float(done.saturating_sub(before));
        let per_second = here / elapsed.as_secs_f64().max(0.001);
        let eta = crate::bench::float(left) / per_second;
        let eta = Duration::try_from_secs_f64(eta).ok().filter(|_| here > 0.0);
        Self { figures, totals, left, per_second, eta_s: eta.map(|eta| eta.as_secs()) }
    }

    fn line(&self) -> String {
        let Figures { items, done, failed, .. } = self.figures;
        let mut parts = vec![format!("{done}/{items} done")];
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        parts.push(format!("{} left", self.left));
        parts.push(format!("{:.1}/s", self.per_second));
        if let (Some(eta), true) = (self.eta_s, self.left > 0) {
            parts.push(format!("{} to go", duration(eta)));
        }
        if let Some(cost) = self.totals.cost {
            parts.push(format!("cost {cost:.4}"));
        }
        parts.join(", ")
    }

    fn event(&self) -> Value {
        let Figures { items, done, failed, .. } = self.figures;
        json!({ "event": "progress", "items": items, "done": done, "failed": failed,
                "left": self.left, "per_second": self.per_second, "eta_s": self.eta_s,
                "cost": self.totals.cost, "tokens": self.totals.tokens })
    }
}

/// Seconds for people.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_to_go_count_this_run_only() {
        let figures = Figures { items: 1000, done: 600, failed: 10, before: 400 };
        let told =
            Told::new(figures, Totals { cost: Some(1.5), tokens: 7 }, Duration::from_secs(20));
        let expected = "600/1000 done, 10 failed, 390 left, 10.0/s, 39 s to go, cost 1.5000";
        assert_eq!(told.line(), expected);
        assert_eq!(
            (told.event()["left"].clone(), told.event()["eta_s"].clone()),
            (390.into(), 39.into())
        );
        let nothing = Told::new(Figures::default(), Totals::default(), Duration::ZERO);
        assert_eq!(nothing.line(), "0/0 done, 0 left, 0.0/s");
    }

    #[test]
    fn seconds_for_people() {
        assert_eq!([5, 61, 3720].map(duration), ["5 s", "2 min", "1 h 2 min"]);
    }
}
