//! Figures of the process, under the names that every Prometheus client library gives them.
//!
//! Written as text rather than recorded: they are read when somebody asks, and CPU time is a counter
//! with a fraction, which the recorder has no type for.

use std::{fmt::Write as _, fs};

use rustix::process::{Resource, getrlimit};

use brock_core::base::{metrics as names, metrics::ALL};

/// Clock ticks per second in what the kernel tells user space: a constant of its interface on every
/// architecture that Rust runs on, whatever the kernel's own timer does.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel says about this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    start_time_seconds: f64,
    cpu_seconds: f64,
    resident_bytes: u64,
    open_fds: u64,
    /// `None` = without limit.
    max_fds: Option<u64>,
}

/// Reads them; `None` where there is no `/proc`.
pub(crate) fn read() -> Option<Figures> {
    let read = |path| fs::read_to_string(path).ok();
    let (cpu_ticks, start_ticks) = times(&read("/proc/self/stat")?)?;
    let resident = field(&read("/proc/self/status")?, "VmRSS:")?;
    let booted_at = field(&read("/proc/stat")?, "btime")?;
    // The directory's own descriptor is there only while it is read.
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(Figures {
        start_time_seconds: booted_at as f64 + start_ticks as f64 / TICKS_PER_SECOND,
        cpu_seconds: cpu_ticks as f64 / TICKS_PER_SECOND,
        resident_bytes: resident * 1024,
        open_fds: open_fds as u64,
        max_fds: getrlimit(Resource::Nofile).current,
    })
}

/// CPU time and start time, in ticks. The second field is the name, which may hold anything.
fn times(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Counted from the third field, the state.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((number(14)? + number(15)?, number(22)?))
}

/// The number after a word that begins a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Figures {
    /// Appends them in Prometheus' text format.
    pub(crate) fn write(&self, page: &mut String) {
        let max_fds = self.max_fds.map_or(f64::INFINITY, |limit| limit as f64);
        for (name, value) in [
            (names::PROCESS_START, self.start_time_seconds),
            (names::PROCESS_CPU, self.cpu_seconds),
            (names::PROCESS_MEMORY, self.resident_bytes as f64),
            (names::PROCESS_OPEN_FDS, self.open_fds as f64),
            (names::PROCESS_MAX_FDS, max_fds),
        ] {
            let Some(metric) = ALL.iter().find(|metric| metric.name == name) else { continue };
            let kind = metric.kind.name();
            let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
            // Writing to a String cannot fail.
            let _ = writeln!(page, "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}", metric.help);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::time::unix_now;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let figures = read().expect("this is Linux");
        let age = unix_now() as f64 - figures.start_time_seconds;
        assert!((-2.0..3600.0).contains(&age), "{figures:?}");
        assert!((1 << 20..1 << 34).contains(&figures.resident_bytes), "{figures:?}");
        assert!(figures.open_fds >= 3 && figures.max_fds.is_none_or(|max| max >= figures.open_fds));
        let mut page = String::new();
        figures.write(&mut page);
        assert_eq!(page.lines().filter(|line| !line.starts_with('#')).count(), 5, "{page}");
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 9000 20";
        assert_eq!(times(stat), Some((200, 9000)));
        assert_eq!(times("7 (a) S 1"), None);
        assert_eq!(field("cpu 1\nbtime 17\n", "btime"), Some(17));
    }
}
