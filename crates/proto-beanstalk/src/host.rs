//! [`Host`]: what only the process knows and `stats` shows. The binary implements it; never asked
//! on the way of a job.

use std::time::Duration;

/// Facts about the process and its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Number of the process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Processor time spent in the process.
    pub user_time: Duration,
    /// Processor time spent in the system on its behalf.
    pub system_time: Duration,
    /// Open connections of this door.
    pub connections: u64,
    /// Connections of this door since the process started.
    pub connections_total: u64,
    /// Number of the oldest log segment that is still needed.
    pub log_oldest: u64,
    /// Number of the log segment that is written now.
    pub log_current: u64,
    /// Bytes of one log segment.
    pub log_segment_bytes: u64,
    /// Records copied so that their segment could be used again.
    pub records_moved: u64,
    /// Records written.
    pub records_written: u64,
    /// Names this run of the process: 16 hexadecimal digits.
    pub id: String,
    /// Name of the machine.
    pub hostname: String,
    /// Version of its operating system.
    pub os: String,
    /// Its kind of processor.
    pub platform: String,
}

/// Commands that the engine does not hear of, and `stats` counts all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A `put` with a good line whose job the door itself refused.
    RefusedPut,
    /// `list-tube-used`.
    ListTubeUsed,
    /// `list-tubes-watched`.
    ListTubesWatched,
}

/// The process around the door.
pub trait Host {
    /// As of now. Asked while input is read, never while the engine hands its answers over: it may
    /// look at the engine.
    fn facts(&self) -> HostFacts;

    /// No new jobs are taken; what is there is worked off.
    fn is_draining(&self) -> bool;

    /// Counts one.
    fn count(&self, _what: Counted) {}

    /// How many were counted; 0 where nothing is.
    fn counted(&self, _what: Counted) -> u64 {
        0
    }
}
