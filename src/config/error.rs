//! What can be wrong with a configuration, told to whoever must put it right.

use std::{fmt, path::PathBuf};

use super::values::ValueError;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
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
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("{}:{line}: this is not TOML: {detail}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        detail: String,
    },
    /// The file has a key that is no setting.
    #[error(
        "{place}: there is no setting '{key}'; did you mean '{nearest}'? `brock config reference` lists all"
    )]
    UnknownKey {
        /// The key, dotted.
        key: String,
        /// Where it stands.
        place: Source,
        /// The setting that looks most like it.
        nearest: &'static str,
    },
    /// The environment has a variable that looks like a setting and is none.
    #[error(
        "environment {name}: there is no such setting; did you mean {nearest}? `brock config reference` lists all"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable that looks most like it.
        nearest: String,
    },
    /// A variable's value is not UTF-8.
    #[error("environment {name}: the value is not valid UTF-8; write it as plain text")]
    VariableNotText {
        /// The variable.
        name: String,
    },
    /// The file has a value of a type that the setting does not take.
    #[error("{place}: {key} is {found}, which it cannot be; write {expected}")]
    WrongType {
        /// The setting.
        key: &'static str,
        /// Where it stands.
        place: Source,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A value is nonsense.
    #[error("{key}: the value '{value}' ({place}) {error}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was said.
        value: String,
        /// Who said it.
        place: Source,
        /// What is wrong with it.
        error: ValueError,
    },
    /// A required setting was not given.
    #[error("{key} is required: pass --{key} or set {env}. {hint}")]
    Missing {
        /// The setting.
        key: &'static str,
        /// Its environment variable.
        env: String,
        /// What to do next.
        hint: &'static str,
    },
}

/// Why there is no configuration. Shows every problem at once.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}; check --config, BROCK_CONFIG and the file's permissions", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("the configuration is not valid:{}", list(.0))]
    Invalid(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
}
