//! The verdict on a cluster: one sentence for people, the findings, and what to do about each.
//!
//! It is computed from the statuses alone, changes nothing and is not stored.

use std::collections::BTreeSet;

use super::{missing, trust};
use brock_core::{
    base::{duration, id::Incarnation, limits},
    domain::{codec, record::UnixSeconds},
    proto::{
        DuplicateId, PausedOrigin, Peer, StatusResponse, Verdict,
        cluster_response::Node,
        duplicate_id,
        verdict::{Finding, Level},
    },
};
use brock_net::task::TaskName;

/// What to do about two addresses that lead to nodes of one id, or to the same node.
const TWO_NODES_REMEDY: &str = "Let every address in node.join lead to another node, and give each node its own node.id, \
                                certificate and storage; how the writes of both are saved: \
                                docs/guides/troubleshooting.md, Two nodes run under one id";

/// What to do about a peer whose messages are refused for what they claim.
const CLAIMS_REMEDY: &str = "Do what it says. If it cannot be true, treat that node as taken over: \
                             docs/explanation/security.md";

/// Whether a peer's error is about what it claims, not about the connection to it: the errors of replication and of
/// resyncs have these words.
fn is_about_claims(error: &str) -> bool {
    ["broke the protocol", "are not proven here", "set tombstone-grace here too", "deleted and forgotten"]
        .iter()
        .any(|words| error.contains(words))
}

/// How the error of a node begins whose report is not shown.
pub const INVALID_REPORT: &str = "its report is not valid";

/// The verdict on these nodes; the node that was asked comes first, and knows these retired members by their ids and
/// addresses.
pub fn of(nodes: &[Node], retired: &BTreeSet<String>, now: UnixSeconds) -> Verdict {
    let mut findings = Vec::new();
    for node in nodes.iter().filter(|node| !node.retired) {
        match &node.status {
            None => findings.push(silent(node, nodes)),
            Some(status) => {
                let before = findings.len();
                let mut about = About { node: &node.node, findings: &mut findings };
                about.duplicates(status);
                about.storage(status);
                about.replication(node, status, nodes, retired);
                for (what, todo) in missing::findings(node, status, nodes, now) {
                    about.watch(what, todo);
                }
                about.certificates(status, now);
                about.revocations(status, nodes);
                about.backups(status, now);
                about.rest(status);
                about.tasks(status);
                cut(&mut findings, before, &node.node);
            }
        }
    }
    findings.extend(mixed_versions(nodes));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let level = findings.iter().map(Finding::level).max().unwrap_or(Level::Well);
    Verdict { level: level.into(), sentence: sentence(nodes, level, &findings), findings }
}

/// How many operations a node lacks that others have.
fn lag(node: &Node) -> u64 {
    node.lags.iter().flat_map(|lags| lags.entries.values()).fold(0, |sum, lag| sum.saturating_add(*lag))
}

/// Keeps the most severe findings about one node: what it reports is its own word.
fn cut(findings: &mut Vec<Finding>, before: usize, node: &str) {
    findings[before..].sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let more = findings.len().saturating_sub(before + limits::FINDINGS_PER_NODE);
    if more > 0 {
        findings.truncate(before + limits::FINDINGS_PER_NODE);
        let what = format!("{} are not listed", count(more as u64, "more finding"));
        findings.push(finding(Level::Watch, node, what, format!("`node-admin status` at {node} shows all")));
    }
}

fn sentence(nodes: &[Node], level: Level, findings: &[Finding]) -> String {
    let counted = nodes.iter().filter(|node| !node.retired);
    let (all, answering) = (counted.clone().count(), counted.filter(|node| node.status.is_some()).count());
    let answer = match (answering, all) {
        (1, 1) => "The only node answers".to_owned(),
        (answering, all) if answering == all => format!("All {all} nodes answer"),
        (answering, all) => format!("{answering} of {all} nodes answer"),
    };
    let Some(worst) = findings.first() else {
        return match all {
            1 => "The only node is well.".to_owned(),
            _ => match nodes.iter().map(lag).max().unwrap_or_default() {
                0 => format!("All {all} nodes are well, and each has what the others have."),
                lag => {
                    format!("All {all} nodes are well; none lacks more than {lag} of the others' operations.")
                }
            },
        };
    };
    let about = if worst.node.is_empty() { String::new() } else { format!("{}: ", worst.node) };
    let more = match findings.len() - 1 {
        0 => String::new(),
        1 => ", and one more finding".to_owned(),
        n => format!(", and {n} more findings"),
    };
    let calls = match level {
        Level::Act => "act now",
        Level::Watch | Level::Well | Level::Unspecified => "look into this",
    };
    format!("{answer}; {calls}: {about}{}{more}.", worst.what)
}

