//! What the operating system says about this process. Read when metrics are asked for, never
//! in between. Linux; elsewhere the numbers are absent.

use rustix::process::{Resource, getrlimit};

/// Numbers of the process; `None` when the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) cpu_s: Option<f64>,
    pub(super) open_files: Option<u64>,
    pub(super) files_max: Option<u64>,
    pub(super) threads: Option<u64>,
}

/// Reads them now.
pub(super) fn read() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let files = std::fs::read_dir("/proc/self/fd").ok();
    Process {
        resident_bytes: field(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
        cpu_s: cpu_s(&stat, rustix::param::clock_ticks_per_second()),
        open_files: files.and_then(|entries| u64::try_from(entries.count()).ok()),
        files_max: getrlimit(Resource::Nofile).current,
        threads: field(&status, "Threads:"),
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15. The second field, the name, may hold anything, so
/// counting begins behind its last parenthesis. Source: proc(5).
#[allow(clippy::cast_precision_loss, reason = "ticks of a century fit")]
fn cpu_s(stat: &str, ticks_per_s: u64) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / ticks_per_s as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "42 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_s(stat, 100), Some(3.0));
        assert_eq!(cpu_s("nonsense", 100), None);
        let status = "Name:\tx\nVmRSS:\t  12 kB\nThreads:\t3\n";
        assert_eq!(field(status, "VmRSS:"), Some(12));
        assert_eq!(field(status, "Threads:"), Some(3));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let now = read();
        assert!(now.resident_bytes.unwrap() > 100_000);
        assert!(now.open_files.unwrap() >= 3);
        assert!(now.cpu_s.is_some() && now.threads.is_some());
    }
}
