//! [`Ledger`]: what became of every task, added up from what producer, workers and collector each
//! wrote down by themselves, and the verdict. Not here: printing progress (`progress`).

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use super::books::Execution;
use super::collector::Results;
use super::producer::{Published, index_of};
use super::worker::steps;

/// The account of one demonstration.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Ledger {
    /// Who played: the built-in client or Celery with its version.
    pub(crate) players: String,
    /// Distinct tasks.
    pub(crate) published: u64,
    /// Tasks for which the server took responsibility.
    pub(crate) confirmed: u64,
    /// Distinct tasks that were executed.
    pub(crate) executed: u64,
    /// Executions beyond the first, by cause.
    pub(crate) executed_again: Again,
    /// Confirmed tasks without the outcome that they must have.
    pub(crate) lost: u64,
    /// Results that are not what the task must give.
    pub(crate) wrong: u64,
    pub(crate) times: Times,
    pub(crate) memory: Memory,
    /// The temporary folder, when it was kept.
    pub(crate) folder: Option<String>,
}

/// Why a task was executed more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Again {
    /// The worker was killed after executing and before its commit.
    pub(crate) worker_killed: u64,
    /// The server was killed after the execution and before the commit.
    pub(crate) server_killed: u64,
    /// The server was killed before the producer had its confirm: published twice.
    pub(crate) confirm_cut: u64,
    /// None of these: a fault.
    pub(crate) unexplained: u64,
}

impl Again {
    const fn sum(self) -> u64 {
        self.worker_killed + self.server_killed + self.confirm_cut + self.unexplained
    }
}

/// Times in milliseconds.
#[expect(clippy::struct_field_names, reason = "the unit stands in the name")]
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Times {
    /// From the first start to the last result.
    pub(crate) total_ms: u64,
    /// From the start of the first server to its ready file.
    pub(crate) first_ready_ms: u64,
    /// From the restart after the kill to the ready file.
    pub(crate) ready_after_kill_ms: u64,
    /// From the kill of the server to the next result.
    pub(crate) outage_ms: u64,
    pub(crate) worker_killed_at_ms: u64,
    pub(crate) server_killed_at_ms: u64,
}

/// Resident memory of the server in bytes.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Memory {
    pub(crate) peak_bytes: u64,
    pub(crate) end_bytes: u64,
}

/// What the built-in players wrote down.
pub(super) struct Evidence<'a> {
    pub(super) published: &'a Published,
    pub(super) executions: &'a [Execution],
    pub(super) results: &'a Results,
    /// The book of the worker that was killed.
    pub(super) killed_worker: &'a str,
}

impl Ledger {
    /// Adds up what the built-in players wrote down.
    pub(super) fn add_up(evidence: &Evidence<'_>) -> Self {
        let Evidence { published, executions, results, .. } = evidence;
        let executed: HashSet<u64> = executions.iter().map(|execution| execution.task).collect();
        let tasks = (1_u64..).zip(&published.is_confirmed);
        let lost = tasks.filter(|(task, is_confirmed)| {
            **is_confirmed && !(executed.contains(task) && results.by_task.contains_key(task))
        });
        let wrong = results
            .by_task
            .iter()
            .flat_map(|(task, found)| found.iter().filter(|(value, _, _)| *value != steps(*task)));
        Self {
            players: "built-in client, ack and result in one commit".to_owned(),
            published: published.attempts.len() as u64,
            confirmed: published.is_confirmed.iter().filter(|is| **is).count() as u64,
            executed: executed.len() as u64,
            lost: lost.count() as u64,
            wrong: wrong.count() as u64 + results.unreadable,
            executed_again: repetitions(evidence),
            ..Self::default()
        }
    }

    /// Whether the promise was kept.
    pub(crate) const fn is_kept(&self) -> bool {
        self.lost == 0
            && self.wrong == 0
            && self.executed_again.unexplained == 0
            && self.published > 0
            && self.confirmed == self.published
            && self.executed == self.published
    }

    /// The ledger for a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            writeln!(text, "  {name:<22} {value}").ok();
        };
        let Self { executed_again: again, times, memory, .. } = self;
        line("players", self.players.clone());
        line("tasks published", self.published.to_string());
        line("confirmed", self.confirmed.to_string());
        line("executed", self.executed.to_string());
        line("executed again", format!("{}", again.sum()));
        for (count, why) in [
            (again.worker_killed, "worker killed before its acknowledgement"),
            (again.server_killed, "server killed before the acknowledgement"),
            (again.confirm_cut, "server killed before the confirm: published twice"),
            (again.unexplained, "UNEXPLAINED"),
        ] {
            if count > 0 {
                line("", format!("{count}: {why}"));
            }
        }
        line("wrong results", self.wrong.to_string());
        line("LOST", self.lost.to_string());
        let seconds = |ms: u64| crate::bench::float(ms) / 1e3;
        line("worker killed after", format!("{:.2} s", seconds(times.worker_killed_at_ms)));
        line("server killed after", format!("{:.2} s", seconds(times.server_killed_at_ms)));
        line("ready after the kill", format!("{} ms", times.ready_after_kill_ms));
        line("next task after", format!("{} ms", times.outage_ms));
        let rate = crate::bench::float(self.executed) / seconds(times.total_ms.max(1));
        line("all done after", format!("{:.2} s, {rate:.0} tasks/s", seconds(times.total_ms)));
        let mebi = |bytes: u64| crate::bench::float(bytes) / f64::from(1 << 20);
        let (peak, end) = (mebi(memory.peak_bytes), mebi(memory.end_bytes));
        line("server memory", format!("{peak:.1} MiB at most, {end:.1} MiB at the end"));
        if let Some(folder) = &self.folder {
            line("kept in", folder.clone());
        }
        text
    }
}

