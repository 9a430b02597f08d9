//! What the server watches about its own process: resident memory, and how many files it may
//! open. The disk is measured by the journal, which is told here when to look.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use config::Settings;
use replica::Alarm;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Desk;

/// How often memory is looked at: an alarm must show within a second.
const INTERVAL: Duration = Duration::from_millis(500);
/// Share of the machine's memory that publishing may fill, in per cent.
const MEMORY_SHARE: u64 = 60;

/// Raises the soft limit of open files to the hard one; returns what is allowed now.
pub(super) fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let now = getrlimit(Resource::Nofile).current;
    now.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX / 2)
}

/// Raises and clears the alarms for as long as the server runs. The cell that is returned is the
/// setting `alarm.memory_bytes_max`; it may change.
pub(super) fn resources(settings: &Settings, desk: &Desk) -> Rc<Cell<u64>> {
    let share = memory_bytes().unwrap_or(u64::MAX / 100) / 100 * MEMORY_SHARE;
    let setting = Rc::new(Cell::new(settings.alarm.memory_bytes_max));
    let (desk, wanted) = (desk.clone(), Rc::clone(&setting));
    tokio::task::spawn_local(async move {
        let mut is_on = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let bytes_max = if wanted.get() == 0 { share } else { wanted.get() };
            // Hysteresis: clear a tenth below the mark, so that it does not flicker.
            let mark = if is_on { bytes_max / 10 * 9 } else { bytes_max };
            let is_short = resident_bytes().is_some_and(|bytes| bytes > mark);
            desk.server().watch(|node| {
                node.measure_disk();
                desk.server().log.set(node.journal().stats());
                if is_short != is_on {
                    is_on = is_short;
                    node.set_alarm(Alarm::Memory, is_on);
                }
            });
        }
    });
    setting
}

/// Memory this process may use: the limit of its control group or of one above, or the machine's.
fn memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let group = read("/proc/self/cgroup").and_then(|groups| group_bytes(&groups, read));
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let machine = kibibytes.saturating_mul(1024);
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The smallest memory limit on the way from this process's control groups to their roots, as
/// `/proc/self/cgroup` names them. Inside a container the path may be the host's and lead
/// nowhere; its root is looked at in any case.
///
/// Source: Linux, `cgroups(7)`: `hierarchy:controllers:path`, both first empty in version 2.
fn group_bytes(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let ancestors = std::path::Path::new(path).ancestors();
        let files = ancestors.map(|group| {
            format!("{root}/{}/{file}", group.display().to_string().trim_matches('/'))
        });
        files.filter_map(|file| read(&file)?.trim().parse::<u64>().ok()).min()
    });
    limits.min()
}

/// Resident memory of this process.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "0::/system.slice/potager.service\n";
    const V1: &str = "9:cpu,cpuacct:/\n4:memory:/docker/ab\n0::/docker/ab\n";

    /// A machine with these files.
    fn limit(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        group_bytes(groups, |path| {
            let path = path.replace("//", "/");
            let found = files.iter().find(|(name, _)| path == format!("/sys/fs/cgroup/{name}"));
            found.map(|(_, text)| format!("{text}\n"))
        })
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let own = ("system.slice/potager.service/memory.max", "300");
        assert_eq!(limit(V2, &[own]), Some(300));
        assert_eq!(limit(V2, &[own, ("system.slice/memory.max", "200")]), Some(200));
        assert_eq!(limit(V2, &[own, ("memory.max", "max")]), Some(300));
    }

    #[test]
    fn a_container_that_sees_only_its_root_is_limited_too() {
        assert_eq!(limit(V2, &[("memory.max", "100")]), Some(100));
        assert_eq!(limit(V1, &[("memory/memory.limit_in_bytes", "100")]), Some(100));
    }

    #[test]
    fn version_1_counts_where_it_has_the_controller() {
        let own = ("memory/docker/ab/memory.limit_in_bytes", "70");
        assert_eq!(limit(V1, &[own, ("cpu/docker/ab/memory.limit_in_bytes", "7")]), Some(70));
    }

    #[test]
    fn without_a_limit_there_is_none() {
        assert_eq!(limit(V2, &[("memory.max", "max")]), None);
        assert_eq!(limit("", &[]), None);
    }
}
