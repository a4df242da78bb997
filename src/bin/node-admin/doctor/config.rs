//! The configuration of a node on this machine.

use std::path::Path;

use super::Report;
use brock::config::{
    error::ConfigError,
    settings,
    sources::ConfigFile,
    validate::{self, Config},
};
use clap::Command;

/// Reads the configuration as the node would, the environment included.
pub(super) fn examine(report: &mut Report, file: &Path) -> Option<Config> {
    let at = file.display().to_string();
    let env: Vec<_> = std::env::vars_os().collect();
    let read = || -> Result<Config, ConfigError> {
        let text = brock_net::reading::text(file)
            .map_err(|source| ConfigError::ReadFile { path: file.to_owned(), source })?;
        let file = ConfigFile { path: file.to_owned(), text };
        let nothing = Command::new("doctor").no_binary_name(true).args(settings::args());
        let nothing = nothing.get_matches_from(std::iter::empty::<&str>());
        Ok(validate::resolve(&nothing, &env, Some(&file))?.0)
    };
    match read() {
        Ok(config) => {
            report.ok("config", &at, &format!("valid: node {}", config.node_id));
            Some(config)
        }
        Err(ConfigError::ReadFile { source, .. }) => {
            report.fail(
                "config",
                &at,
                &format!("cannot be read: {source}"),
                "name the node's file, or run this as its user",
            );
            None
        }
        Err(ConfigError::Invalid(problems)) => {
            for problem in problems {
                report.fail(
                    "config",
                    &at,
                    &problem.to_string(),
                    &format!("fix it, then run `brock config check --config {at}`"),
                );
            }
            None
        }
    }
}
