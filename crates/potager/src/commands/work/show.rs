//! [`Show`]: what people and programs see of a worker: a live line on a terminal, a plain line now
//! and then elsewhere, JSON lines for programs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use worker::{Hardware, Snapshot, Worker};

use crate::output;

/// How often a plain line is written.
const PLAIN: Duration = Duration::from_mins(1);

/// Where a worker's figures go.
pub(super) struct Show {
    is_json: bool,
    bar: Option<ProgressBar>,
    last: Option<Instant>,
}

impl Show {
    pub(super) fn new(is_json: bool) -> Self {
        let has_bar = !is_json && std::io::stderr().is_terminal();
        let bar = has_bar.then(ProgressBar::new_spinner);
        if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template("{spinner} {wide_msg}"))
        {
            bar.set_style(style);
        }
        Self { is_json, bar, last: None }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.is_json
    }

    pub(super) const fn has_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// What the worker is called and runs on.
    pub(super) fn start(&self, worker: &Worker) -> anyhow::Result<()> {
        let hardware = worker.hardware();
        if self.is_json {
            let name = worker.name();
            let undelivered = worker.undelivered();
            let start = json!({ "event": "start", "worker": name, "hardware": hardware,
                                "undelivered_batches": undelivered });
            return Ok(output::json(&start)?);
        }
        output::note(&format!("worker {} on {}", worker.name(), machine(hardware)));
        if worker.undelivered() > 0 {
            let count = worker.undelivered();
            output::note(&format!(
                "{count} batches of an earlier worker are still to be delivered"
            ));
        }
        Ok(())
    }

    /// Where it stands.
    pub(super) fn status(&mut self, snapshot: &Snapshot) {
        if self.is_json {
            // Somebody who stops reading does not stop the work.
            let _unread = output::json(&event("status", snapshot));
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_message(line(snapshot));
            bar.tick();
        } else if self.last.is_none_or(|last| last.elapsed() >= PLAIN) {
            self.last = Some(Instant::now());
            output::note(&line(snapshot));
        }
    }

    /// What became of everything.
    pub(super) fn end(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.is_json {
            return Ok(output::json(&event("end", snapshot))?);
        }
        output::note(&line(snapshot));
        for (class, count) in &snapshot.failures {
            output::note(&format!("  {count} failed: {}", output::printable(class)));
        }
        if snapshot.undelivered > 0 {
            output::note("  the next start with the same --spool delivers what is undelivered");
        }
        Ok(())
    }
}

fn event(name: &str, snapshot: &Snapshot) -> Value {
    let mut value = json!(snapshot);
    if let Some(object) = value.as_object_mut() {
        let _new = object.insert("event".to_owned(), json!(name));
    }
    value
}

fn machine(hardware: &Hardware) -> String {
    let mut parts = vec![hardware.machine.clone(), format!("{} CPUs", hardware.cpus)];
    parts.extend(hardware.memory_bytes.map(|bytes| format!("{} memory", gib(bytes))));
    for gpu in &hardware.gpus {
        let memory = gpu.memory_bytes.map(|bytes| format!(" {}", gib(bytes))).unwrap_or_default();
        let heat = gpu.temperature_c.map(|c| format!(" {c} C")).unwrap_or_default();
        parts.push(format!("{}{memory}{heat}", gpu.name));
    }
    parts.extend(hardware.driver.as_ref().map(|version| format!("driver {version}")));
    output::printable(&parts.join(", "))
}

fn gib(bytes: u64) -> String {
    format!("{} GiB", (bytes + (1 << 29)) >> 30)
}

/// A snapshot in one line.
fn line(snapshot: &Snapshot) -> String {
    let mut parts = vec![
        format!("{} done", snapshot.done),
        format!("{} running", snapshot.running),
        format!("{:.0}/h", snapshot.items_per_hour),
    ];
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    add(usize::try_from(snapshot.failed).unwrap_or(usize::MAX), "failed");
    add(snapshot.waiting, "waiting");
    add(snapshot.undelivered, "undelivered");
    if snapshot.tokens > 0 {
        parts.push(format!("{:.0} tokens/s", snapshot.tokens_per_second));
    }
    if let Some(cost) = snapshot.cost_per_1000_items {
        parts.push(format!("{cost:.4} per 1000"));
    }
    for lane in snapshot.upstreams.iter().filter(|lane| lane.name.contains('/')) {
        let state = if lane.state == "up" { String::new() } else { format!(" {}", lane.state) };
        parts.push(format!("{} {}/{}{state}", lane.name, lane.running, lane.limit));
    }
    if !snapshot.is_connected {
        parts.push("the server is away".to_owned());
    }
    if let Some(idle) = snapshot.idle.as_ref().filter(|_| snapshot.running == 0) {
        parts.push(format!("nothing to do: {idle}"));
    }
    output::printable(&parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_matters() {
        let snapshot = Snapshot {
            done: 12,
            running: 3,
            items_per_hour: 720.4,
            is_connected: true,
            cost_per_1000_items: Some(0.25),
            ..Snapshot::default()
        };
        assert_eq!(line(&snapshot), "12 done, 3 running, 720/h, 0.2500 per 1000");
        let away = Snapshot { undelivered: 2, ..Snapshot::default() };
        assert_eq!(line(&away), "0 done, 0 running, 0/h, 2 undelivered, the server is away");
    }

    #[test]
    fn programs_get_everything() {
        let value = event("status", &Snapshot::default());
        assert_eq!(value["event"], "status");
        assert!(value.get("upstreams").is_some() && value.get("tokens_per_second").is_some());
    }
}
