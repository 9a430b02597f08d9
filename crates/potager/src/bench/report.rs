//! [`Report`]: what one run found, as JSON and as lines for a person.
//! Not here: measuring.

use std::fmt::Write as _;

use super::figures::Percentiles;
use super::plan::Plan;

/// The outcome of one run. What was not measured is `None`.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    /// Product and version as the server names itself.
    pub(crate) server: String,
    pub(crate) size_bytes: usize,
    pub(crate) window: usize,
    pub(crate) publishers: usize,
    pub(crate) consumers: usize,
    pub(crate) rate: Option<u32>,
    pub(crate) speed: Option<Speed>,
    /// From publish (open loop: from when it was due) to confirm; in a storm: to log in.
    pub(crate) confirm_us: Option<Percentiles>,
    /// From publish (open loop: from when it was due) to the consumer.
    pub(crate) delivery_us: Option<Percentiles>,
    pub(crate) client_cpu: Option<CpuUse>,
    pub(crate) server_cpu: Option<CpuUse>,
    /// Before and after.
    pub(crate) resident_bytes: Option<(u64, u64)>,
    pub(crate) sizes: Option<Sizes>,
    /// Processor seconds per second while nothing happened.
    pub(crate) idle_cpu_share: Option<f64>,
    /// One 4 KiB write with its flush, in the same minute.
    pub(crate) disk: Option<Percentiles>,
}

/// Messages per second.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Speed {
    /// The one that counts: confirmed, or consumed when nothing is confirmed.
    pub(crate) messages_per_s: f64,
    pub(crate) published_per_s: f64,
    pub(crate) confirmed_per_s: f64,
    pub(crate) consumed_per_s: f64,
    /// Length of the measurement.
    pub(crate) seconds: f64,
}

/// Processor time.
#[derive(Debug, serde::Serialize)]
pub(crate) struct CpuUse {
    pub(crate) us_per_message: f64,
    /// Of one core.
    pub(crate) share: f64,
}

/// Things that stay.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Sizes {
    pub(crate) count: usize,
    /// How quickly they came to be.
    pub(crate) per_s: f64,
    /// Resident memory of the server for each.
    pub(crate) bytes_each: Option<f64>,
}

impl Report {
    /// An empty report about a plan.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            scenario: plan.name.clone(),
            server: String::new(),
            size_bytes: plan.size_bytes,
            window: plan.window,
            publishers: plan.publishers,
            consumers: plan.consumers,
            rate: plan.rate,
            speed: None,
            confirm_us: None,
            delivery_us: None,
            client_cpu: None,
            server_cpu: None,
            resident_bytes: None,
            sizes: None,
            idle_cpu_share: None,
            disk: None,
        }
    }

    /// The report for a person.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} on {}\n", self.scenario, self.server);
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            writeln!(text, "  {name:<18} {value}").ok();
        };
        if let Some(speed) = &self.speed {
            line("messages/s", rounded(speed.messages_per_s.max(speed.consumed_per_s)));
            let (out, back) = (rounded(speed.published_per_s), rounded(speed.consumed_per_s));
            line("published/s", out);
            line("consumed/s", back);
        }
        for (name, latency) in [("confirm", &self.confirm_us), ("delivery", &self.delivery_us)] {
            if let Some(latency) = latency {
                line(&format!("{name} latency"), latency_text(latency));
            }
        }
        for (name, cpu) in [("server", &self.server_cpu), ("client", &self.client_cpu)] {
            if let Some(cpu) = cpu {
                let share = cpu.share * 100.0;
                let each = cpu.us_per_message;
                line(&format!("{name} CPU"), format!("{each:.2} us each, {share:.0} % of a core"));
            }
        }
        if let Some((before, after)) = self.resident_bytes {
            line("server memory", format!("{} before, {} after", mebi(before), mebi(after)));
        }
        if let Some(sizes) = &self.sizes {
            let each =
                sizes.bytes_each.map_or_else(String::new, |each| format!(", {each:.0} B each"));
            line("count", format!("{} at {}/s{each}", sizes.count, rounded(sizes.per_s)));
        }
        if let Some(share) = self.idle_cpu_share {
            line("idle CPU", format!("{:.2} % of a core", share * 100.0));
        }
        if let Some(disk) = &self.disk {
            line("disk flush", format!("p50 {:.0} us, p99 {:.0} us", disk.p50, disk.p99));
        }
        text
    }
}

pub(super) fn latency_text(latency: &Percentiles) -> String {
    let Percentiles { p50, p99, p999, max } = *latency;
    let text =
        |us: f64| if us < 1000.0 { format!("{us:.0} us") } else { format!("{:.2} ms", us / 1e3) };
    format!("p50 {}, p99 {}, p99.9 {}, max {}", text(p50), text(p99), text(p999), text(max))
}

/// With thousands set apart.
pub(super) fn rounded(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn mebi(bytes: u64) -> String {
    format!("{:.1} MiB", super::figures::float(bytes) / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(rounded(1_234_567.4), "1,234,567");
        assert_eq!(rounded(12.0), "12");
        assert_eq!(mebi(3 << 19), "1.5 MiB");
        let latency = Percentiles { p50: 512.3, p99: 1500.0, p999: 2000.0, max: 99_999.0 };
        assert_eq!(latency_text(&latency), "p50 512 us, p99 1.50 ms, p99.9 2.00 ms, max 100.00 ms");
    }

    #[test]
    fn only_what_was_measured_is_told() {
        let mut report = Report::new(&Plan::named("storm").unwrap());
        report.sizes = Some(Sizes { count: 10, per_s: 5.0, bytes_each: None });
        let text = report.text();
        assert!(text.contains("10 at 5/s"), "{text}");
        assert!(!text.contains("latency") && !text.contains("CPU"), "{text}");
    }
}
