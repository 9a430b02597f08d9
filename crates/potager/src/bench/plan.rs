//! [`Plan`]: what one run does, and [`SCENARIOS`], the named ones.
//! Not here: reading flags (`commands::bench`), doing it (`load`, `footprint`).

use std::path::PathBuf;
use std::time::Duration;

/// The kind of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Messages flow for a while.
    Stream,
    /// Connections are opened and stay.
    IdleConnections,
    /// Queues are declared and stay.
    Queues,
    /// Messages are stored, then drained.
    Backlog,
    /// Connections come and go.
    Storm,
}

/// Everything that decides a run.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub(crate) struct Plan {
    /// What the report calls it.
    pub(crate) name: String,
    pub(crate) shape: Shape,
    /// Bytes of a message body, at least 8.
    pub(crate) size_bytes: usize,
    /// Publishes without confirm per publisher, in closed loop.
    pub(crate) window: usize,
    pub(crate) publishers: usize,
    pub(crate) consumers: usize,
    pub(crate) queues: usize,
    /// Messages per second in all, sent by the clock (open loop); `None`: as fast as confirmed.
    pub(crate) rate: Option<u32>,
    pub(crate) is_confirmed: bool,
    pub(crate) is_auto_ack: bool,
    pub(crate) is_durable: bool,
    /// Declare the queues as quorum queues.
    pub(crate) is_quorum: bool,
    pub(crate) prefetch: u16,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// How many of the thing that a footprint run counts.
    pub(crate) count: usize,
    /// Leave behind what a footprint run made.
    pub(crate) is_kept: bool,
    /// Where the disk's flush time is measured just before the run.
    pub(crate) flush_dir: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "custom".to_owned(),
            shape: Shape::Stream,
            size_bytes: 1024,
            window: 200,
            publishers: 1,
            consumers: 1,
            queues: 1,
            rate: None,
            is_confirmed: true,
            is_auto_ack: false,
            is_durable: true,
            is_quorum: false,
            prefetch: 2000,
            warm_up: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            count: 10_000,
            is_kept: false,
            flush_dir: None,
        }
    }
}

/// One named scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// One line of help.
    pub(crate) what: &'static str,
    /// Changes the default plan into this one.
    pub(crate) shape: fn(&mut Plan),
}

/// The scenarios by name.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "confirm-200",
        what: "1 publisher with 200 unconfirmed, 1 consumer that acknowledges several at once",
        shape: |_| {},
    },
    Scenario {
        name: "confirm-1000",
        what: "the same with 1,000 unconfirmed",
        shape: |plan| plan.window = 1000,
    },
    Scenario {
        name: "sync-1",
        what: "1 publisher that waits for each confirm; nobody consumes",
        shape: |plan| (plan.window, plan.consumers) = (1, 0),
    },
    Scenario {
        name: "sync-64",
        what: "64 publishers that each wait for each confirm; nobody consumes",
        shape: |plan| (plan.window, plan.consumers, plan.publishers) = (1, 0, 64),
    },
    Scenario {
        name: "transient",
        what: "no confirms, transient queue, consumer with automatic acknowledgement",
        shape: |plan| {
            (plan.is_confirmed, plan.is_auto_ack, plan.is_durable) = (false, true, false);
        },
    },
    Scenario {
        name: "idle-connections",
        what: "--count connections with one channel each; memory of the server per connection",
        shape: |plan| plan.shape = Shape::IdleConnections,
    },
    Scenario {
        name: "queues",
        what: "--count durable empty queues; memory of the server per queue",
        shape: |plan| (plan.shape, plan.count) = (Shape::Queues, 100_000),
    },
    Scenario {
        name: "backlog",
        what: "--count messages stored, then drained; memory of the server per message",
        shape: |plan| {
            (plan.shape, plan.count, plan.window) = (Shape::Backlog, 1_000_000, 1000);
        },
    },
    Scenario {
        name: "storm",
        what: "--count connections opened and closed, 8 at a time",
        shape: |plan| plan.shape = Shape::Storm,
    },
];

impl Plan {
    /// The plan of a named scenario.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name)?;
        let mut plan = Self { name: name.to_owned(), ..Self::default() };
        (scenario.shape)(&mut plan);
        Some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        for scenario in SCENARIOS {
            assert_eq!(Plan::named(scenario.name).unwrap().name, scenario.name);
            let same = SCENARIOS.iter().filter(|other| other.name == scenario.name).count();
            assert_eq!(same, 1, "{}", scenario.name);
        }
        assert!(Plan::named("nothing").is_none());
    }
}
