//! [`Progress`]: a live line on a terminal, a plain line now and then elsewhere.
//! Not here: the ledger at the end.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written.
const PLAIN: Duration = Duration::from_secs(2);

/// Where the demonstration stands, told on standard error.
pub(super) struct Progress {
    bar: ProgressBar,
    last: Instant,
}

impl Progress {
    /// A bar up to `total`; unknown when zero.
    pub(super) fn new(total: u64) -> Self {
        let bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
        let style = "{elapsed_precise} {wide_bar} {pos}/{len} {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self { bar, last: Instant::now() }
    }

    /// Tells where things stand; a plain line at most every two seconds.
    pub(super) fn tell(&mut self, position: u64, message: &str) {
        self.bar.set_position(position);
        if !self.bar.is_hidden() {
            self.bar.set_message(message.to_owned());
        } else if self.last.elapsed() >= PLAIN {
            self.last = Instant::now();
            crate::output::note(message);
        }
    }

    /// Tells an event that must not be missed.
    pub(super) fn event(&self, message: &str) {
        if self.bar.is_hidden() {
            crate::output::note(message);
        } else {
            self.bar.println(message);
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
