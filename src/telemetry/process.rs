//! Metrics of the process, under the names that every Prometheus client library gives them.
//!
//! They are written as text rather than recorded: they are read at each scrape, and CPU time is a counter
//! with a fraction, for which the recorder has no type.

use std::fmt::Write as _;

use metrics_process::collector::{Metrics, collect};

use brock_core::base::{metrics as names, metrics::ALL};

/// Reads them and appends them in Prometheus' text format. Values that the system does not provide are
/// left out. Blocks.
pub(crate) fn write(page: &mut String) {
    append(page, &collect());
}

fn append(page: &mut String, metrics: &Metrics) {
    let Metrics { cpu_seconds_total, open_fds, max_fds, resident_memory_bytes, start_time_seconds, .. } =
        *metrics;
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    // 0 stands for no limit.
    let max_fds = max_fds.map(|max| if max == 0 { "+Inf".to_owned() } else { max.to_string() });
    for (name, value) in [
        (names::PROCESS_START, number(start_time_seconds)),
        (names::PROCESS_CPU, cpu_seconds_total.map(|seconds| seconds.to_string())),
        (names::PROCESS_MEMORY, number(resident_memory_bytes)),
        (names::PROCESS_OPEN_FDS, number(open_fds)),
        (names::PROCESS_MAX_FDS, max_fds),
    ] {
        let metric = ALL.iter().find(|metric| metric.name == name);
        let (Some(metric), Some(value)) = (metric, value) else { continue };
        let (help, kind) = (metric.help, metric.kind.name());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::time::unix_now;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let metrics = collect();
        let age = unix_now() - i64::try_from(metrics.start_time_seconds.unwrap()).unwrap();
        assert!((-2..3600).contains(&age), "{metrics:?}");
        assert!((1 << 20..1 << 34).contains(&metrics.resident_memory_bytes.unwrap()), "{metrics:?}");
        let (open, max) = (metrics.open_fds.unwrap(), metrics.max_fds.unwrap());
        assert!(open >= 3 && (max == 0 || max >= open), "{metrics:?}");
        let mut page = String::new();
        append(&mut page, &metrics);
        assert_eq!(page.lines().filter(|line| !line.starts_with('#')).count(), 5, "{page}");
    }

    #[test]
    fn no_limit_is_infinite_and_what_is_not_known_is_left_out() {
        let mut page = String::new();
        append(&mut page, &Metrics { max_fds: Some(0), cpu_seconds_total: Some(1.25), ..Metrics::default() });
        let lines: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["process_cpu_seconds_total 1.25", "process_max_fds +Inf"]);
    }
}
