//! A setting as a flag, as an environment variable and in the reference.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, ValueHint, builder::NonEmptyStringValueParser};

use super::{settings::SETTINGS, values::Kind};

/// The flag that names the configuration file. It is not a setting: a file cannot name itself.
pub const CONFIG_FLAG: &str = "config";
/// The environment variable that names the configuration file.
pub const CONFIG_ENV: &str = "BROCK_CONFIG";

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its dotted name: the flag without `--`, and the path in the TOML file.
    pub key: &'static str,
    /// Its default, written as a user would write it.
    pub default: &'static str,
    /// The placeholder for its value in the help.
    pub placeholder: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// What it does, with its unit and bounds.
    pub help: &'static str,
}

pub(super) const fn setting(
    key: &'static str,
    default: &'static str,
    placeholder: &'static str,
    kind: Kind,
    help: &'static str,
) -> Setting {
    Setting { key, default, placeholder, kind, help }
}

impl Setting {
    /// The environment variable: `BROCK_NODE_CONFLICT_BACKOFF_MAX`.
    pub fn env(&self) -> String {
        format!("BROCK_{}", self.key.to_uppercase().replace(['.', '-'], "_"))
    }

    /// The table of the TOML file that holds it, and its name there.
    pub fn table_and_name(&self) -> (&'static str, &'static str) {
        self.key.rsplit_once('.').unwrap_or(("", self.key))
    }

    fn arg(&self) -> Arg {
        let default = if self.default.is_empty() { "empty" } else { self.default };
        let arg = Arg::new(self.key)
            .long(self.key)
            .value_name(self.placeholder)
            .allow_negative_numbers(true)
            .help(format!("{} [env: {}] [default: {default}]", self.help, self.env()))
            .help_heading(match self.table_and_name().0 {
                "node.backup" => "Backups",
                "" => "Replication log and tombstones",
                "audit" => "Audit log",
                "http" => "HTTP",
                "log" => "Logging",
                "trace" => "Tracing",
                _ => "Node",
            });
        // The name that earlier systems of this kind had for it.
        let arg = if self.key == "node.wire-encryption" { arg.visible_alias("wire-encryption") } else { arg };
        match self.kind {
            Kind::Peers | Kind::Recipients => arg.action(ArgAction::Append),
            // `--node.first-start` alone means true. Only options follow it, so its value is unambiguous.
            Kind::Bool | Kind::BoolOrAuto => arg.num_args(0..=1).default_missing_value("true"),
            Kind::Path => arg.value_hint(ValueHint::DirPath),
            _ => arg,
        }
    }
}

/// The setting of that dotted name.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The flags of all settings, and `--config`.
pub fn args() -> Vec<Arg> {
    let config = Arg::new(CONFIG_FLAG)
        .long(CONFIG_FLAG)
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .value_parser(NonEmptyStringValueParser::new())
        .help(format!(
            "TOML file with settings; flags and environment take precedence over it [env: {CONFIG_ENV}]"
        ));
    std::iter::once(config).chain(SETTINGS.iter().map(Setting::arg)).collect()
}

/// The known key that is most similar to the unknown key `key`.
pub fn nearest(key: &str) -> &'static str {
    let key = key.replace('_', "-").to_lowercase();
    let distance_to = |known: &str| {
        let name = known.rsplit('.').next().unwrap_or(known);
        // A missing or wrong table is one mistake: both `id` and `nodes.id` mean `node.id`.
        strsim::levenshtein(&key, known).min(1 + strsim::levenshtein(&key, name))
    };
    SETTINGS.iter().map(|setting| setting.key).min_by_key(|known| distance_to(known)).unwrap_or_default()
}

/// The reference of all settings as a Markdown table.
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "| Flag | Environment | Default | What it does |\n\
         |:-----|:------------|:--------|:-------------|\n",
    );
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `--{} {}` | `{}` | {default} | {} |",
            setting.key,
            setting.placeholder,
            setting.env(),
            setting.help
        );
    }
    let _ = writeln!(text, "| `--{CONFIG_FLAG} FILE` | `{CONFIG_ENV}` | | TOML file with these settings |");
    text
}
