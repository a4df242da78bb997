//! Metrics under the names of badgerauth, so that its dashboards keep working. Their values are copied from
//! the page with Brock's own metrics.

use std::fmt::Write as _;

use brock_core::base::metrics::{SEED, SeedSource, SeedValues};

/// One series of a page in Prometheus' text format.
struct Series<'a> {
    name: &'a str,
    /// As on the page, without braces.
    labels: &'a str,
    value: &'a str,
}

/// Appends them to a page that has all other metrics.
pub(crate) fn write(page: &mut String) {
    let mut appended = String::new();
    for seed in SEED {
        let lines = match seed.values {
            // It is on the page already.
            SeedValues::Recorded => continue,
            SeedValues::Zero => format!("{} 0\n", seed.name),
            SeedValues::Of(sources) => {
                sources.iter().map(|source| copied(page, source, seed.name)).collect::<String>()
            }
        };
        if !lines.is_empty() {
            let (name, kind) = (seed.name, seed.kind.name());
            // Writing to a String cannot fail.
            let _ = write!(appended, "# HELP {name} {}\n# TYPE {name} {kind}\n{lines}", seed.help);
        }
    }
    page.push_str(&appended);
}

fn copied(page: &str, source: &SeedSource, name: &str) -> String {
    let mut lines = String::new();
    for series in page.lines().filter_map(series).filter(|series| series.name == source.of) {
        let labels: Vec<&str> = split(series.labels).collect();
        if !source.only.is_empty() && !labels.contains(&source.only) {
            continue;
        }
        let kept = labels.into_iter().filter(|label| *label != source.only);
        let kept: Vec<&str> = kept.chain([source.instead]).filter(|label| !label.is_empty()).collect();
        let labels = if kept.is_empty() { String::new() } else { format!("{{{}}}", kept.join(",")) };
        let _ = writeln!(lines, "{name}{labels} {}", series.value);
    }
    lines
}

fn series(line: &str) -> Option<Series<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    Some(Series { name, labels, value })
}

/// The labels one by one. No copied label has a comma or a quote in its value: the values are addresses and
/// words of Brock's.
fn split(labels: &str) -> impl Iterator<Item = &str> {
    labels.split(',').filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_names_show_the_new_values() {
        let mut page = "# TYPE brock_creates_total counter\n\
             brock_creates_total{expiring=\"true\"} 2\n\
             brock_creates_total{expiring=\"false\"} 3\n\
             brock_replication_rounds_total{address=\"b:1\",outcome=\"ok\"} 4\n\
             brock_replication_rounds_total{address=\"b:1\",outcome=\"error\"} 5\n\
             brock_write_retries_total 6\n\
             brock_backup_failures_total 7\n"
            .to_owned();
        write(&mut page);
        for line in [
            "# TYPE as_badgerauth_insert counter",
            "as_badgerauth_insert 3",
            "as_badgerauth_expiring_insert 2",
            "as_badgerauth_peer_up{address=\"b:1\"} 4",
            "as_badgerauth_peer_down{address=\"b:1\"} 5",
            "as_badgerauth_txn_backoff 6",
            "as_badgerauth_backup{successful=\"false\"} 7",
            "as_badgerauth_kv_bytes_vlog 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(
            !page.contains("as_badgerauth_duplicate_key"),
            "a series that is absent has no old name either"
        );
    }
}
