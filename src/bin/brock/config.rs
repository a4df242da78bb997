//! `brock config`: shows and checks the configuration that a node would run with.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use crate::out;
use brock::{
    config::{
        error::{ConfigError, Problem},
        settings::{self, SETTINGS},
        sources::{self, ConfigFile, ShownSetting},
        validate::{self, Config},
        values::Kind,
    },
    node::{self, StartError},
};
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser};

const OUTPUT: &str = "output";

pub(crate) fn command() -> Command {
    let output = Arg::new(OUTPUT)
        .short('o')
        .long(OUTPUT)
        .value_name("FORMAT")
        .value_parser(PossibleValuesParser::new(["text", "json", "toml"]))
        .default_value("text")
        .help("Output format");
    Command::new("config")
        .about("Check and show the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check")
                .about("Check the settings that `run` would use, and report all problems; and the certificates in node.certs-dir, if it is there. Other files, ports and peers \
                     are not looked at")
                .args(settings::args()),
        )
        .subcommand(
            Command::new("show")
                .about("Show every setting with its value and the source of the value")
                .args(settings::args())
                .arg(output),
        )
        .subcommand(Command::new("reference").about("Print the table of all settings as Markdown"))
}

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let text = match matches.subcommand() {
        Some(("check", matches)) => {
            let env: Vec<_> = std::env::vars_os().collect();
            let file = ConfigFile::read_named(matches, &env)?;
            let (config, _) = validate::resolve(matches, &env, file.as_ref())?;
            config.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
            let certificates = certificates(&config)?;
            format!(
                "the settings are valid, {certificates}; `node-admin doctor --config FILE` also checks other files, ports and \
                 peers\n"
            )
        }
        Some(("show", matches)) => return show(matches),
        _ => settings::reference_markdown(),
    };
    out::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What was found of the certificates. Settings are often checked on another machine, or as another user.
fn certificates(config: &Config) -> anyhow::Result<String> {
    let dir = Path::display(&config.certs_dir);
    if !config.certs_dir.exists() {
        return Ok(format!("the certificates were not looked at (there is no {dir} here)"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let checked = runtime.block_on(node::check_certificates(config));
    // A directory that does not answer holds a thread.
    runtime.shutdown_background();
    match checked {
        // Whether it is the cluster's, only a person can tell, or the start.
        Ok(peer) => Ok(match peer.trust_domain {
            Some(domain) => format!("and so are the certificates in {dir}, of the trust domain {domain}"),
            None => format!("and so are the certificates in {dir}"),
        }),
        Err(StartError::Tls(error)) if error.is_denied() => {
            Ok(format!("the certificates were not looked at ({error})"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows the settings, then their problems. A missing required setting is not a problem here.
fn show(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let env: Vec<_> = std::env::vars_os().collect();
    let file = ConfigFile::read_named(matches, &env)?;
    let (shown, mut problems) = sources::gather(matches, &env, file.as_ref());
    let text = match matches.get_one::<String>(OUTPUT).map(String::as_str) {
        Some("json") => as_json(&shown)?,
        Some("toml") => as_toml(&shown)?,
        _ => as_text(&shown),
    };
    out::print(text.as_bytes())?;
    let of_values = validate::validate(&shown).err().unwrap_or_default();
    problems.extend(of_values.into_iter().filter(|problem| !matches!(problem, Problem::Missing { .. })));
    if problems.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(ConfigError::Invalid(problems).into()) }
}

fn as_text(shown: &[ShownSetting]) -> String {
    let width = |of: fn(&ShownSetting) -> usize| shown.iter().map(of).max().unwrap_or_default();
    let (keys, values) = (width(|shown| shown.key.len()), width(|shown| shown.redacted().chars().count()));
    let mut text = String::new();
    for shown in shown {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:keys$}  {:values$}  {}", shown.key, shown.redacted(), shown.source);
    }
    text
}

fn as_json(shown: &[ShownSetting]) -> serde_json::Result<String> {
    let object: serde_json::Map<_, _> = shown
        .iter()
        .map(|shown| {
            let value = serde_json::json!({ "value": shown.redacted(), "source": shown.source.to_string() });
            (shown.key.to_owned(), value)
        })
        .collect();
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}

/// A file for `--config`, with the source of each value as a comment.
fn as_toml(shown: &[ShownSetting]) -> Result<String, std::fmt::Error> {
    let mut tables: Vec<&str> = SETTINGS.iter().map(|setting| setting.table_and_name().0).collect();
    // Settings outside of tables come first: after a table they would belong to it.
    tables.sort_unstable_by_key(|table| (table.split('.').count(), *table));
    tables.dedup();
    let mut text = String::new();
    for table in tables {
        if !table.is_empty() {
            writeln!(text, "{}[{table}]", if text.is_empty() { "" } else { "\n" })?;
        }
        for shown in shown {
            let Some(setting) = settings::find(shown.key) else { continue };
            let (its_table, name) = setting.table_and_name();
            if its_table == table {
                // An empty value is no value in a file.
                let comment = if shown.value.is_empty() { "# " } else { "" };
                let value = toml_value(setting.kind, shown.redacted());
                writeln!(text, "{comment}{name} = {value} # {}", shown.source)?;
            }
        }
    }
    Ok(text)
}

fn toml_value(kind: Kind, value: &str) -> String {
    let is_plain = match kind {
        Kind::Bool | Kind::BoolOrAuto => matches!(value, "true" | "false"),
        Kind::Count => value.parse::<i64>().is_ok(),
        _ => false,
    };
    if is_plain { value.to_owned() } else { toml::Value::from(value).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(flags: &[&str], file: Option<&ConfigFile>) -> Vec<ShownSetting> {
        let command = Command::new("show").no_binary_name(true).args(settings::args());
        let (shown, problems) = sources::gather(&command.try_get_matches_from(flags).unwrap(), &[], file);
        assert_eq!(problems, []);
        shown
    }

    #[test]
    fn what_is_shown_as_toml_can_be_read_back() {
        let flags = [
            "--node.id=a",
            "--node.join=b:1,c:2",
            "--node.path=/x \"y\"\\z",
            "--node.first-start",
            "--http.address=off",
        ];
        let before = shown(&flags, None);
        let text = as_toml(&before).unwrap();
        let after = shown(&[], Some(&ConfigFile { path: "brock.toml".into(), text }));
        let values = |shown: Vec<ShownSetting>| shown.into_iter().map(|shown| (shown.key, shown.value));
        assert_eq!(values(after).collect::<Vec<_>>(), values(before).collect::<Vec<_>>());
    }

    #[test]
    fn every_value_is_shown_with_its_source() {
        let shown = shown(&["--node.id=a"], None);
        let text = as_text(&shown);
        assert_eq!(text.lines().count(), SETTINGS.len());
        let line = text.lines().next().unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["node.id", "a", "flag"]);
        let json: serde_json::Value = serde_json::from_str(&as_json(&shown).unwrap()).unwrap();
        assert_eq!(json["node.id"], serde_json::json!({ "value": "a", "source": "flag" }));
        assert_eq!(json["node.address"]["source"], "default");
    }
}
