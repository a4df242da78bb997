//! The figures.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tonic::{Code, Status};

use super::tally::Tally;
use crate::{cli::Format, failure::Failure, output};

/// What `bench put|get|mixed` prints.
#[derive(Debug, Serialize)]
struct Figures {
    ops_per_second: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    errors: u64,
    operations: u64,
    duration_seconds: f64,
}

/// Prints the figures; fails if they are not those of a working node.
pub(super) fn print(tally: &Tally, duration: Duration, format: Format) -> Result<(), Failure> {
    let seconds = duration.as_secs_f64();
    let at = |quantile| milliseconds(&tally.latencies, quantile);
    let figures = Figures {
        ops_per_second: rounded(tally.operations as f64 / seconds, 10.0),
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: at(1.0),
        errors: tally.errors(),
        operations: tally.operations,
        duration_seconds: seconds,
    };
    output::data(format, &figures, Figures::text)?;
    explain(tally);
    verdict(tally)
}

/// Reports the errors on standard error, by code.
pub(super) fn explain(tally: &Tally) {
    for (code, count) in tally.failed.iter().enumerate().filter(|(_, count)| **count > 0) {
        output::message(&format!("errors: {count} {:?}", code_at(code)));
    }
    for (count, what) in [
        (tally.wrong, "wrong answers (another record, or another request's)"),
        (tally.pending, "requests never answered"),
    ] {
        if count > 0 {
            output::message(&format!("errors: {count} {what}"));
        }
    }
    if let Some(example) = &tally.example {
        output::message(&format!("the first error: {example}"));
    }
    if tally.unsent > 0 {
        output::message(&format!(
            "warning: {} operations were due and never started: the node did not keep up with the rate",
            tally.unsent
        ));
    }
}

/// Fails if an operation failed or an answer was wrong.
pub(super) fn verdict(tally: &Tally) -> Result<(), Failure> {
    if tally.wrong > 0 {
        return Err(Failure::Error("the node gave wrong answers".to_owned()));
    }
    if tally.operations > 0 {
        return match tally.errors() {
            0 => Ok(()),
            errors => Err(Failure::Error(format!(
                "{} failed; the figures are of the others",
                output::count(errors, "operation")
            ))),
        };
    }
    let most = tally.failed.iter().enumerate().max_by_key(|(_, count)| **count);
    match most {
        Some((code, count)) if *count > 0 => {
            let example = tally.example.as_deref().unwrap_or("no operation succeeded");
            Err(Failure::answered(&Status::new(code_at(code), example)))
        }
        _ => Err(Failure::Unreachable("no operation was answered in time".to_owned())),
    }
}

fn code_at(index: usize) -> Code {
    Code::from_i32(i32::try_from(index).unwrap_or_default())
}

/// A quantile in milliseconds, to the microsecond. 0 when nothing was recorded.
pub(super) fn milliseconds(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    if latencies.is_empty() {
        return 0.0;
    }
    rounded(latencies.value_at_quantile(quantile) as f64 / 1e6, 1000.0)
}

pub(super) fn rounded(number: f64, steps: f64) -> f64 {
    (number * steps).round() / steps
}

impl Figures {
    fn text(&self) -> String {
        let milliseconds = |number: f64| format!("{number:.3}");
        output::fields(&[
            ("ops_per_second", format!("{:.1}", self.ops_per_second)),
            ("p50_ms", milliseconds(self.p50_ms)),
            ("p90_ms", milliseconds(self.p90_ms)),
            ("p99_ms", milliseconds(self.p99_ms)),
            ("p999_ms", milliseconds(self.p999_ms)),
            ("max_ms", milliseconds(self.max_ms)),
            ("errors", self.errors.to_string()),
            ("operations", self.operations.to_string()),
            ("duration_seconds", format!("{:.1}", self.duration_seconds)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{bench::tally::Outcome, failure::Exit};

    #[test]
    fn figures_are_this_json() {
        let figures = Figures {
            ops_per_second: 1234.5,
            p50_ms: 0.25,
            p90_ms: 0.5,
            p99_ms: 1.0,
            p999_ms: 2.0,
            max_ms: 3.0,
            errors: 0,
            operations: 12_345,
            duration_seconds: 10.0,
        };
        let expected = r#"{
  "ops_per_second": 1234.5,
  "p50_ms": 0.25,
  "p90_ms": 0.5,
  "p99_ms": 1.0,
  "p999_ms": 2.0,
  "max_ms": 3.0,
  "errors": 0,
  "operations": 12345,
  "duration_seconds": 10.0
}
"#;
        assert_eq!(output::json(&figures).unwrap(), expected);
    }

    #[test]
    fn figures_without_meaning_are_a_failure() {
        let now = Instant::now();
        let mut tally = Tally::new(now).unwrap();
        assert_eq!(verdict(&tally).unwrap_err().exit(), Exit::Unreachable);
        tally.fail(&Status::permission_denied("no"), 2);
        assert_eq!(verdict(&tally), Err(Failure::Denied("no".to_owned())));
        tally.settle(Outcome::Right, now + Duration::from_millis(1));
        assert!(verdict(&tally).is_err(), "an answer after the end is no throughput");
        tally.settle(Outcome::Right, now);
        assert_eq!(verdict(&tally).unwrap_err().exit(), Exit::Error, "some failed");
        let mut good = Tally::new(now).unwrap();
        good.settle(Outcome::Right, now);
        assert_eq!(verdict(&good), Ok(()));
        tally.settle(Outcome::Wrong, now);
        assert_eq!(verdict(&tally).unwrap_err().exit(), Exit::Error);
        assert_eq!(tally.errors(), 3);
    }
}
