//! The cluster as a whole: what its nodes say of each other.

use super::{Level, Report, access};
use crate::{cli::Global, cluster::look, output};
use brock_client::view::{Cluster, Node};

/// Asks the first node that answers, which asks all others.
pub(super) async fn examine(report: &mut Report, global: &Global) {
    let access = match access(global) {
        Ok(access) => access,
        Err(failure) => return report.fail("cluster", "", &failure.to_string(), "mend what is said above"),
    };
    match look(&access, false).await.outcome {
        Ok(cluster) => judge(report, &cluster),
        Err(failure) => {
            // Each node has lines of its own.
            let what = failure.to_string().lines().next().unwrap_or_default().to_owned();
            report.fail(
                "cluster",
                "",
                &format!("nobody could say how it is: {what}"),
                "mend what is said above",
            );
        }
    }
}

fn judge(report: &mut Report, cluster: &Cluster) {
    for node in cluster.nodes.iter().filter(|node| !node.retired) {
        peers(report, node);
        version(report, node);
        backups(report, node);
    }
    let findings = &cluster.verdict.findings;
    for finding in findings {
        let level = if finding.level == "act" { Level::Fail } else { Level::Warn };
        report.add(level, "cluster", &finding.node, &finding.what, &finding.todo);
    }
    if findings.is_empty() {
        report.ok("cluster", "", &cluster.verdict.sentence);
    }
}

fn peers(report: &mut Report, node: &Node) {
    let Some(status) = &node.status else { return };
    for peer in &status.peers {
        let subject = format!("{} \u{2192} {}", node.node, peer.address);
        let apart = peer.clock_skew_seconds;
        if peer.up {
            report.ok("peer", &subject, &format!("up, {} rounds, clock {apart} s apart", peer.rounds));
        } else if peer.last_error.is_empty() {
            report.note("peer", &subject, "not reached yet", "");
        } else {
            let fix = format!(
                "run `node-admin doctor --config FILE` on the machine of {}: it goes that way as the node",
                node.node
            );
            report.fail("peer", &subject, &peer.last_error, &fix);
        }
    }
}

fn version(report: &mut Report, node: &Node) {
    let own = env!("CARGO_PKG_VERSION");
    let theirs = node.status.as_ref().map(|status| status.version.as_str());
    if let Some(theirs) = theirs.filter(|theirs| *theirs != own) {
        report.warn(
            "version",
            &node.node,
            &format!("it runs {theirs}, and this tool is of {own}"),
            "finish the upgrade, or use the node-admin of the nodes' version",
        );
    }
}

fn backups(report: &mut Report, node: &Node) {
    let Some(status) = &node.status else { return };
    match &status.backup {
        None => report.note(
            "backup",
            &node.node,
            "none are made",
            "node.backup.enabled and node.backup.bucket turn them on",
        ),
        // What is wrong with them is a finding.
        Some(backup) if backup.last_error.is_empty() && backup.verify_error.is_empty() => {
            let what = format!("the newest: {}", output::moment(backup.last_success_unix_ms / 1000));
            report.note("backup", &node.node, &what, "");
        }
        Some(_) => {}
    }
}
