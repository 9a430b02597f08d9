//! What the machine is: name, processors, memory, graphics processors. NVIDIA's library is loaded
//! at run time; a machine without it simply has no graphics processors to show.

use std::fs;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use serde::Serialize;

/// Graphics processors that are shown.
const GPUS_MAX: u32 = 64;

/// The machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hardware {
    /// Host name.
    pub machine: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Main memory, in bytes; `None` when it cannot be read.
    pub memory_bytes: Option<u64>,
    /// Version of NVIDIA's driver.
    pub driver: Option<String>,
    /// Graphics processors.
    pub gpus: Vec<Gpu>,
}

/// One graphics processor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Gpu {
    /// Its product name.
    pub name: String,
    /// Its memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Of that in use.
    pub used_bytes: Option<u64>,
    /// Degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Share of time in which it did something, 0 to 100.
    pub busy_percent: Option<u32>,
}

/// Looks at the machine, now and again.
#[derive(Debug)]
pub(crate) struct Survey {
    nvml: Option<Nvml>,
}

impl Survey {
    /// Loads NVIDIA's library if there is one.
    pub(crate) fn new() -> Self {
        let nvml = Nvml::init().inspect_err(|error| tracing::debug!(%error, "no NVIDIA library"));
        Self { nvml: nvml.ok() }
    }

    /// All about the machine.
    pub(crate) fn hardware(&self) -> Hardware {
        Hardware {
            machine: machine(),
            cpus: cpus(),
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)),
            driver: self.nvml.as_ref().and_then(|nvml| nvml.sys_driver_version().ok()),
            gpus: self.gpus(),
        }
    }

    /// The graphics processors as they are now.
    pub(crate) fn gpus(&self) -> Vec<Gpu> {
        let Some(nvml) = &self.nvml else { return Vec::new() };
        let count = nvml.device_count().unwrap_or_default().min(GPUS_MAX);
        let devices = (0..count).filter_map(|index| nvml.device_by_index(index).ok());
        devices
            .map(|device| {
                let memory = device.memory_info().ok();
                Gpu {
                    name: device.name().unwrap_or_else(|_| "unknown".to_owned()),
                    memory_bytes: memory.as_ref().map(|memory| memory.total),
                    used_bytes: memory.as_ref().map(|memory| memory.used),
                    temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
                    busy_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
                }
            })
            .collect()
    }
}

/// The machine's name.
pub(crate) fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "machine".to_owned() } else { name }
}

/// Processors that this process may use.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory, from the text of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(total("MemTotal:       16 kB\nMemFree: 3 kB\n"), Some(16384));
        assert_eq!(total("MemTotal: much\n"), None);
    }

    #[test]
    fn a_machine_has_a_name_and_processors_whatever_else() {
        let hardware = Survey::new().hardware();
        assert!(!hardware.machine.is_empty() && hardware.cpus > 0);
    }
}
