//! How long this disk needs to make one small write durable: every durable figure stands on it.
//! Not here: the server's own log. Called once per run, just before the load.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::figures::{Latencies, Percentiles};

const BLOCK_BYTES: usize = 4096;
const BLOCKS: u64 = 1024;
const DURATION: Duration = Duration::from_millis(500);

/// Overwrites blocks of a zeroed file in `directory` one by one, each flushed with `fdatasync`.
pub(super) fn measure(directory: &Path) -> anyhow::Result<Percentiles> {
    let path = directory.join(format!("potager-bench-{}.flush", std::process::id()));
    let measured = write_blocks(&path);
    fs::remove_file(&path).ok();
    measured.with_context(|| format!("measuring the disk with {}", path.display()))
}

fn write_blocks(path: &Path) -> anyhow::Result<Percentiles> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let block = [0x5A; BLOCK_BYTES];
    for index in 0..BLOCKS {
        file.write_all_at(&block, index * BLOCK_BYTES as u64)?;
    }
    file.sync_all()?;
    let mut latencies = Latencies::new()?;
    let began = Instant::now();
    for index in (0..BLOCKS).cycle() {
        let at = Instant::now();
        file.write_all_at(&block, index * BLOCK_BYTES as u64)?;
        file.sync_data()?;
        latencies.record(u64::try_from(at.elapsed().as_nanos())?, 1);
        if began.elapsed() > DURATION {
            break;
        }
    }
    latencies.summary().context("no flush within the time")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_disk_is_measured_and_left_clean() {
        let folder = tempfile::tempdir().unwrap();
        let disk = super::measure(folder.path()).unwrap();
        assert!(disk.p50 > 0.0 && disk.p50 <= disk.p99);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
