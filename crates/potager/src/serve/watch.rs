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
                if is_short != is_on {
                    is_on = is_short;
                    node.set_alarm(Alarm::Memory, is_on);
                }
            });
        }
    });
    setting
}

/// Memory this process may use: the control group's limit or the machine's.
fn memory_bytes() -> Option<u64> {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let machine = kibibytes.saturating_mul(1024);
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// Resident memory of this process.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}
