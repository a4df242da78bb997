//! Gathers each setting's text from its sources. Flags take precedence over the environment, the
//! environment over the file, the file over the default.
//!
//! An empty text is no value: a template or a script whose variable is not set must not choose one. An empty
//! environment variable counts as not set; an empty flag or key is refused.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{ArgMatches, parser::ValueSource};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, Problem, Source},
    settings::{self, CONFIG_ENV, CONFIG_FLAG, SETTINGS, Setting},
    values::Kind,
};
use brock_core::proto;

/// A configuration file's text.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

impl ConfigFile {
    /// Reads the file that `--config` or `BROCK_CONFIG` names, if one does.
    pub fn read_named(
        matches: &ArgMatches,
        env: &[(OsString, OsString)],
    ) -> Result<Option<Self>, ConfigError> {
        let is_named = |(name, path): &&(OsString, OsString)| name == CONFIG_ENV && !is_blank(path);
        let from_env = || env.iter().find(is_named).map(|(_, path)| PathBuf::from(path));
        let from_flag = matches.get_one::<String>(CONFIG_FLAG).map(PathBuf::from);
        let Some(path) = from_flag.or_else(from_env) else { return Ok(None) };
        match brock_net::reading::text(&path) {
            Ok(text) => Ok(Some(Self { path, text })),
            Err(source) => Err(ConfigError::ReadFile { path, source }),
        }
    }
}

/// A setting's value as text, and the source of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    /// The setting.
    pub key: &'static str,
    /// Its value, as written in the source.
    pub value: String,
    /// Where the value came from.
    pub source: Source,
}

impl ShownSetting {
    /// The setting as it may be shown.
    pub fn without_secret(&self) -> Self {
        Self { key: self.key, value: self.redacted().to_owned(), source: self.source.clone() }
    }

    /// The setting as it may be shown, as a message.
    pub fn to_proto(&self) -> proto::show_configuration_response::Setting {
        let shown = self.without_secret();
        let (key, source) = (shown.key.to_owned(), shown.source.to_string());
        proto::show_configuration_response::Setting { key, value: shown.value, source }
    }

    /// The value as it may be shown: `***` for a secret; `@FILE` stays.
    pub fn redacted(&self) -> &str {
        if super::values::is_private_key(&self.value) {
            return "***";
        }
        let is_secret = super::settings::find(self.key).is_some_and(|setting| setting.kind == Kind::Secret);
        if is_secret && !self.value.is_empty() && !self.value.starts_with('@') { "***" } else { &self.value }
    }
}

/// Every setting with its value, and the problems of the sources themselves. Whether a value is valid is
/// checked later.
pub fn gather(
    matches: &ArgMatches,
    env: &[(OsString, OsString)],
    file: Option<&ConfigFile>,
) -> (Vec<ShownSetting>, Vec<Problem>) {
    let mut problems = Vec::new();
    let from_file = file.map(|file| read_file(file, &mut problems)).unwrap_or_default();
    let from_env = read_env(env, &mut problems);
    let from_flags = read_flags(matches, &mut problems);
    (merge([from_flags, from_env, from_file]), problems)
}

/// Every setting with its value from `pairs` of key and text, for a program without a command line.
pub fn gather_pairs(pairs: &[(&str, &str)]) -> (Vec<ShownSetting>, Vec<Problem>) {
    let (mut given, mut problems) = (Given::new(), Vec::new());
    for (key, text) in pairs {
        match settings::find(key) {
            Some(setting) => {
                given.insert(setting.key, ((*text).to_owned(), Source::Program));
            }
            None => {
                let (key, nearest) = ((*key).to_owned(), settings::nearest(key));
                problems.push(Problem::UnknownKey { key, place: Source::Program, nearest });
            }
        }
    }
    (merge([given]), problems)
}

/// What one source gives: texts by setting.
type Given = HashMap<&'static str, (String, Source)>;

/// Every setting from the first of these sources that gives it, otherwise its default.
fn merge<const N: usize>(mut sources: [Given; N]) -> Vec<ShownSetting> {
    let shown = SETTINGS.iter().map(|setting| {
        let given = sources.iter_mut().find_map(|source| source.remove(setting.key));
        let (value, source) = given.unwrap_or_else(|| (setting.default.to_owned(), Source::Default));
        ShownSetting { key: setting.key, value, source }
    });
    shown.collect()
}

fn read_flags(matches: &ArgMatches, problems: &mut Vec<Problem>) -> Given {
    let mut given = Given::new();
    for setting in SETTINGS {
        // The implied value of a flag without one (`--node.first-start`) counts as given.
        if matches.value_source(setting.key) != Some(ValueSource::CommandLine) {
            continue;
        }
        let values: Vec<&str> =
            matches.get_many::<String>(setting.key).into_iter().flatten().map(String::as_str).collect();
        if values.iter().any(|value| is_blank(value.as_ref())) {
            problems.push(Problem::Empty { key: setting.key, place: Source::Flag });
        } else {
            given.insert(setting.key, (values.join(","), Source::Flag));
        }
    }
    given
}

fn read_env(env: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Given {
    let known: HashMap<String, &Setting> = SETTINGS.iter().map(|setting| (setting.env(), setting)).collect();
    let mut given = Given::new();
    for (name, value) in env {
        let Some(name) = name.to_str().filter(|_| !is_blank(value)) else { continue };
        match (known.get(name), value.to_str()) {
            (Some(setting), Some(value)) => {
                given.insert(setting.key, (value.to_owned(), Source::Environment(name.to_owned())));
            }
            (Some(_), None) => problems.push(Problem::VariableNotText { name: name.to_owned() }),
            (None, _) => problems.extend(misspelt_variable(name)),
        }
    }
    given
}

/// Whether a value is none: empty, or white space alone.
pub fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|value| value.trim().is_empty())
}

