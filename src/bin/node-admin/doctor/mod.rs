//! `doctor`: checks everything between this machine and the cluster, and names a remedy for each problem.
//!
//! The checks start at this machine and end at the cluster, so the first line that is not ok is usually the
//! cause of those below. They work although nodes are down.

pub(crate) mod certificates;
mod cluster;
mod config;
mod place;
mod reach;

use std::path::Path;

use crate::{
    access::CALL_TIMEOUT,
    cli::{Doctor, Global},
    context,
    failure::Failure,
    output, paint,
    progress::Progress,
};
use brock::config::validate::Config;
use brock_net::address::Address;
use serde::Serialize;

use reach::{Role, Target};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    /// Information only.
    Note,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Serialize)]
struct Line {
    level: Level,
    check: &'static str,
    subject: String,
    what: String,
    /// The remedy; empty if there is nothing to do.
    fix: String,
}

/// What `doctor` prints.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

/// Runs the checks and prints them; the exit code is the worst result.
pub(crate) async fn run(global: Global, options: &Doctor) -> Result<(), Failure> {
    let format = global.output;
    let progress = Progress::spinner("examining");
    let report = examine(global, options).await;
    drop(progress);
    output::data(format, &report, |report| report.text(output::terminal_columns()))?;
    report.outcome()
}

/// Runs all checks.
pub(crate) async fn examine(global: Global, options: &Doctor) -> Report {
    let mut report = Report::default();
    let given = global.clone();
    let global = match context::fill(global) {
        Ok(global) => global,
        Err(failure) => {
            report.fail(
                "context",
                "",
                &failure.to_string(),
                "fix or remove the file, or choose another context",
            );
            given
        }
    };
    let config = options.config.as_deref().and_then(|file| config::examine(&mut report, file));
    let timeout = global.timeout.unwrap_or(CALL_TIMEOUT);
    let operator = certificates::operator(&mut report, global.certs_dir.as_deref(), config.is_some());
    let node = config.as_ref().and_then(|config| certificates::node(&mut report, config));
    let addresses = addresses(&mut report, &global, config.as_ref());
    for address in &addresses {
        let dialler = operator.as_ref().map(brock_net::tls::credentials::ClientIdentity::dialler);
        reach::examine(&mut report, &Target { address, dialler, role: Role::Operator, timeout }).await;
    }
    if let (Some(config), Some(node)) = (&config, &node) {
        for peer in &config.join {
            // The node itself looks up the entries that are not one address.
            let Ok(address) = peer.parse::<Address>() else { continue };
            let target =
                Target { address: &address, dialler: Some(node.dialler()), role: Role::Node, timeout };
            reach::examine(&mut report, &target).await;
        }
    }
    let path = options.path.as_deref().or(config.as_ref().and_then(|config| config.path.as_deref()));
    if let Some(path) = path {
        place::path(&mut report, path);
    }
    if let Some(config) = &config {
        place::ports(&mut report, config, node.as_ref(), timeout).await;
        place::descriptors(&mut report);
    }
    if operator.is_some() && !addresses.is_empty() {
        cluster::examine(&mut report, &global).await;
    }
    report
}

/// The nodes to ask: those that were named, or the node that is configured on this machine.
fn addresses(report: &mut Report, global: &Global, config: Option<&Config>) -> Vec<Address> {
    let mut addresses = Vec::new();
    let named = global.node_addresses.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let mut asked: Vec<String> = named.map(str::to_owned).collect();
    if asked.is_empty() {
        asked.extend(config.map(|config| config.address.from_this_machine()));
    }
    for text in &asked {
        match text.parse::<Address>() {
            Ok(address) => addresses.push(address),
            Err(error) => report.fail("address", text, &error.to_string(), "write it as HOST:PORT"),
        }
    }
    if addresses.is_empty() && report.lines.iter().all(|line| line.check != "address") {
        report.warn(
            "address",
            "",
            "no node is named, so none was asked",
            "node-admin doctor --node-addresses HOST:20004, or `node-admin context set NAME --node-addresses HOST:20004`",
        );
    }
    addresses
}

impl Report {
    fn add(&mut self, level: Level, check: &'static str, subject: &str, what: &str, fix: &str) {
        let [subject, what, fix] = [subject, what, fix].map(output::printable);
        self.lines.push(Line { level, check, subject, what, fix });
    }

    fn ok(&mut self, check: &'static str, subject: &str, what: &str) {
        self.add(Level::Ok, check, subject, what, "");
    }