fn finding(level: Level, node: &str, what: impl Into<String>, todo: impl Into<String>) -> Finding {
    Finding { level: level.into(), node: node.to_owned(), what: what.into(), todo: todo.into() }
}

fn silent(node: &Node, nodes: &[Node]) -> Finding {
    let asked = nodes.first().map_or("this node", |own| own.node.as_str());
    if node.error.starts_with(INVALID_REPORT) {
        let todo = format!(
            "Check that {} runs the version of the others, and is the node that it should be. If it does, a person has \
             changed what it says: revoke its certificate (docs/guides/certificates.md)",
            node.node
        );
        return finding(Level::Act, &node.node, node.error.clone(), todo);
    }
    // It was added there only, so far: nothing is broken.
    if node.pulls && node.address.is_empty() {
        let what = format!("it runs and pulls from {asked}, which has no address of it");
        let todo = format!(
            "Add its address to node.join of {asked} and the other nodes, and restart them one by one \
             (docs/guides/add-a-node.md)"
        );
        return finding(Level::Watch, &node.node, what, todo);
    }
    if node.pulls {
        let what = format!(
            "it runs and pulls from {asked}, but does not answer at {}: {}",
            node.address, node.error
        );
        let todo = format!(
            "If its address has changed: correct it in node.join of {asked} and the other nodes, and restart them one by \
             one (docs/guides/change-an-address.md). Otherwise `node-admin doctor` shows where the connection fails"
        );
        return finding(Level::Act, &node.node, what, todo);
    }
    if node.address.is_empty() {
        let todo = format!(
            "Add its address to node.join of {}, or, if it never returns, `node-admin member retire {}`",
            asked, node.node
        );
        return finding(Level::Watch, &node.node, "it could not be asked from here", todo);
    }
    let what = format!("it does not answer at {}: {}", node.address, node.error);
    let (address, node_id) = (&node.address, &node.node);
    let todo = match &node.error {
        // It runs, and must not be given up.
        error if error.contains("another level of wire encryption") => format!(
            "`node-admin peers` at {asked} shows what each end has. Set node.wire-encryption to the same on both, or \
             node.wire-encryption-peers for this connection at each: docs/explanation/security.md, Levels of wire encryption"
        ),
        error if error.contains("has been revoked") && !error.contains("refused our certificate") => format!(
            "If that was meant, give {node_id} a new certificate (`brock cert node … --overwrite`), or, if it never returns, \
             `node-admin member retire {node_id}`"
        ),
        _ => format!(
            "Check whether it runs (`brock health` there, its log), and whether {address} can be reached; `node-admin doctor \
             --node-addresses {address}` shows where the connection fails. If it never returns: `node-admin member retire \
             {node_id}`"
        ),
    };
    finding(Level::Act, &node.node, what, todo)
}

fn mixed_versions(nodes: &[Node]) -> Option<Finding> {
    let statuses = nodes.iter().filter_map(|node| node.status.as_ref());
    let versions: BTreeSet<&str> = statuses.map(|status| status.version.as_str()).collect();
    let listed: Vec<&str> = versions.iter().copied().collect();
    (versions.len() > 1).then(|| {
        let what = format!("the nodes run different versions: {}", listed.join(", "));
        finding(Level::Watch, "", what, "Finish the upgrade: docs/guides/upgrade.md")
    })
}

