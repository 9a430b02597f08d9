//! Tests of the metrics, and the page `docs/operate/metrics.md`: its tables are made from what
//! is really written, so that they cannot drift.

use std::{fmt::Write, path::PathBuf};

use super::*;

fn queue(name: &str, ready: u64) -> Row {
    vec![
        ("name", Cell::Text(name.to_owned().into())),
        ("vhost", Cell::Text("/".into())),
        ("messages_ready", Cell::Number(ready)),
        ("messages_unacknowledged", Cell::Number(2)),
    ]
}

#[test]
fn names_are_rabbitmqs_with_our_prefix() {
    let stats = NodeStats { published: 7, messages_ready: 3, ..NodeStats::default() };
    let text = server(stats, Durability::Fsync);
    for line in [
        "potager_global_messages_received_total 7",
        "potager_queue_messages_ready 3",
        "potager_queue_messages 3",
        "potager_alarms_memory_used_watermark 0",
        "# TYPE potager_log_flush_seconds histogram",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes "));
    assert!(text.contains("durability=\"fsync\""));
}

#[test]
fn flush_times_are_cumulative_and_end_with_infinity() {
    let flush = Latency { buckets: vec![0, 1, 2, 4], total_us: 1_500_000 };
    let text = server(NodeStats { flush, ..NodeStats::default() }, Durability::Os);
    for line in [
        "potager_log_flush_seconds_sum 1.5",
        "potager_log_flush_seconds_count 7",
        "potager_log_flush_seconds_bucket{le=\"0.000004\"} 3",
        "potager_log_flush_seconds_bucket{le=\"+Inf\"} 7",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn every_queue_has_its_series() {
    let text = queues(&[queue("a", 5), queue("b", 6)]);
    let line = "potager_detailed_queue_messages_ready{vhost=\"/\",queue=\"a\"} 5";
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(text.contains("potager_detailed_queues_left_out 0"));
}

#[test]
fn a_name_cannot_forge_a_series() {
    let text = queues(&[queue("a\"} 1\nforged{x=\"", 5)]);
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
    assert!(text.contains(r#"queue="a\"} 1\nforged{x=\"""#), "{text}");
}

#[test]
fn series_are_bounded() {
    let rows: Vec<Row> = (0..=DETAILED_QUEUES_MAX).map(|n| queue(&n.to_string(), 1)).collect();
    let text = queues(&rows);
    assert!(text.contains("potager_detailed_queues_left_out 1"));
    assert!(text.lines().count() <= 5 * DETAILED_QUEUES_MAX + 20);
}

const PAGE_HEAD: &str = "\
# Metrics

`GET /metrics` on the [HTTP door](http.md) gives the numbers of the whole server as OpenMetrics \
  text,
which Prometheus reads as it is. The number of series there is fixed, whatever clients do.
`GET /metrics/detailed` adds numbers of every queue, at most 10,000 queues.

Names follow RabbitMQ's where it has the same thing, with `potager_` in place of `rabbitmq_`. The
tables are generated from the code: `UPDATE=1 cargo test -p potager metrics`.

```yaml
scrape_configs:
  - job_name: potager
    static_configs: [{ targets: [\"localhost:15672\"] }]
```

## Worth an alert

| expression | means |
|---|---|
| `potager_alarms_free_disk_space_watermark == 1` | \
  publishers are held back: make room on the disk |
| `potager_alarms_memory_used_watermark == 1` | publishers are held back: memory is short |
| `increase(potager_global_messages_unroutable_dropped_total[5m]) > 0` | \
  messages go nowhere: a binding is missing |
| `histogram_quantile(0.99, rate(potager_log_flush_seconds_bucket[5m])) > 0.05` | \
  the disk is slow, so every confirm is |
| `potager_queue_messages_ready > 0 and potager_consumers == 0` | work waits and nobody takes it |
| `process_open_fds / process_max_fds > 0.8` | raise the limit of open files |
";

/// A table row for each metric, from its `HELP` and `TYPE` lines.
fn table(title: &str, text: &str) -> String {
    let mut page = format!("\n## {title}\n\n| name | type | meaning |\n|---|---|---|\n");
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap().1.trim_end_matches('.');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            writeln!(page, "| `{name}{suffix}` | {kind} | {help} |").unwrap();
        }
    }
    page
}

#[test]
fn the_page_is_current() {
    let stats = NodeStats { certificate_expiry_s: Some(1), ..NodeStats::default() };
    let server = server(stats, Durability::Fsync);
    let detailed = queues(&[queue("a", 1)]);
    let (first, second) = (table("/metrics", &server), table("/metrics/detailed", &detailed));
    let page = format!("{PAGE_HEAD}{first}{second}");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/operate/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "run `UPDATE=1 cargo test -p potager metrics` and commit the page");
}

#[test]
fn every_expression_worth_an_alert_names_real_metrics() {
    let text = server(NodeStats::default(), Durability::Fsync);
    let words = PAGE_HEAD.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| {
        let ours = word.starts_with("potager_") || word.starts_with("process_");
        ours && word.len() > "potager_".len()
    });
    let mut count = 0;
    for name in names {
        assert!(text.contains(&format!("\n{name}")), "{name} is no metric");
        count += 1;
    }
    assert!(count >= 8);
}
