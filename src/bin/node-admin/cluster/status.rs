//! `status --cluster`: the verdict, and all nodes.

use super::{UNKNOWN, bytes, lag_matrix, level, number, roughly, view};
use crate::{
    cli::Format,
    failure::Failure,
    output::{self, headed, section},
    paint,
};
use brock_client::{
    Client,
    view::{Cluster, Level, Node, Status, Verdict},
};

/// Prints the status of the cluster; the exit code is the verdict.
pub(crate) async fn run(client: &Client, format: Format) -> Result<(), Failure> {
    let cluster = view(client, false).await?;
    output::data(format, &cluster, text)?;
    outcome(&cluster.verdict)
}

/// The exit code of the verdict.
fn outcome(verdict: &Verdict) -> Result<(), Failure> {
    match verdict.level {
        Level::Ok => Ok(()),
        Level::Warning => Err(Failure::Warning),
        Level::Critical => Err(Failure::Critical),
    }
}

fn text(cluster: &Cluster) -> String {
    let Verdict { level: verdict, sentence, findings } = &cluster.verdict;
    let sentence = format!("{}: {}", level(*verdict), output::printable(sentence));
    let mut text = String::new();
    output::push_words(&mut text, &sentence, (0, 0));
    if !findings.is_empty() {
        text.push_str("\nfindings:\n");
        for finding in findings {
            let about = if finding.node.is_empty() { "cluster" } else { &finding.node };
            let [about, what, todo] = [about, &finding.what, &finding.todo].map(output::printable);
            text.push_str("  ");
            output::push_words(&mut text, &format!("{} {about}: {what}", level(finding.level)), (2, 8));
            text.push_str("        ");
            output::push_words(&mut text, &todo, (8, 8));
        }
    }
    let heading = [
        "NODE",
        "STATE",
        "VERSION",
        "UP FOR",
        "RECORDS",
        "LOG ENTRIES",
        "LOG",
        "LAG",
        "DISK FREE",
        "BACKUP",
        "CERTIFICATE ENDS",
        "ADDRESS",
    ];
    section(&mut text, "nodes", &headed(&heading, cluster.nodes.iter().map(row)));
    let lags = lag_matrix(cluster);
    // A new cluster has no origins yet: a heading alone says nothing.
    section(
        &mut text,
        "operations that a node lacks, by origin",
        if lags.first().is_some_and(|heading| heading.len() > 1) { &lags } else { &[] },
    );
    text
}

fn row(node: &Node) -> Vec<String> {
    let lag = node.lags.as_ref().map(|lags| lags.values().fold(0_u64, |sum, lag| sum.saturating_add(*lag)));
    let of = |show: &dyn Fn(&Status) -> String| node.status.as_ref().map_or_else(|| UNKNOWN.to_owned(), show);
    let now = |status: &Status| status.now_unix_ms / 1000;
    vec![
        output::printable(&node.node),
        NodeState::of(node).painted(),
        of(&|status| output::printable(&status.version)),
        of(&|status| roughly(now(status).saturating_sub(status.started_unix))),
        of(&|status| status.records.to_string()),
        of(&|status| status.log_entries.to_string()),
        of(&|status| bytes(status.log_bytes)),
        number(lag),
        of(&|status| match status.storage.disk_total_bytes {
            0 if status.storage.in_ram => "in RAM".to_owned(),
            0 => UNKNOWN.to_owned(),
            total => {
                let free = status.storage.disk_free_bytes;
                format!("{} ({:.0} %)", bytes(free), 100.0 * free as f64 / total as f64)
            }
        }),
        of(&|status| match &status.backup {
            None => "not enabled".to_owned(),
            Some(backup) if backup.last_success_unix_ms == 0 => "none yet".to_owned(),
            Some(backup) => {
                format!("{} ago", roughly(now(status).saturating_sub(backup.last_success_unix_ms / 1000)))
            }
        }),
        of(&|status| match status.certificates.first() {
            None => UNKNOWN.to_owned(),
            Some(first) => format!("in {}", roughly(first.not_after_unix.saturating_sub(now(status)))),
        }),
        if node.address.is_empty() { "-".to_owned() } else { output::printable(&node.address) },
    ]
}

/// The state of a node.
#[derive(Clone, Copy)]
pub(crate) enum NodeState {
    Ready,
    Starting,
    Filling,
    NoWrites,
    Silent,
    Retired,
    Unknown,
}