    fn note(&mut self, check: &'static str, subject: &str, what: &str, fix: &str) {
        self.add(Level::Note, check, subject, what, fix);
    }

    fn warn(&mut self, check: &'static str, subject: &str, what: &str, fix: &str) {
        self.add(Level::Warn, check, subject, what, fix);
    }

    fn fail(&mut self, check: &'static str, subject: &str, what: &str, fix: &str) {
        self.add(Level::Fail, check, subject, what, fix);
    }

    fn count(&self, level: Level) -> usize {
        self.lines.iter().filter(|line| line.level == level).count()
    }

    /// The exit code of the worst result.
    fn outcome(&self) -> Result<(), Failure> {
        match self.lines.iter().map(|line| line.level).max() {
            None | Some(Level::Ok | Level::Note) => Ok(()),
            Some(Level::Warn) => Err(Failure::Warning),
            Some(Level::Fail) => Err(Failure::Critical),
        }
    }

    /// The lines, broken between words if they are for a terminal of that many columns.
    fn text(&self, columns: Option<usize>) -> String {
        let columns = columns.unwrap_or(usize::MAX);
        let mut text = String::new();
        let width = |of: fn(&Line) -> usize| self.lines.iter().map(of).max().unwrap_or_default();
        let (check, subject) = (width(|line| line.check.len()), width(|line| line.subject.chars().count()));
        for line in &self.lines {
            let Line { what, fix, .. } = line;
            let word = match line.level {
                Level::Ok => paint::good("ok  "),
                Level::Note => "note".to_owned(),
                Level::Warn => paint::warn("warn"),
                Level::Fail => paint::bad("FAIL"),
            };
            text.push_str(&format!("{word}  {:check$}  {:subject$}  ", line.check, line.subject));
            let begun = WORD + check + subject + 4;
            // Below a wide beginning no room would be left.
            let indent = if begun <= columns / 2 { begun } else { WORD + 2 };
            output::push_wrapped(&mut text, what, (begun, indent), columns);
            if !fix.is_empty() {
                text.push_str("      \u{2192} ");
                output::push_wrapped(&mut text, fix, (WORD + 2, WORD + 2), columns);
            }
        }
        let (warnings, failures) = (self.count(Level::Warn), self.count(Level::Fail));
        text.push_str(&format!("\n{} ok, {warnings} warn, {failures} fail\n", self.count(Level::Ok)));
        text
    }
}

/// The columns of a line's first word and the gap behind it.
const WORD: usize = 6;

/// The directory, for a command that the operator should run.
fn directory_of(path: &Path) -> String {
    path.display().to_string()
}

/// The seconds since 1970.
fn now_unix() -> i64 {
    brock_core::base::time::unix_now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn the_worst_line_is_the_exit_code_and_every_fix_stands_below_its_line() {
        let mut report = Report::default();
        report.ok("dns", "a:1", "1.2.3.4");
        report.note("backup", "a", "none", "set it up");
        assert_eq!(report.outcome(), Ok(()));
        report.warn("clock", "a:1", "off", "chrony");
        assert_eq!(report.outcome().unwrap_err().exit(), Exit::Warning);
        report.fail("tcp", "a:1", "refused\x1b[2J", "start it");
        assert_eq!(report.outcome().unwrap_err().exit(), Exit::Critical);
        let text = report.text(None);
        assert!(text.contains("FAIL  tcp     a:1  refused\u{fffd}[2J\n      \u{2192} start it\n"), "{text}");
        assert!(text.ends_with("\n1 ok, 1 warn, 1 fail\n"), "{text}");
        assert!(text.starts_with("ok    dns     a:1  1.2.3.4\n"), "{text}");
    }

    #[test]
    fn a_line_breaks_between_words_and_no_word_is_cut() {
        let mut report = Report::default();
        report.warn("tcp", "a:1", "nothing listens there at all", "start the node, then look again");
        let expected = "warn  tcp  a:1  nothing listens\n                there at all\n      \u{2192} start the node, then\n        \
                        look again\n\n0 ok, 1 warn, 0 fail\n";
        assert_eq!(report.text(Some(32)), expected);
        let mut report = Report::default();
        report.ok("path", "/var/lib/brock/node", "is writable");
        assert_eq!(
            report.text(Some(34)),
            "ok    path  /var/lib/brock/node\n        is writable\n\n1 ok, 0 warn, 0 fail\n"
        );
    }
}