/// Finds the cause of every execution beyond a task's first.
fn repetitions(evidence: &Evidence<'_>) -> Again {
    let mut by_task: HashMap<u64, Vec<&Execution>> = HashMap::new();
    for execution in evidence.executions {
        by_task.entry(execution.task).or_default().push(execution);
    }
    let mut again = Again::default();
    for (task, executions) in by_task {
        let extra = executions.len() as u64 - 1;
        let results = evidence.results.by_task.get(&task);
        let is_committed = |execution: &Execution| {
            results.is_some_and(|found| {
                found.iter().any(|(_, worker, serial)| {
                    (worker, *serial) == (&execution.worker, execution.serial)
                })
            })
        };
        let (committed, broken): (Vec<_>, Vec<_>) =
            executions.into_iter().partition(|execution| is_committed(execution));
        // An execution without a result was rolled back by a kill; one more commit than one
        // needs one more publish.
        let by_worker =
            broken.iter().filter(|found| found.worker == evidence.killed_worker).count() as u64;
        let by_server = broken.len() as u64 - by_worker;
        let commits = (committed.len() as u64).saturating_sub(1);
        let attempts = evidence.published.attempts.get(index_of(task)).copied().unwrap_or(0);
        let republished = commits.min(u64::from(attempts).saturating_sub(1));
        again.worker_killed += by_worker.min(extra);
        again.server_killed += by_server.min(extra.saturating_sub(by_worker));
        again.confirm_cut += republished;
        again.unexplained += commits - republished;
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(worker: &str, task: u64, serial: u64) -> Execution {
        Execution { worker: worker.to_owned(), task, serial, is_redelivered: false, at_ms: 0 }
    }

    fn results(found: &[&str]) -> Results {
        let mut results = Results::default();
        for text in found {
            results.note(text.as_bytes());
        }
        results
    }

    fn judge(attempts: &[u32], executions: &[Execution], found: &[&str]) -> Ledger {
        let is_confirmed = attempts.iter().map(|attempts| *attempts > 0).collect();
        Ledger::add_up(&Evidence {
            published: &Published { attempts: attempts.to_vec(), is_confirmed },
            executions,
            results: &results(found),
            killed_worker: "w0",
        })
    }

    #[test]
    fn a_kept_promise() {
        let executions = [execution("w0", 1, 1), execution("w1", 2, 1)];
        let ledger = judge(&[1, 1], &executions, &["1 0 w0 1", "2 1 w1 1", "2 1 w1 1"]);
        assert!(ledger.is_kept(), "{ledger:?}");
        assert_eq!(ledger.executed_again, Again::default());
    }

    #[test]
    fn a_confirmed_task_without_result_is_lost() {
        let executions = [execution("w0", 1, 1), execution("w1", 2, 1)];
        let ledger = judge(&[1, 1], &executions, &["1 0 w0 1"]);
        assert_eq!((ledger.lost, ledger.is_kept()), (1, false));
        let ledger = judge(&[1, 1, 1], &executions, &["1 0 w0 1", "2 1 w1 1"]);
        assert_eq!((ledger.lost, ledger.executed, ledger.is_kept()), (1, 2, false));
    }

    #[test]
    fn a_wrong_result_breaks_the_promise() {
        let ledger = judge(&[1], &[execution("w1", 1, 1)], &["1 99 w1 1"]);
        assert_eq!((ledger.wrong, ledger.is_kept()), (1, false));
    }

    #[test]
    fn every_repetition_has_a_cause_or_is_a_fault() {
        let executions = [
            execution("w0", 1, 1),
            execution("w1", 1, 1),
            execution("w1", 2, 2),
            execution("w2", 2, 1),
            execution("w1", 3, 3),
            execution("w2", 3, 2),
            execution("w1", 4, 4),
            execution("w2", 4, 3),
        ];
        let found = ["1 0 w1 1", "2 1 w2 1", "3 7 w1 3", "3 7 w2 2", "4 2 w1 4", "4 2 w2 3"];
        let ledger = judge(&[1, 1, 2, 1], &executions, &found);
        let expected = Again { worker_killed: 1, server_killed: 1, confirm_cut: 1, unexplained: 1 };
        assert_eq!(ledger.executed_again, expected);
        assert!(!ledger.is_kept(), "a task that was committed twice without cause is a fault");
    }
}