struct About<'a> {
    node: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl About<'_> {
    fn act(&mut self, what: impl Into<String>, todo: impl Into<String>) {
        self.findings.push(finding(Level::Act, self.node, what, todo));
    }

    fn watch(&mut self, what: impl Into<String>, todo: impl Into<String>) {
        self.findings.push(finding(Level::Watch, self.node, what, todo));
    }

    fn duplicates(&mut self, status: &StatusResponse) {
        for DuplicateId { node_id, processes } in &status.duplicate_ids {
            let process = |process: &duplicate_id::Process| {
                let incarnation = Incarnation(process.incarnation);
                format!("incarnation {incarnation} ({})", process.places.join(", "))
            };
            let processes: Vec<String> = processes.iter().map(process).collect();
            self.act(
                format!("it sees {} nodes run as {node_id}: {}", processes.len(), processes.join(", and ")),
                TWO_NODES_REMEDY,
            );
        }
    }

    fn storage(&mut self, status: &StatusResponse) {
        if !status.writes_refused.is_empty() {
            self.act(
                format!("it refuses writes: {}", status.writes_refused),
                "If its disk is full: free space (or inodes, if it says so) on the disk of node.path, or enlarge it; writes then \
                 continue by themselves. Otherwise read the node's log, repair the disk or the directory, and restart the node",
            );
        }
        let disk = status.storage.unwrap_or_default();
        if disk.disk_total_bytes > 0 {
            let percent = 100.0 * disk.disk_free_bytes as f64 / disk.disk_total_bytes as f64;
            let what = format!("its disk has {percent:.0} % left");
            let todo = "Enlarge the disk of node.path, or free space on it";
            // A few percent of a large disk are still enough.
            match (percent, disk.disk_free_bytes) {
                (..5.0, ..limits::DISK_ACT_BYTES) => self.act(what, todo),
                (..10.0, ..limits::DISK_WATCH_BYTES) => self.watch(what, todo),
                _ => {}
            }
        }
    }

    fn replication(
        &mut self,
        node: &Node,
        status: &StatusResponse,
        nodes: &[Node],
        retired: &BTreeSet<String>,
    ) {
        // A node that refuses writes has a finding of its own.
        if !status.ready && status.writes_refused.is_empty() {
            let (what, todo) = trust::unready(status);
            self.watch(what, todo);
        }
        if let Some(resync) = &status.resync {
            self.watch(
                format!(
                    "it is being filled from {}: {} of about {} records",
                    resync.node, resync.records_joined, resync.records_expected
                ),
                "Wait until that is complete",
            );
        }
        let lag = lag(node);
        if lag > limits::LAG_NOTABLE_ENTRIES {
            self.watch(
                format!("it lacks {lag} operations that other nodes have"),
                "If it does not catch up: `node-admin peers` at this node shows why",
            );
        }
        for (what, todo) in status.trust.iter().flat_map(trust::findings) {
            self.watch(what, todo);
        }
        for paused in &status.paused {
            self.paused(paused);
        }
        // A peer that has exchanged its certificates ends its streams, and answers again in the next round.
        let has_just_ended = |peer: &&Peer| {
            let seconds = (status.now_unix_ms / 1000).saturating_sub(peer.since_unix);
            peer.last_error == "the peer ended the stream" && seconds < limits::ENDED_NOTABLE_SECONDS
        };
        for peer in status.peers.iter().filter(|peer| !has_just_ended(peer)) {
            self.peer(peer, nodes, retired);
        }
    }

    fn paused(&mut self, paused: &PausedOrigin) {
        let PausedOrigin { node_id, by, .. } = paused;
        self.act(
            format!(
                "it has paused {node_id}, which has invalidated, unpublished or deleted more than node.destruction-limit \
                 within a minute (brought by {by})"
            ),
            format!(
                "If operators have done that on purpose: `node-admin origin resume {node_id}`, with all nodes in \
                 --node-addresses. Otherwise revoke its certificate: docs/guides/troubleshooting.md, The log of a node is \
                 paused"
            ),
        );
    }

    fn peer(&mut self, peer: &Peer, nodes: &[Node], retired: &BTreeSet<String>) {
        let name = if peer.node_id.is_empty() { &peer.address } else { &peer.node_id };
        let is_it = |node: &&Node| node.node == *name || node.address == peer.address;
        let other = nodes.iter().find(is_it);
        if other.is_some_and(|node| node.retired) {
            return;
        }
        if !peer.up && [name, &peer.address].into_iter().any(|name| retired.contains(name)) {
            self.watch(
                format!("it still tries to pull from {name} ({}), which is retired", peer.address),
                format!("Remove {} from node.join of {}, and restart it", peer.address, self.node),
            );
            return;
        }
        // A peer that does not answer this node either has a finding of its own, unless it breaks the protocol.
        let is_alone = other.is_none_or(|node| node.status.is_some()) || is_about_claims(&peer.last_error);
        if !peer.up && !peer.last_error.is_empty() && is_alone {
            // The connection is in order; which node answers there is not.
            let todo = match peer.refused {
                true => TWO_NODES_REMEDY.to_owned(),
                // The connection is in order, and the error says what to do.
                false if is_about_claims(&peer.last_error) => CLAIMS_REMEDY.to_owned(),
                false => format!(
                    "Repair the connection from {} to {}: `node-admin doctor`, run there, shows where it fails",
                    self.node, peer.address
                ),
            };
            self.act(format!("it cannot pull from {name} ({}): {}", peer.address, peer.last_error), todo);
        }
        if !peer.group.is_empty() && !peer.group.contains("MLKEM") {
            self.watch(
                format!("its connection with {name} has a classical key exchange ({}): a recording of it can be decrypted \
                         once there are large quantum computers", peer.group),
                "Something between them, or an old TLS library, has removed the post-quantum offer; set \
                 node.wire-encryption to 192 on both, so that nothing less is accepted",
            );
        }
        if peer.up && peer.unsent_origins > 0 {
            let of = match peer.unsent.first().map(codec::stamp_from_proto) {
                Some(Ok(stamp)) => format!(", such as {} of {}", stamp.clock, stamp.origin),
                _ => String::new(),
            };
            self.watch(
                format!(
                    "{name} claims operations of {} that it does not send{of}",
                    count(peer.unsent_origins, "origin")
                ),
                format!("Read the log of {name}; if it is not to be trusted, revoke its certificate"),
            );
        }
        let apart = peer.clock_skew_seconds.unsigned_abs();
        if peer.up && apart > limits::CLOCK_SKEW_NOTABLE_SECONDS {
            let what = format!("its wall clock and that of {name} are {apart} s apart");
            let todo = "Synchronise the clocks (chrony, systemd-timesyncd)";
            match apart > limits::CLOCK_SKEW_MAX_SECONDS {
                true => self.act(format!("{what}: nothing that expires is removed"), todo),
                false => self.watch(what, todo),
            }
        }
    }

    fn certificates(&mut self, status: &StatusResponse, now: UnixSeconds) {
        for certificate in &status.certificates {
            let left = certificate.not_after_unix.saturating_sub(now);
            // Short-lived certificates are rotated often, and in time.
            let quarter = certificate.lifetime_seconds / 4;
            if left >= limits::CERTIFICATE_WARN_SECONDS.min(quarter) {
                continue;
            }
            let what = match u64::try_from(left) {
                Err(_) | Ok(0) => format!("{} has expired", certificate.file),
                Ok(left) => format!("{} expires in {}", certificate.file, roughly(left)),
            };
            let todo = "Replace the file by a new certificate (`brock cert`); the node uses it within seconds, without a restart";
            match left < limits::CERTIFICATE_ACT_SECONDS.min(quarter / 2) {
                true => self.act(what, todo),
                false => self.watch(what, todo),
            }
        }
    }

    /// A node that lacks the newest revocation list still accepts certificates that are revoked.
    fn revocations(&mut self, status: &StatusResponse, nodes: &[Node]) {
        for known in &status.authorities {
            let statuses = nodes.iter().filter_map(|node| Some((&node.node, node.status.as_ref()?)));
            let others =
                statuses.flat_map(|(node, status)| status.authorities.iter().map(move |ca| (node, ca)));
            let most = others.filter(|(_, ca)| ca.key == known.key).max_by_key(|(_, ca)| ca.revoked);
            if let Some((other, most)) = most.filter(|(_, most)| known.revoked < most.revoked) {
                let what = format!(
                    "it knows of {} of {}, and {other} of {}: it still accepts the others",
                    count(known.revoked, "revoked certificate"),
                    known.name,
                    most.revoked
                );
                let todo = "Copy the newest list of that CA into its certificates directory (as ca-history.crl, if the CA is in \
                            ca-history.pem), or into node.crl-dir; the node uses it within seconds";
                self.act(what, todo);
            }
        }
    }

    fn backups(&mut self, status: &StatusResponse, now: UnixSeconds) {
        let Some(backup) = &status.backup else { return };
        let todo = "`node-admin backup list` and the node's log say more; docs/guides/troubleshooting.md, Backups fail";
        if !backup.verify_error.is_empty() {
            self.act(format!("its newest backup is damaged: {}", backup.verify_error), todo);
        }
        if !backup.last_error.is_empty() {
            self.watch(format!("its last backup failed: {}", backup.last_error), todo);
        }
        let age = now.saturating_sub(backup.last_success_unix_ms / 1000);
        let up_for = now.saturating_sub(status.started_unix);
        // Four intervals are what the alert BrockBackupStale waits for, too.
        let four = i64::try_from(backup.interval_seconds.saturating_mul(4)).unwrap_or(i64::MAX);
        let stale = limits::BACKUP_STALE_SECONDS.max(four);
        match backup.last_success_unix_ms {
            0 if up_for > stale => self.act("it has never made a backup", todo),
            0 => {}
            _ if age > stale => {
                self.watch(format!("its newest backup is {} old", roughly(age.unsigned_abs())), todo);
            }
            _ => {}
        }
    }

    fn rest(&mut self, status: &StatusResponse) {
        if status.descriptors_limit > 0 && status.connections_max < limits::CONNECTIONS_MAX as u64 {
            self.watch(
                format!(
                    "its limit of open files is {}: it accepts at most {} connections",
                    status.descriptors_limit, status.connections_max
                ),
                "Raise the limit (LimitNOFILE= in a systemd unit, `--ulimit nofile=` of a container) and restart the \
                 node: docs/guides/capacity.md",
            );
        }
        if let Some(alarm) = status.alarms.last() {
            let what = match status.alarms.len() {
                1 => format!("it has an alarm: {}", alarm.text),
                n => format!("it has {n} alarms, the newest: {}", alarm.text),
            };
            self.watch(
                what,
                "`node-admin alarms list` at this node shows them; after you have dealt with them: `node-admin alarms clear`",
            );
        }
        if status.quarantined > 0 {
            self.watch(
                match status.quarantined {
                    1 => "1 replicated entry could not be applied".to_owned(),
                    entries => format!("{entries} replicated entries could not be applied"),
                },
                "`node-admin quarantine list` shows why; retry them once the cause is gone",
            );
        }
        match status.conflicts.saturating_sub(status.conflicts_acknowledged) {
            0 => {}
            lost => {
                self.watch(
                    format!("{} lost against another one of the same key hash", count(lost, "payload")),
                    "`node-admin conflicts list` shows them; their creators should use another key. After you have \
                     dealt with them: `node-admin conflicts ack KEY`, or `--all`, with all nodes in \
                     --node-addresses: each node keeps its own note",
                );
            }
        }
    }

    fn tasks(&mut self, status: &StatusResponse) {
        for task in status.tasks.iter().filter(|task| !task.last_error.is_empty()) {
            match TaskName::parse(&task.name) {
                // The errors of these have findings of their own.
                Some(TaskName::Puller(_) | TaskName::Backups) => {}
                Some(TaskName::Certificates) => self.act(
                    format!("it keeps the certificates and revocation lists that it has: {}", task.last_error),
                    "Repair the certificates directory, or node.crl-dir; the node reads both every two seconds",
                ),
                _ => self.watch(
                    format!("its {} has an error: {}", task.name, task.last_error),
                    "Its log says more; docs/guides/troubleshooting.md",
                ),
            }
        }
    }
}

