//! [`Tally`]: what became of every prompt, from the outputs, the server and the model servers, each
//! by itself, and the verdict. Not here: the course of events (`batch`).

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::super::worker::steps;
use super::models::Models;

/// The account of one demonstration.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Tally {
    pub(crate) prompts: u64,
    /// Rows of the outputs with the right answer, each key once.
    pub(crate) answered: u64,
    /// Prompts without an answer.
    pub(crate) lost: u64,
    /// Answers that are not what the prompt must give, rows that nobody asked for, rows twice.
    pub(crate) wrong: u64,
    /// Results that the server has.
    pub(crate) on_server: u64,
    /// What the model servers computed, and how much of it again.
    pub(crate) computed: u64,
    pub(crate) computed_again: u64,
    pub(crate) ready_after_kill_ms: u64,
    pub(crate) seconds: f64,
    /// The temporary folder, when it was kept.
    pub(crate) folder: Option<String>,
}

impl Tally {
    pub(super) fn new(prompts: u64) -> Self {
        Self { prompts, ..Self::default() }
    }

    /// Compares the output of one tenant with what it asked.
    pub(super) fn judge_output(
        &mut self,
        path: &Path,
        tenant: &str,
        share: Range<u64>,
    ) -> anyhow::Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("the output of {tenant}"))?;
        self.judge(&text, share);
        Ok(())
    }

    /// Rows have to come in the order of the input.
    fn judge(&mut self, text: &str, share: Range<u64>) {
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null));
        for number in share {
            let row = lines.next().unwrap_or_default();
            let says = |field: &str| row.get(field).and_then(Value::as_str).map(str::to_owned);
            if says("id") != Some(number.to_string()) {
                self.lost += 1;
            } else if let Some(answer) = says("text") {
                let is_right = answer == steps(number).to_string();
                self.answered += u64::from(is_right);
                self.wrong += u64::from(!is_right);
            } else {
                self.lost += 1;
            }
        }
        self.wrong += lines.count() as u64;
    }

    /// What the model servers counted.
    pub(super) fn judge_models(&mut self, models: &Models) {
        self.computed = models.computed();
        self.computed_again = self.computed.saturating_sub(models.distinct());
    }

    /// Whether the promise was kept.
    pub(crate) const fn is_kept(&self) -> bool {
        self.lost == 0
            && self.wrong == 0
            && self.prompts > 0
            && self.answered == self.prompts
            && self.on_server == self.prompts
    }

    /// The account for a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            writeln!(text, "  {name:<22} {value}").ok();
        };
        line("prompts", format!("{}, for three tenants", self.prompts));
        line("keyed results", format!("{} on the server", self.on_server));
        line("right answers", self.answered.to_string());
        line("wrong answers", self.wrong.to_string());
        line("LOST", self.lost.to_string());
        line("computed", self.computed.to_string());
        let why = "cut off by a kill, or with another worker after one";
        line("computed again", format!("{}: {why}", self.computed_again));
        line("killed", "2 of 4 workers (1 for good), the server".to_owned());
        line("ready after the kill", format!("{} ms", self.ready_after_kill_ms));
        let rate = crate::bench::float(self.prompts) / self.seconds.max(0.001);
        line("all done after", format!("{:.1} s, {rate:.0} prompts/s", self.seconds));
        if let Some(folder) = &self.folder {
            line("kept in", folder.clone());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Tally {
        let mut tally = Tally { on_server: 2, ..Tally::new(2) };
        tally.judge(text, 6..8);
        tally
    }

    #[test]
    fn every_prompt_needs_its_answer_once() {
        let six = r#"{"id":"6","text":"8"}"#;
        let seven = r#"{"id":"7","text":"16"}"#;
        assert!(judged(&format!("{six}\n{seven}\n")).is_kept());
        let tally = judged(&format!("{six}\n"));
        assert_eq!((tally.lost, tally.is_kept()), (1, false));
        let tally = judged(&format!("{six}\n{seven}\n{seven}\n"));
        assert_eq!((tally.wrong, tally.is_kept()), (1, false));
        let tally = judged(&format!("{six}\n{}\n", seven.replace("16", "9")));
        assert_eq!((tally.wrong, tally.is_kept()), (1, false));
        let tally = judged(&format!("{six}\n{}\n", r#"{"id":"7","text":null,"error":{}}"#));
        assert_eq!((tally.lost, tally.answered), (1, 1));
    }
}
