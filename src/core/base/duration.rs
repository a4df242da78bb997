//! Go-style durations: `100ms`, `30s`, `5m`, `1h30m`, `1.5h`, and `d` for days.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a duration as a number and a unit, such as 100ms, 30s, 5m, 1h30m or 7d")]
pub struct DurationError;

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// Reads a duration. `0` needs no unit. Never negative.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(DurationError);
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let number: f64 = number.parse().map_err(|_| DurationError)?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError)?;
        seconds += number * factor;
        rest = tail;
    }
    // Rounded to whole nanoseconds by way of microseconds, so that 0.1s is 100 ms exactly.
    Duration::try_from_secs_f64((seconds * 1e9).round() / 1e9).map_err(|_| DurationError)
}

/// Whole milliseconds; the largest number there is for what has more.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a duration the way [`parse`] reads it: `1h30m`, `5m`, `100ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let (whole, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if whole == 0 && nanos > 0 {
        return match nanos {
            n if n % 1_000_000 == 0 => format!("{}ms", n / 1_000_000),
            n if n % 1_000 == 0 => format!("{}us", n / 1_000),
            n => format!("{n}ns"),
        };
    }
    let mut text = String::new();
    for (unit, size) in [("h", 3600), ("m", 60)] {
        let count = match unit {
            "h" => whole / size,
            _ => whole % 3600 / size,
        };
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    let seconds = whole % 60;
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        text.push_str(&format!("{seconds}.{}s", fraction.trim_end_matches('0')));
    } else if seconds > 0 || text.is_empty() {
        text.push_str(&format!("{seconds}s"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_style_durations_are_read_and_written() {
        for (text, milliseconds, canonical) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("100ms", 100, "100ms"),
            ("30s", 30_000, "30s"),
            ("1.5s", 1_500, "1.5s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1.5h", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "168h"),
            ("1m0.25s", 60_250, "1m0.25s"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(format(duration), canonical, "{text}");
            assert_eq!(parse(canonical).unwrap(), duration, "{text}");
        }
        for text in ["", "5", "s", "-1s", "1 s", "1x", "1s2", ".s", "1e3s", "99999999999999999999h"] {
            assert_eq!(parse(text), Err(DurationError), "{text}");
        }
    }
}