/// `1 payload`, `2 payloads`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A time in its largest unit only.
fn roughly(seconds: u64) -> String {
    let units = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    match units.iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => duration::format(std::time::Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::proto;

    const NOW: i64 = 1_800_000_000;

    fn of(nodes: &[Node], now: UnixSeconds) -> Verdict {
        super::of(nodes, &BTreeSet::new(), now)
    }

    fn node(name: &str) -> Node {
        let status = StatusResponse {
            node_id: name.to_owned(),
            version: "1".to_owned(),
            ready: true,
            started_unix: NOW - 60,
            ..StatusResponse::default()
        };
        Node { node: name.to_owned(), address: format!("{name}:1"), status: Some(status), ..Node::default() }
    }

    fn with(name: &str, change: impl FnOnce(&mut StatusResponse)) -> Node {
        let mut node = node(name);
        change(node.status.as_mut().unwrap());
        node
    }

    fn dead(name: &str) -> Node {
        Node { status: None, error: "refused".to_owned(), ..node(name) }
    }

    #[test]
    fn a_stream_that_was_ended_a_moment_ago_is_no_finding() {
        for (seconds, findings) in [(3, 0), (11, 1)] {
            let a = with("a", |status| {
                status.now_unix_ms = NOW * 1000;
                status.peers.push(Peer {
                    address: "b:1".into(),
                    last_error: "the peer ended the stream".to_owned(),
                    since_unix: NOW - seconds,
                    ..Peer::default()
                });
            });
            assert_eq!(of(&[a, node("b")], NOW).findings.len(), findings, "{seconds} s");
        }
    }

    #[test]
    fn a_node_that_runs_and_is_refused_is_not_to_be_retired() {
        for (error, part) in [
            (
                "it requires another level of wire encryption (node.wire-encryption)",
                "`node-admin peers` at a ",
            ),
            ("the other end's certificate has been revoked", "give b a new certificate"),
            ("refused", "doctor --node-addresses b:1`"),
        ] {
            let verdict = of(&[node("a"), Node { error: error.to_owned(), ..dead("b") }], NOW);
            assert!(verdict.findings[0].todo.contains(part), "{}", verdict.findings[0].todo);
        }
    }

    #[test]
    fn a_cluster_is_well_when_there_is_nothing_to_say() {
        let verdict = of(&[node("a"), node("b")], NOW);
        assert_eq!((verdict.level(), verdict.findings.len()), (Level::Well, 0));
        assert_eq!(verdict.sentence, "All 2 nodes are well, and each has what the others have.");
        assert_eq!(of(&[node("a")], NOW).sentence, "The only node is well.");
    }

    #[test]
    fn a_node_that_does_not_answer_is_named_once_and_a_retired_one_not_at_all() {
        let pulls = |status: &mut StatusResponse| {
            status.peers.push(Peer {
                address: "c:1".to_owned(),
                node_id: "c".to_owned(),
                last_error: "refused".to_owned(),
                ..Peer::default()
            });
        };
        let verdict = of(&[with("a", pulls), node("b"), dead("c")], NOW);
        assert_eq!(verdict.level(), Level::Act);
        assert_eq!(verdict.findings.len(), 1, "{verdict:?}");
        assert_eq!(verdict.sentence, "2 of 3 nodes answer; act now: c: it does not answer at c:1: refused.");
        let retired = Node { retired: true, ..dead("c") };
        assert_eq!(of(&[with("a", pulls), retired], NOW).level(), Level::Well);
        // The node that was asked has retired it and no longer joins it; another one still does.
        let retired = BTreeSet::from(["c".to_owned(), "c:1".to_owned()]);
        let verdict = super::of(&[node("b"), with("a", pulls)], &retired, NOW);
        let [found] = verdict.findings.as_slice() else { panic!("{verdict:?}") };
        assert_eq!((found.level(), found.node.as_str()), (Level::Watch, "a"), "{found:?}");
        assert_eq!(found.todo, "Remove c:1 from node.join of a, and restart it");
        // A broken connection between two healthy nodes is a finding of the node that dials.
        let verdict = of(&[with("a", pulls), node("c")], NOW);
        assert_eq!((verdict.findings[0].node.as_str(), verdict.findings.len()), ("a", 1), "{verdict:?}");
    }

    #[test]
    fn what_is_wrong_with_a_node_is_found_and_says_what_to_do() {
        use proto::{BackupStatus, Certificate, Storage, Task};
        type Change = fn(&mut StatusResponse);
        let cases: [(Change, Level, &str); 20] = [
            (|s| s.writes_refused = "disk full".into(), Level::Act, "disk full"),
            (
                |s| {
                    s.storage =
                        Some(Storage { disk_free_bytes: 4, disk_total_bytes: 100, ..Storage::default() });
                },
                Level::Act,
                "4 % left",
            ),
            (
                |s| {
                    s.storage =
                        Some(Storage { disk_free_bytes: 9, disk_total_bytes: 100, ..Storage::default() });
                },
                Level::Watch,
                "9 % left",
            ),
            (
                |s| {
                    s.storage = Some(Storage {
                        disk_free_bytes: 2 << 30,
                        disk_total_bytes: 50 << 30,
                        ..Storage::default()
                    });
                },
                Level::Watch,
                "4 % left",
            ),
            (|s| s.ready = false, Level::Watch, "not ready"),
            (
                |s| s.resync = Some(proto::Resync { node: "b".into(), ..proto::Resync::default() }),
                Level::Watch,
                "filled from b",
            ),
            (
                |s| {
                    s.duplicate_ids.push(DuplicateId {
                        node_id: "c".into(),
                        processes: [("at c:1", 1), ("calling from 10.0.0.7", 2)]
                            .map(|(place, incarnation)| duplicate_id::Process {
                                incarnation,
                                places: vec![place.into()],
                            })
                            .into(),
                    });
                },
                Level::Act,
                "it sees 2 nodes run as c: incarnation 00000001 (at c:1), and incarnation 00000002 (calling from 10.0.0.7)",
            ),
            (
                |s| {
                    s.peers.push(Peer {
                        address: "b:1".into(),
                        up: true,
                        clock_skew_seconds: -6,
                        ..Peer::default()
                    });
                },
                Level::Watch,
                "6 s apart",
            ),
            (
                |s| {
                    s.peers.push(Peer {
                        address: "b:1".into(),
                        up: true,
                        clock_skew_seconds: 301,
                        ..Peer::default()
                    });
                },
                Level::Act,
                "301 s apart",
            ),
            (
                |s| {
                    s.certificates.push(Certificate {
                        file: "node.crt".into(),
                        not_after_unix: NOW + 20 * 86_400,
                        lifetime_seconds: 365 * 86_400,
                    });
                },
                Level::Watch,
                "expires in 20 days",
            ),
            (
                |s| {
                    s.certificates.push(Certificate {
                        file: "node.crt".into(),
                        not_after_unix: NOW - 1,
                        lifetime_seconds: 86_400,
                    });
                },
                Level::Act,
                "has expired",
            ),
            (
                |s| {
                    s.backup = Some(BackupStatus {
                        last_success_unix_ms: (NOW - 27 * 3600) * 1000,
                        ..BackupStatus::default()
                    });
                },
                Level::Watch,
                "27 hours old",
            ),
            (
                |s| {
                    s.backup = Some(BackupStatus {
                        last_success_unix_ms: NOW * 1000,
                        verify_error: "hash".into(),
                        ..BackupStatus::default()
                    });
                },
                Level::Act,
                "damaged",
            ),
            (
                |s| {
                    s.alarms = ["old", "new"]
                        .map(|text| proto::Alarm { at_unix: 1, text: text.into(), ..Default::default() })
                        .into();
                },
                Level::Watch,
                "2 alarms, the newest: new",
            ),
            (
                |s| (s.descriptors_limit, s.connections_max) = (1024, 448),
                Level::Watch,
                "at most 448 connections",
            ),
            (|s| s.quarantined = 3, Level::Watch, "3 replicated entries"),
            (
                |s| {
                    let last_error = "it has collected: set tombstone-grace here too".into();
                    s.peers.push(Peer { address: "c:1".into(), last_error, ..Peer::default() });
                },
                Level::Act,
                "set tombstone-grace here too",
            ),
            (|s| s.conflicts = 2, Level::Watch, "2 payloads lost"),
            (
                |s| s.tasks.push(Task { name: "sweeper".into(), last_error: "io".into(), ..Task::default() }),
                Level::Watch,
                "its sweeper has an error: io",
            ),
            (
                |s| {
                    let last_error = "the directory has not answered".into();
                    s.tasks.push(Task { name: "certificates".into(), last_error, ..Task::default() });
                },
                Level::Act,
                "it keeps the certificates and revocation lists that it has: the directory has not answered",
            ),
        ];
        for (change, level, part) in cases {
            let verdict = of(&[node("a"), with("b", change)], NOW);
            let [finding] = verdict.findings.as_slice() else { panic!("{part}: {verdict:?}") };
            assert_eq!((finding.level(), verdict.level()), (level, level), "{part}");
            assert!(finding.what.contains(part) && !finding.todo.is_empty(), "{part}: {finding:?}");
            assert!(verdict.sentence.contains(part), "{}", verdict.sentence);
        }
    }

    #[test]
    fn what_is_usual_is_no_finding() {
        use proto::{BackupStatus, Certificate, Task};
        let mut usual = with("b", |s| {
            s.certificates.push(Certificate {
                file: "short.crt".into(),
                not_after_unix: NOW + 20_000,
                lifetime_seconds: 40_000,
            });
            // With such an interval, a quiet node makes no backup for days.
            s.backup = Some(BackupStatus {
                last_success_unix_ms: (NOW - 90 * 3600) * 1000,
                interval_seconds: 24 * 3600,
                ..BackupStatus::default()
            });
            s.tasks.push(Task { name: "puller c:1".into(), last_error: "refused".into(), ..Task::default() });
        });
        let entries = [("a".to_owned(), limits::LAG_NOTABLE_ENTRIES)].into();
        usual.lags = Some(proto::cluster_response::Lags { entries });
        let verdict = of(&[node("a"), usual.clone()], NOW);
        assert_eq!(verdict.findings, []);
        assert_eq!(
            verdict.sentence,
            "All 2 nodes are well; none lacks more than 1000 of the others' operations."
        );
        let entries = [("a".to_owned(), limits::LAG_NOTABLE_ENTRIES + 1)].into();
        usual.lags = Some(proto::cluster_response::Lags { entries });
        assert!(of(&[node("a"), usual], NOW).sentence.contains("it lacks 1001 operations"));
    }

    #[test]
    fn the_worst_comes_first_and_the_rest_is_counted() {
        let old = with("b", |s| s.version = "0".to_owned());
        let verdict = of(&[node("a"), old, dead("c")], NOW);
        assert_eq!(verdict.findings[0].node, "c");
        assert!(verdict.sentence.ends_with("refused, and one more finding."), "{}", verdict.sentence);
        assert!(verdict.findings[1].what.contains("0, 1"), "{verdict:?}");
    }

    #[test]
    fn a_node_that_pulls_but_cannot_be_asked_has_moved_and_is_not_to_be_retired() {
        let moved = Node { pulls: true, ..dead("b") };
        let verdict = of(&[node("a"), moved, dead("c")], NOW);
        let [first, second] = verdict.findings.as_slice() else { panic!("{verdict:?}") };
        assert_eq!(first.what, "it runs and pulls from a, but does not answer at b:1: refused");
        assert!(first.todo.contains("node.join") && !first.todo.contains("retire"), "{first:?}");
        assert!(second.todo.contains("member retire c"), "{second:?}");
    }

    #[test]
    fn a_new_node_that_pulls_and_has_no_address_here_is_to_be_added() {
        let new = Node { pulls: true, address: String::new(), ..dead("b") };
        let verdict = of(&[node("a"), new], NOW);
        let [found] = verdict.findings.as_slice() else { panic!("{verdict:?}") };
        assert_eq!(found.level(), Level::Watch, "{found:?}");
        assert!(found.todo.starts_with("Add its address to node.join of a"), "{found:?}");
        assert!(found.todo.contains("add-a-node.md") && !found.todo.contains("retire"), "{found:?}");
    }

    #[test]
    fn acknowledged_conflicts_are_no_finding() {
        let conflicts =
            |acknowledged| with("b", |s| (s.conflicts, s.conflicts_acknowledged) = (2, acknowledged));
        assert_eq!(of(&[node("a"), conflicts(2)], NOW).findings, []);
        let verdict = of(&[node("a"), conflicts(1)], NOW);
        assert!(verdict.findings[0].what.starts_with("1 payload lost"));
        assert!(verdict.findings[0].todo.contains("each node keeps its own note"), "{verdict:?}");
    }

    #[test]
    fn a_node_without_the_newest_revocation_list_is_named() {
        let knows = |key: &str, revoked| proto::Authority {
            key: key.to_owned(),
            name: "CN=Brock CA".to_owned(),
            revoked,
            absent: false,
        };
        let trusts =
            |name, authorities: &[proto::Authority]| with(name, |s| s.authorities = authorities.to_vec());
        let verdict = of(&[trusts("a", &[knows("1", 2)]), trusts("b", &[knows("1", 1)]), dead("c")], NOW);
        let found: Vec<_> = verdict.findings.iter().map(|finding| finding.node.as_str()).collect();
        assert_eq!(found, ["b", "c"], "{verdict:?}");
        assert!(verdict.findings[0].what.contains("1 revoked certificate of CN=Brock CA, and a of 2"));
        assert_eq!(verdict.findings[0].level(), Level::Act);
        // While one CA replaces another, not all nodes trust both; and an older version reports no CA.
        let older = with("c", |_| {});
        let verdict =
            of(&[trusts("a", &[knows("1", 2), knows("2", 0)]), trusts("b", &[knows("2", 0)]), older], NOW);
        assert_eq!(verdict.findings, []);
    }
}