/// Reports a variable that is probably a misspelt setting. Kubernetes sets similar variables for a
/// Service called `brock-node`, so only a difference of one or two characters counts.
fn misspelt_variable(name: &str) -> Option<Problem> {
    if !name.starts_with("BROCK_") || name == CONFIG_ENV {
        return None;
    }
    let (distance, nearest) = SETTINGS
        .iter()
        .map(|setting| (strsim::levenshtein(name, &setting.env()), setting.env()))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 2).then(|| Problem::UnknownVariable { name: name.to_owned(), nearest })
}

fn read_file(file: &ConfigFile, problems: &mut Vec<Problem>) -> Given {
    let mut given = Given::new();
    match DeTable::parse(&file.text) {
        Ok(root) => Reader { file, given: &mut given, problems }.table("", root.get_ref()),
        Err(error) => {
            let line = line_at(&file.text, error.span().map_or(0, |span| span.start));
            let detail = error.message().lines().collect::<Vec<_>>().join("; ");
            problems.push(Problem::Syntax { path: file.path.clone(), line, detail });
        }
    }
    given
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

struct Reader<'a> {
    file: &'a ConfigFile,
    given: &'a mut Given,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = match prefix {
                "" => name.get_ref().to_string(),
                _ => format!("{prefix}.{}", name.get_ref()),
            };
            let place = self.place(name.span().start);
            match (settings::find(&key), value.get_ref()) {
                (Some(setting), value) => self.setting(setting, value, place),
                (None, DeValue::Table(inner)) if is_table_of_settings(&key) || !inner.is_empty() => {
                    self.table(&key, inner);
                }
                (None, _) => {
                    let nearest = settings::nearest(&key);
                    self.problems.push(Problem::UnknownKey { key, place, nearest });
                }
            }
        }
    }

    fn setting(&mut self, setting: &Setting, value: &DeValue<'_>, place: Source) {
        match text_of(setting.kind, value) {
            // An empty array is a value: a list without entries.
            Ok(text) if is_blank(text.as_ref()) && matches!(value, DeValue::String(_)) => {
                self.problems.push(Problem::Empty { key: setting.key, place });
            }
            Ok(text) => {
                self.given.insert(setting.key, (text, place));
            }
            Err(found) => {
                let expected = expected(setting.kind);
                self.problems.push(Problem::WrongType { key: setting.key, place, found, expected });
            }
        }
    }

    fn place(&self, offset: usize) -> Source {
        Source::File { path: self.file.path.clone(), line: line_at(&self.file.text, offset) }
    }
}

fn is_table_of_settings(key: &str) -> bool {
    let prefix = format!("{key}.");
    SETTINGS.iter().any(|setting| setting.key.starts_with(&prefix))
}

/// A value's text, or its type if the setting does not take that type.
fn text_of(kind: Kind, value: &DeValue<'_>) -> Result<String, &'static str> {
    match (kind, value) {
        (_, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::Peers | Kind::Recipients, DeValue::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| as_text(item)).collect();
            texts.map(|texts| texts.join(",")).ok_or("an array with values other than texts")
        }
        (Kind::Bool | Kind::BoolOrAuto, DeValue::Boolean(value)) => Ok(value.to_string()),
        (
            Kind::Count | Kind::CountOrOff | Kind::Size | Kind::Seconds | Kind::Factor,
            DeValue::Integer(number),
        ) => Ok(number.to_string().replace('_', "")),
        (Kind::Factor, DeValue::Float(number)) => Ok(number.to_string().replace('_', "")),
        (_, DeValue::Integer(_)) => Err("a number"),
        (_, DeValue::Float(_)) => Err("a fraction"),
        (_, DeValue::Boolean(_)) => Err("a boolean"),
        (_, DeValue::Datetime(_)) => Err("a date"),
        (_, DeValue::Array(_)) => Err("an array"),
        (_, DeValue::Table(_)) => Err("a table"),
    }
}

fn as_text<'a>(item: &'a Spanned<DeValue<'_>>) -> Option<&'a str> {
    match item.get_ref() {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::BoolOrAuto => "true, false or \"auto\"",
        Kind::Count => "a whole number, such as 1000",
        Kind::CountOrOff => "a whole number, such as 1000, or \"off\"",
        Kind::Size => "a whole number of bytes or a text such as \"64KiB\"",
        Kind::Duration => "a text with a number and a unit, such as \"30s\"",
        Kind::DurationOrNever => "a text such as \"720h\", or \"never\"",
        Kind::Seconds => "a whole number of seconds, or a text such as \"1h\"",
        Kind::Factor => "a number, such as 0.4",
        Kind::Recipients => "an array of texts, such as [\"age1…\"]",
        Kind::Text | Kind::Secret | Kind::Retention | Kind::Socket => "a text in quotation marks",
        Kind::Peers => "an array of texts, such as [\"node-2:20004\"]",
        Kind::NodeId | Kind::Path | Kind::Listen | Kind::ListenOrOff | Kind::LogLevel | Kind::Choice(_) => {
            "a text in quotation marks"
        }
    }
}
