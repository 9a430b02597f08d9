//! The server's process as `/proc` shows it: found by the socket it listens on, with all its
//! children; processor time and memory. Empty hands on other systems and for servers elsewhere.
//!
//! Source: Linux `proc_pid_stat(5)`, `proc_net(5)`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, ToSocketAddrs};

use super::figures::float;
use crate::client::Address;

/// The process that listens on an address of this machine, and its descendants.
#[derive(Clone, Debug)]
pub(crate) struct ServerProcess {
    pids: Vec<u32>,
}

impl ServerProcess {
    /// Finds the server behind an address; `None` when it is not on this machine or hidden.
    pub(crate) fn find(address: &Address) -> Option<Self> {
        Self::find_at(&address.host, address.port)
    }

    /// As [`ServerProcess::find`].
    pub(crate) fn find_at(host: &str, port: u16) -> Option<Self> {
        let mut places = (host, port).to_socket_addrs().ok()?;
        if !places.any(|place| is_here(place.ip())) {
            return None;
        }
        let listening = listening_inodes(port);
        let root = owner_of(&listening)?;
        Some(Self { pids: with_descendants(root) })
    }

    /// The process itself, with its descendants of this moment.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pids: with_descendants(pid) }
    }

    /// Seconds of processor time that all of them have used, in the kernel too.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.pids.iter().map(|pid| cpu_of(&pid.to_string())).sum()
    }

    /// Resident memory of all of them.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.pids.iter().filter_map(|pid| resident_of(*pid)).sum()
    }
}

/// Seconds of processor time that this process has used.
pub(crate) fn cpu_of_this_process() -> f64 {
    cpu_of("self")
}

fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Socket numbers that listen on `port`.
fn listening_inodes(port: u16) -> HashSet<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let suffix = format!(":{port:04X}");
    let mut inodes = HashSet::new();
    for line in tables.iter().flatten().flat_map(|table| table.lines().skip(1)) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Fields: 1 local address, 3 state (0A: listen), 9 inode.
        if let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields.as_slice()
            && local.ends_with(&suffix)
        {
            inodes.insert(format!("socket:[{inode}]"));
        }
    }
    inodes
}

/// The process that holds one of these sockets.
fn owner_of(sockets: &HashSet<String>) -> Option<u32> {
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| sockets.contains(link.to_string_lossy().as_ref()))
    };
    all_pids().into_iter().find(holds)
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn with_descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all_pids() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(pid) = family.get(next).copied() {
        family.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    family
}

/// Fields of `/proc/PID/stat` after the name, which may hold spaces: state first.
fn stat_of(pid: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = text.rsplit_once(')')?;
    Some(after.split_whitespace().map(str::to_owned).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_of(&pid.to_string())?.get(1)?.parse().ok()
}

/// User and system time in seconds.
fn cpu_of(pid: &str) -> f64 {
    let ticks = stat_of(pid).and_then(|fields| {
        let user: u64 = fields.get(11)?.parse().ok()?;
        let system: u64 = fields.get(12)?.parse().ok()?;
        Some(user + system)
    });
    float(ticks.unwrap_or(0)) / float(rustix::param::clock_ticks_per_second())
}

fn resident_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address: Address = format!("amqp://127.0.0.1:{port}").parse().unwrap();
        let found = ServerProcess::find(&address).unwrap();
        assert!(found.pids.contains(&std::process::id()), "{found:?}");
        assert!(found.resident_bytes() > 100_000);
        let before = cpu_of_this_process();
        while cpu_of_this_process() < before + 0.02 {
            std::hint::black_box(all_pids());
        }
        assert!(found.cpu_s() >= before + 0.02);
    }

    #[test]
    fn a_server_elsewhere_is_not_looked_for() {
        let address: Address = "amqp://192.0.2.1".parse().unwrap();
        assert!(ServerProcess::find(&address).is_none());
    }
}
