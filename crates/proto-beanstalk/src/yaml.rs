//! The bodies of `stats`, `stats-tube`, `stats-job` and of the lists: YAML as `beanstalkd` 1.13
//! writes it, its keys in its order. Called by `connection` when the answer has come.
//!
//! Not here: the line before a body (`OK`, its size) and the CR LF behind it.

use std::fmt::Write as _;

use model::{JobFacts, JobState, Millis, QueueFacts, WorkCount, WorkFacts};

use crate::{Counted, Host, HostFacts, Options};

/// `stats`.
///
/// Deviation(BEAN-004): the log stands where the binlog stood; it is there whether or not jobs are
/// kept, and its segments are counted. Requests are counted since the data directory was made.
pub(crate) fn stats(
    work: &WorkFacts,
    facts: &HostFacts,
    host: &dyn Host,
    options: &Options,
) -> String {
    let mut body = Body::new();
    let count = |by: &By| match by {
        By::Engine(what) => work.counts.get(*what as usize).copied().unwrap_or_default(),
        By::Host(what) => host.counted(*what),
    };
    let is_draining = host.is_draining();
    body.number("current-jobs-urgent", work.jobs.urgent);
    body.number("current-jobs-ready", work.jobs.ready);
    body.number("current-jobs-reserved", work.jobs.claimed);
    body.number("current-jobs-delayed", work.jobs.delayed);
    body.number("current-jobs-buried", work.jobs.buried);
    for (key, by) in COUNTS {
        body.number(key, by.iter().map(count).fold(0, u64::saturating_add));
    }
    body.number("job-timeouts", work.timeouts);
    body.number("total-jobs", work.jobs.total);
    body.number("max-job-size", options.job_bytes_max.into());
    body.number("current-tubes", work.queues);
    body.number("current-connections", facts.connections);
    body.number("current-producers", work.producers);
    body.number("current-workers", work.workers);
    body.number("current-waiting", work.waiting);
    body.number("total-connections", facts.connections_total);
    body.number("pid", facts.pid.into());
    body.text("version", options.version.as_bytes());
    for (key, time) in [("rusage-utime", facts.user_time), ("rusage-stime", facts.system_time)] {
        body.plain(key, &format!("{}.{:06}", time.as_secs(), time.subsec_micros()));
    }
    body.number("uptime", facts.uptime_s);
    body.number("binlog-oldest-index", facts.log_oldest);
    body.number("binlog-current-index", facts.log_current);
    body.number("binlog-records-migrated", facts.records_moved);
    body.number("binlog-records-written", facts.records_written);
    body.number("binlog-max-size", facts.log_segment_bytes);
    body.plain("draining", if is_draining { "true" } else { "false" });
    body.plain("id", &facts.id);
    body.text("hostname", facts.hostname.as_bytes());
    body.text("os", facts.os.as_bytes());
    body.text("platform", facts.platform.as_bytes());
    body.0
}

/// Who counts a command.
enum By {
    Engine(WorkCount),
    Host(Counted),
}

/// The lines of `stats` about commands, and who counts each.
const COUNTS: [(&str, &[By]); 22] = [
    ("cmd-put", &[By::Engine(WorkCount::Enqueue), By::Host(Counted::RefusedPut)]),
    ("cmd-peek", &[By::Engine(WorkCount::Look)]),
    ("cmd-peek-ready", &[By::Engine(WorkCount::LookReady)]),
    ("cmd-peek-delayed", &[By::Engine(WorkCount::LookDelayed)]),
    ("cmd-peek-buried", &[By::Engine(WorkCount::LookBuried)]),
    ("cmd-reserve", &[By::Engine(WorkCount::Claim)]),
    ("cmd-reserve-with-timeout", &[By::Engine(WorkCount::ClaimWithin)]),
    ("cmd-delete", &[By::Engine(WorkCount::Delete)]),
    ("cmd-release", &[By::Engine(WorkCount::Release)]),
    ("cmd-use", &[By::Engine(WorkCount::Use)]),
    ("cmd-watch", &[By::Engine(WorkCount::Watch)]),
    ("cmd-ignore", &[By::Engine(WorkCount::Ignore)]),
    ("cmd-bury", &[By::Engine(WorkCount::Bury)]),
    ("cmd-kick", &[By::Engine(WorkCount::Kick)]),
    ("cmd-touch", &[By::Engine(WorkCount::Renew)]),
    ("cmd-stats", &[By::Engine(WorkCount::Describe)]),
    ("cmd-stats-job", &[By::Engine(WorkCount::DescribeJob)]),
    ("cmd-stats-tube", &[By::Engine(WorkCount::DescribeQueue)]),
    ("cmd-list-tubes", &[By::Engine(WorkCount::ListQueues)]),
    ("cmd-list-tube-used", &[By::Host(Counted::ListTubeUsed)]),
    ("cmd-list-tubes-watched", &[By::Host(Counted::ListTubesWatched)]),
    ("cmd-pause-tube", &[By::Engine(WorkCount::Pause)]),
];

/// `stats-tube`.
pub(crate) fn stats_tube(facts: &QueueFacts) -> String {
    let mut body = Body::new();
    body.text("name", &facts.name);
    body.number("current-jobs-urgent", facts.jobs.urgent);
    body.number("current-jobs-ready", facts.jobs.ready);
    body.number("current-jobs-reserved", facts.jobs.claimed);
    body.number("current-jobs-delayed", facts.jobs.delayed);
    body.number("current-jobs-buried", facts.jobs.buried);
    body.number("total-jobs", facts.jobs.total);
    body.number("current-using", facts.using.into());
    body.number("current-watching", facts.watching.into());
    body.number("current-waiting", facts.waiting.into());
    body.number("cmd-delete", facts.deletes);
    body.number("cmd-pause-tube", facts.pauses);
    body.number("pause", facts.pause_s);
    body.number("pause-time-left", facts.pause_left_s);
    body.0
}

