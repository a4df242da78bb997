//! Reads settings one by one, and collects all problems instead of stopping at the first.

use std::{path::PathBuf, time::Duration};

use super::{
    error::{Problem, Source},
    settings,
    sources::ShownSetting,
    values::{self, Kind, ValueError},
};
use crate::backup::objects::{Secret, is_plain};
use brock_core::base::duration;

/// No duration is longer: ten years, so that a deadline can always be computed.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Each method reads one setting. It returns `None` only together with a problem.
pub(super) struct Reader<'a> {
    shown: &'a [ShownSetting],
    pub(super) problems: Vec<Problem>,
    /// The settings that were read, for the test that none is left out.
    pub(super) read: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shown: &'a [ShownSetting]) -> Self {
        Self { shown, problems: Vec::new(), read: Vec::new() }
    }

    /// All settings as they may be shown.
    pub(super) fn shown(&self) -> Vec<ShownSetting> {
        self.shown.iter().map(ShownSetting::without_secret).collect()
    }

    /// The setting's text as it is.
    pub(super) fn text(&mut self, key: &'static str) -> String {
        self.read.push(key);
        let shown = self.shown.iter().find(|shown| shown.key == key);
        shown.map(|shown| shown.value.clone()).unwrap_or_default()
    }

    /// The text, unless it is empty.
    pub(super) fn optional_text(&mut self, key: &'static str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// A path; empty = none.
    pub(super) fn optional_path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.optional_text(key)?;
        self.value(key, &text, values::path)
    }

    /// The value of a text that must not be empty. `hint`: what the operator can do.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        hint: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        match self.optional_text(key) {
            Some(text) => self.value(key, &text, parse),
            None => {
                self.missing(key, hint);
                None
            }
        }
    }

    /// Reports that a setting must not be empty.
    pub(super) fn missing(&mut self, key: &'static str, hint: &'static str) {
        let env = settings::find(key).map(settings::Setting::env).unwrap_or_default();
        self.problems.push(Problem::Missing { key, env, hint });
    }

    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        let text = self.text(key);
        self.value(key, &text, parse)
    }

    pub(super) fn duration(&mut self, key: &'static str, low: Duration) -> Option<Duration> {
        self.parsed(key, |text| bounded(values::duration(text)?, low))
    }

    /// Seconds or a duration, of any length.
    pub(super) fn seconds(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, |text| bounded(values::seconds(text)?, Duration::ZERO))
    }

    /// A duration of any length; `never` = none.
    pub(super) fn duration_or_never(&mut self, key: &'static str) -> Option<Option<Duration>> {
        let bound = |value| bounded(value, Duration::ZERO);
        self.parsed(key, |text| values::duration_or_never(text)?.map(bound).transpose())
    }

    /// A duration that is at most `max`, the value of the setting `max_key`.
    pub(super) fn duration_up_to(
        &mut self,
        key: &'static str,
        low: Duration,
        (max_key, max): (&'static str, Option<Duration>),
    ) -> Option<Duration> {
        let value = self.duration(key, low)?;
        match max.filter(|max| value > *max) {
            None => Some(value),
            Some(max) => {
                self.refuse(key, ValueError::Above(max_key, duration::format(max)));
                None
            }
        }
    }

    /// A count, or a size in bytes.
    pub(super) fn number(&mut self, key: &'static str, low: u64, high: u64) -> Option<usize> {
        let is_size = settings::find(key).is_some_and(|setting| setting.kind == Kind::Size);
        self.parsed(key, |text| {
            let value = if is_size { values::size_bytes(text)? } else { values::count(text)? };
            let bounds = || ValueError::Bounds(low.to_string(), high.to_string());
            if !(low..=high).contains(&value) {
                return Err(bounds());
            }
            usize::try_from(value).map_err(|_| bounds())
        })
    }

    /// A count; `off` = none.
    pub(super) fn count_or_off(&mut self, key: &'static str, low: u64, high: u64) -> Option<Option<u64>> {
        self.parsed(key, |text| match values::count_or_off(text)? {
            Some(value) if !(low..=high).contains(&value) => {
                Err(ValueError::Bounds(low.to_string(), high.to_string()))
            }
            value => Ok(value),
        })
    }

    /// One of the words that the setting lists.
    pub(super) fn choice<T>(&mut self, key: &'static str, read: impl Fn(&str) -> T) -> Option<T> {
        let Some(Kind::Choice(options)) = settings::find(key).map(|setting| setting.kind) else {
            return None;
        };
        self.parsed(key, |text| Ok(read(values::choice(text, options)?)))
    }

    /// A public part of a credential; empty = none.
    pub(super) fn credential_id(&mut self, key: &'static str) -> Option<Option<String>> {
        let Some(text) = self.optional_text(key) else { return Some(None) };
        self.value(key, &text, plain).map(Some)
    }

    /// A secret; empty = none. It may be in the environment, in the configuration file, or in a file of
    /// its own, but not on the command line, which other users of the machine can read.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Option<Secret>> {
        let Some(text) = self.optional_text(key) else { return Some(None) };
        let on_command_line =
            self.shown.iter().any(|shown| shown.key == key && matches!(shown.source, Source::Flag));
        if on_command_line && !text.starts_with('@') {
            self.refuse(key, ValueError::SecretOnCommandLine);
            return None;
        }
        let secret = self.value(key, &text, |text| plain(&values::secret(text)?))?;
        Some(Some(Secret::new(secret)))
    }

    /// Whether the operator has set it to an empty list, rather than left it out.
    pub(super) fn is_set_to_nothing(&self, key: &'static str) -> bool {
        let is_set = |shown: &ShownSetting| matches!(shown.source, Source::File { .. });
        self.shown.iter().any(|shown| shown.key == key && shown.value.is_empty() && is_set(shown))
    }

    pub(super) fn refuse(&mut self, key: &'static str, error: ValueError) {
        if let Some(shown) = self.shown.iter().find(|shown| shown.key == key) {
            let (value, place) = (shown.redacted().to_owned(), shown.source.clone());
            self.problems.push(Problem::Value { key, value, place, error });
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        parse(text).map_err(|error| self.refuse(key, error)).ok()
    }
}

/// Checks the characters of a credential.
fn plain(text: &str) -> Result<String, ValueError> {
    if is_plain(text) { Ok(text.to_owned()) } else { Err(ValueError::NotPlain) }
}

fn bounded(value: Duration, low: Duration) -> Result<Duration, ValueError> {
    match (low..=DURATION_MAX).contains(&value) {
        true => Ok(value),
        false => Err(ValueError::Bounds(duration::format(low), duration::format(DURATION_MAX))),
    }
}
