//! The cluster as a whole: what its nodes report about each other.

use super::{Level, Report};
use crate::{
    access::{self, CLUSTER_TIMEOUT},
    cli::Global,
    cluster::look,
    output,
};
use brock_client::view::{self, Cluster, Node};

/// Asks the first node that answers, which asks all others.
pub(super) async fn examine(report: &mut Report, global: &Global) {
    let client = match access::client(global, global.timeout.unwrap_or(CLUSTER_TIMEOUT)) {
        Ok(client) => client,
        Err(failure) => return report.fail("cluster", "", &failure.to_string(), "fix what is said above"),
    };
    match look(&client, false).await.outcome {
        Ok(cluster) => add_findings(report, &cluster),
        Err(failure) => {
            // Each node has its own lines.
            let what = failure.to_string().lines().next().unwrap_or_default().to_owned();
            report.fail("cluster", "", &format!("its state is unknown: {what}"), "fix what is said above");
        }
    }
}

fn add_findings(report: &mut Report, cluster: &Cluster) {
    for node in cluster.nodes.iter().filter(|node| !node.retired) {
        peers(report, node, &cluster.nodes);
        version(report, node);
        backups(report, node);
    }
    let findings = &cluster.verdict.findings;
    for finding in findings {
        let level = if finding.level == view::Level::Critical { Level::Fail } else { Level::Warn };
        report.add(level, "cluster", &finding.node, &finding.what, &finding.todo);
    }
    if findings.is_empty() {
        report.ok("cluster", "", &cluster.verdict.sentence);
    }
}

fn peers(report: &mut Report, node: &Node, nodes: &[Node]) {
    let Some(status) = &node.status else { return };
    for peer in &status.peers {
        let subject = format!("{} \u{2192} {}", node.node, peer.address);
        let apart = peer.clock_skew_seconds;
        if peer.up {
            report.ok(
                "peer",
                &subject,
                &format!("up, {}, clock {apart} s apart", output::count(peer.rounds, "round")),
            );
        } else if let Some(gone) = nodes
            .iter()
            .find(|other| other.retired && (other.node == peer.node_id || other.address == peer.address))
        {
            let fix = format!("remove {} from node.join of {}, and restart it", peer.address, node.node);
            report.note("peer", &subject, &format!("{} is retired", gone.node), &fix);
        } else if peer.last_error.is_empty() {
            report.note("peer", &subject, "not reached yet", "");
        } else {
            let fix = format!(
                "run `node-admin doctor --config FILE` on the machine of {}: it tests the connection as the node",
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
            &format!("it runs {theirs}, and the version of this tool is {own}"),
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
        // A problem of backups is a finding.
        Some(backup) if backup.last_error.is_empty() && backup.verify_error.is_empty() => {
            let what = format!("the newest: {}", output::moment(backup.last_success_unix_ms / 1000));
            report.note("backup", &node.node, &what, "");
        }
        Some(_) => {}
    }
}