/// `stats-job`.
///
/// Deviation(BEAN-005): `file` is always 0: where a body lies is the log's business and changes.
pub(crate) fn stats_job(facts: &JobFacts, published: Millis) -> String {
    let mut body = Body::new();
    body.number("id", facts.id.0);
    body.text("tube", &facts.queue);
    body.plain("state", state(facts.state));
    body.number("pri", facts.rank.into());
    body.number("age", facts.now.0.saturating_sub(published.0) / 1000);
    body.number("delay", facts.delay_s.into());
    body.number("ttr", facts.lease_s.into());
    body.number("time-left", facts.left_s);
    body.number("file", 0);
    body.number("reserves", facts.claims.into());
    body.number("timeouts", facts.timeouts.into());
    body.number("releases", facts.releases.into());
    body.number("buries", facts.buries.into());
    body.number("kicks", facts.kicks.into());
    body.0
}

/// The protocol's word for it.
const fn state(state: JobState) -> &'static str {
    match state {
        JobState::Ready => "ready",
        JobState::Claimed => "reserved",
        JobState::Delayed => "delayed",
        JobState::Buried => "buried",
    }
}

/// `list-tubes` and `list-tubes-watched`.
///
/// Deviation(BEAN-006): a queue whose name no tube can have is listed in double quotes, with
/// escapes. `list-tubes` lists in the order in which tubes were made; the original puts the last
/// one into the place of one that goes.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a [u8]>) -> String {
    let mut body = Body::new();
    for name in names {
        body.0.push_str("- ");
        if crate::codec::is_tube_name(name) {
            body.0.extend(name.iter().copied().map(char::from));
        } else {
            body.quoted(name);
        }
        body.0.push('\n');
    }
    body.0
}

/// A body that grows line by line.
struct Body(String);

impl Body {
    fn new() -> Self {
        Self("---\n".to_owned())
    }

    fn key(&mut self, key: &str) {
        self.0.push_str(key);
        self.0.push_str(": ");
    }

    fn number(&mut self, key: &str, number: u64) {
        self.plain(key, &number.to_string());
    }

    fn plain(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(value);
        self.0.push('\n');
    }

    fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.quoted(value);
        self.0.push('\n');
    }

    /// In double quotes; what would end them, break the line or is not ASCII is escaped.
    fn quoted(&mut self, text: &[u8]) {
        self.0.push('"');
        for byte in text {
            match byte {
                b'"' | b'\\' => {
                    self.0.push('\\');
                    self.0.push(char::from(*byte));
                }
                b' '..=b'~' => self.0.push(char::from(*byte)),
                _ => {
                    // Writing to a string does not fail.
                    let _ignored = write!(self.0, "\\x{byte:02x}");
                }
            }
        }
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{JobCounts, JobId};

    use super::*;

    #[test]
    fn lists_quote_what_no_tube_is_called() {
        let names: [&[u8]; 4] = [b"default", b"a;b.c$(d)_/+-", b"celery@x: \"\n\\", b"\xff"];
        assert_eq!(
            list(names.into_iter()),
            "---\n- default\n- a;b.c$(d)_/+-\n- \"celery@x: \\\"\\x0a\\\\\"\n- \"\\xff\"\n"
        );
        assert_eq!(list(std::iter::empty()), "---\n");
    }

    #[test]
    fn a_job_in_the_order_of_the_original() {
        let facts = JobFacts {
            id: JobId(7),
            queue: Bytes::from_static(b"mail"),
            state: JobState::Claimed,
            rank: u32::MAX,
            delay_s: 1,
            lease_s: 60,
            left_s: 59,
            claims: 2,
            timeouts: 3,
            releases: 4,
            buries: 5,
            kicks: 6,
            failures: 0,
            worker: Bytes::new(),
            attempts: Vec::new(),
            now: Millis(3_999),
        };
        let expected = "---\nid: 7\ntube: \"mail\"\nstate: reserved\npri: 4294967295\nage: 2\n\
                        delay: 1\nttr: 60\ntime-left: 59\nfile: 0\nreserves: 2\ntimeouts: 3\n\
                        releases: 4\nburies: 5\nkicks: 6\n";
        assert_eq!(stats_job(&facts, Millis(1_000)), expected);
    }

    #[test]
    fn a_tube_in_the_order_of_the_original() {
        let jobs = JobCounts { urgent: 1, ready: 2, claimed: 3, delayed: 4, buried: 5, total: 6 };
        let facts = QueueFacts {
            name: Bytes::from_static(b"mail"),
            jobs,
            using: 7,
            watching: 8,
            waiting: 9,
            deletes: 10,
            pauses: 11,
            pause_s: 12,
            pause_left_s: 13,
        };
        let expected = "---\nname: \"mail\"\ncurrent-jobs-urgent: 1\ncurrent-jobs-ready: 2\n\
                        current-jobs-reserved: 3\ncurrent-jobs-delayed: 4\n\
                        current-jobs-buried: 5\ntotal-jobs: 6\ncurrent-using: 7\n\
                        current-watching: 8\ncurrent-waiting: 9\ncmd-delete: 10\n\
                        cmd-pause-tube: 11\npause: 12\npause-time-left: 13\n";
        assert_eq!(stats_tube(&facts), expected);
    }
}