impl NodeState {
    pub(crate) fn of(node: &Node) -> Self {
        match &node.status {
            _ if node.retired => Self::Retired,
            None if node.address.is_empty() => Self::Unknown,
            None => Self::Silent,
            Some(status) if !status.writes_refused.is_empty() => Self::NoWrites,
            Some(status) if status.resync.is_some() => Self::Filling,
            Some(status) if !status.ready => Self::Starting,
            Some(_) => Self::Ready,
        }
    }

    /// In a word, in the colour of a good or a bad value.
    pub(crate) fn painted(self) -> String {
        match self {
            Self::Ready => paint::good("ready"),
            Self::Starting => paint::warn("starting"),
            Self::Filling => paint::warn("filling"),
            Self::NoWrites => paint::bad("no writes"),
            Self::Silent => paint::bad("silent"),
            Self::Retired => paint::warn("retired"),
            Self::Unknown => paint::warn(UNKNOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use brock_core::proto::{self, cluster_response as wire, verdict};

    use super::*;
    use crate::failure::Exit;

    /// A node that is well, one that is dead.
    fn response(level: verdict::Level) -> proto::ClusterResponse {
        let status = proto::StatusResponse {
            node_id: "node-1".to_owned(),
            version: "1".to_owned(),
            ready: true,
            started_unix: 1_000,
            now_unix_ms: 1_060_000,
            records: 7,
            storage: Some(proto::Storage { in_ram: true, ..Default::default() }),
            ..Default::default()
        };
        let lags =
            wire::Lags { entries: HashMap::from([("node-1".to_owned(), 0), ("node-2".to_owned(), 3)]) };
        let well = wire::Node {
            node: "node-1".to_owned(),
            status: Some(status),
            lags: Some(lags),
            ..Default::default()
        };
        let dead = wire::Node {
            node: "node-2".to_owned(),
            address: "b:1".to_owned(),
            error: "refused\x07".to_owned(),
            ..Default::default()
        };
        let finding = proto::verdict::Finding {
            level: level.into(),
            node: "node-2".to_owned(),
            what: "it does not answer\x1b".to_owned(),
            todo: "look".to_owned(),
        };
        let verdict = proto::Verdict {
            level: level.into(),
            sentence: "1 of 2 nodes answer.".to_owned(),
            findings: vec![finding],
        };
        proto::ClusterResponse { nodes: vec![well, dead], verdict: Some(verdict) }
    }

    #[test]
    fn the_verdict_comes_first_and_what_is_not_known_is_no_number() {
        let text = text(&Cluster::try_from(response(verdict::Level::Act)).unwrap());
        assert!(
            text.starts_with("act: 1 of 2 nodes answer.\n\nfindings:\n  act node-2: it does not"),
            "{text}"
        );
        assert!(!text.contains(['\x1b', '\x07']), "{text}");
        let line = |text: &str, begin: &str| {
            let found = text.lines().find(|line| line.trim_start().starts_with(begin));
            found
                .unwrap_or_else(|| panic!("{begin} is not in\n{text}"))
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(line(&text, "node-1"), "node-1 ready 1 60 s 7 0 0 B 3 in RAM not enabled ? -");
        assert_eq!(line(&text, "node-2"), "node-2 silent ? ? ? ? ? ? ? ? ? b:1");
        let (_, matrix) = text.split_once("by origin:\n").unwrap();
        assert_eq!(line(matrix, "NODE"), "NODE node-1 node-2");
        assert_eq!(line(matrix, "node-1"), "node-1 0 3");
        assert_eq!(line(matrix, "node-2"), "node-2 ? ?");
    }

    #[test]
    fn the_exit_code_is_the_verdict() {
        let exit = |level| {
            outcome(&Cluster::try_from(response(level)).unwrap().verdict).map_err(|failure| failure.exit())
        };
        assert_eq!(exit(verdict::Level::Well), Ok(()));
        assert_eq!(exit(verdict::Level::Watch), Err(Exit::Warning));
        assert_eq!(exit(verdict::Level::Act), Err(Exit::Critical));
        assert_eq!((Exit::Warning as u8, Exit::Critical as u8), (8, 9));
        // An answer without a level must not read as a good one.
        let levelless =
            proto::ClusterResponse { verdict: Some(proto::Verdict::default()), nodes: Vec::new() };
        assert!(Cluster::try_from(levelless).unwrap_err().to_string().contains("level is missing"));
    }
}
