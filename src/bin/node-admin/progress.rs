//! Progress of long work, on standard error if that is a terminal.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// How often the display is updated.
const TICK: Duration = Duration::from_millis(120);

const BAR_COLUMNS: usize = 32;

const SPINNER: &str = "{spinner} {msg}, {elapsed}";
const TIMED: &str = "{spinner} {msg} {share}";
const COUNTED: &str = "{msg} [{bar:32}] {pos} of {len}, {eta} more";

/// A progress display; it is removed when this is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length.
    pub(crate) fn spinner(what: &str) -> Self {
        Self::new(ProgressBar::new_spinner(), SPINNER, what)
    }

    /// Work that takes about this long.
    pub(crate) fn timed(what: &str, duration: Duration) -> Self {
        let bar = Self::new(ProgressBar::new_spinner(), TIMED, what);
        bar.0.set_style(bar.0.style().with_key(
            "share",
            move |state: &ProgressState, out: &mut dyn Write| {
                // An error means that the terminal is gone.
                let _ = write!(out, "{}", share(state.elapsed(), duration));
            },
        ));
        bar
    }

    /// Work of a known number of pieces.
    pub(crate) fn counted(what: &str, pieces: u64) -> Self {
        Self::new(ProgressBar::new(pieces), COUNTED, what)
    }

    fn new(bar: ProgressBar, template: &str, what: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        // The templates are constants, and a test checks them.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what.to_owned());
        bar.tick();
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Adds finished pieces.
    pub(crate) fn add(&self, more: u64) {
        self.0.inc(more);
    }
}

/// A bar of the elapsed share of `whole`.
fn share(over: Duration, whole: Duration) -> String {
    let part = (over.as_secs_f64() / whole.as_secs_f64().max(1e-9)).min(1.0);
    let full = "=".repeat((part * BAR_COLUMNS as f64) as usize);
    format!("[{full:BAR_COLUMNS$}] {:.0} of {:.0} s", over.as_secs_f64(), whole.as_secs_f64())
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_understood() {
        for template in [SPINNER, TIMED, COUNTED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        const S: Duration = Duration::from_secs(1);
        assert_eq!(share(Duration::ZERO, 4 * S), format!("[{}] 0 of 4 s", " ".repeat(32)));
        assert_eq!(share(S, 4 * S), format!("[{}{}] 1 of 4 s", "=".repeat(8), " ".repeat(24)));
        assert_eq!(share(9 * S, 4 * S), format!("[{}] 9 of 4 s", "=".repeat(32)));
    }
}
