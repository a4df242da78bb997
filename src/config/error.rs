//! What can be wrong with a configuration, with the cure for each problem.

use std::{fmt, path::PathBuf};

use super::{settings, values::ValueError};

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The default.
    Default,
    /// The TOML file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The command line.
    Flag,
    /// The program that starts the node, without a command line.
    Program,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
            Self::Program => f.write_str("program"),
        }
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("{}:{line}: this is not TOML: {detail}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's message.
        detail: String,
    },
    /// A key is not a setting.
    #[error(
        "{place}: there is no setting '{key}'; did you mean '{nearest}'? `brock config reference` lists all"
    )]
    UnknownKey {
        /// The key, dotted.
        key: String,
        /// Where it is.
        place: Source,
        /// The most similar setting.
        nearest: &'static str,
    },
    /// An environment variable looks like a setting, but is not one.
    #[error(
        "environment {name}: there is no such setting; did you mean {nearest}? `brock config reference` lists all"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The most similar variable.
        nearest: String,
    },
    /// A variable's value is not UTF-8.
    #[error("environment {name}: the value is not valid UTF-8; write it as plain text")]
    VariableNotText {
        /// The variable.
        name: String,
    },
    /// A value in the file has a type that the setting does not take.
    #[error("{place}: {key} must not be {found}; write {expected}")]
    WrongType {
        /// The setting.
        key: &'static str,
        /// Where it is.
        place: Source,
        /// Its type.
        found: &'static str,
        /// An allowed type, with an example.
        expected: &'static str,
    },
    /// A flag or a key of the file has an empty value.
    #[error(
        "{key}: the value is empty ({place}); write a value{}, or leave the setting out",
        placeholder(key)
    )]
    Empty {
        /// The setting.
        key: &'static str,
        /// Where it is.
        place: Source,
    },
    /// A value is not valid.
    #[error("{key}: the value '{value}' ({place}) {error}")]
    Value {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// Where the value came from.
        place: Source,
        /// What is wrong with it.
        error: ValueError,
    },
    /// A required setting is missing.
    #[error("{key} is required: pass --{key} or set {env}. {hint}")]
    Missing {
        /// The setting.
        key: &'static str,
        /// Its environment variable.
        env: String,
        /// What the operator can do.
        hint: &'static str,
    },
}

impl Problem {
    /// The setting, if its value is empty.
    pub(super) fn empty(&self) -> Option<&'static str> {
        match self {
            Self::Empty { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// Why there is no valid configuration. Reports every problem at once.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}; check --config, BROCK_CONFIG and the file's permissions", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Settings are wrong.
    #[error("the configuration is not valid:{}", list(.0))]
    Invalid(Vec<Problem>),
}

/// What a value of a setting is called, in parentheses.
fn placeholder(key: &str) -> String {
    settings::find(key).map(|setting| format!(" ({})", setting.placeholder)).unwrap_or_default()
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
}
