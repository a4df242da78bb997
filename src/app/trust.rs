//! What is to be said of a node's trust in others: findings of the verdict on the cluster.

use brock_core::{
    base::{id::Origin, limits, trust::TrustMode},
    proto,
};

/// Each with what to do about it. What is not proven is in the way of nodes that believe only what is: a node whose
/// trust is centralized only counts it.
pub(super) fn findings(trust: &proto::Trust) -> Vec<(String, &'static str)> {
    let proto::Trust { mode, unproven_records, unbelieved_origins, forks, .. } = trust;
    let is_strict = *mode == TrustMode::Distributed.as_str();
    let mut findings = Vec::new();
    if *unproven_records > 0 && is_strict {
        findings.push((
            match unproven_records {
                1 => "1 of its records is not proven: it fills no empty node".to_owned(),
                many => format!("{many} of its records are not proven: they fill no empty node"),
            },
            "`node-admin trust migrate`: docs/guides/distributed-trust.md",
        ));
    }
    if *unbelieved_origins > 0 && is_strict {
        findings.push((
            match unbelieved_origins {
                1 => "1 origin is not believed here: what it has signed fills no empty node".to_owned(),
                many => format!("{many} origins are not believed here: what they have signed fills no empty node"),
            },
            "`node-admin origin list` at this node says why: keep a CA that was replaced as ca-history.pem, or vouch for the \
             origins of a certificate that was revoked, or close them: docs/guides/certificates.md",
        ));
    }
    // Its node goes on as another incarnation: to be looked into, and no emergency.
    for fork in forks.iter().filter(|fork| !fork.acknowledged).take(limits::FINDINGS_PER_NODE) {
        let Ok(origin) = Origin::try_from(fork.origin.as_ref()) else { continue };
        findings.push((
            format!("{origin} is frozen there: it has signed {}", fork.kind),
            "Its node's disk was copied, or its certificate was stolen: docs/guides/troubleshooting.md, A node has signed \
             two histories. After you have dealt with it: `node-admin origin ack ORIGIN`, with all nodes in --node-addresses: each \
             keeps its own note",
        ));
    }
    findings
}

/// Why a node is not ready, as far as its status says it, and what to do about it. Only the alarms that the fills raise
/// tell one that no peer can fill, and that would wait for ever.
pub(super) fn unready(status: &proto::StatusResponse) -> (&'static str, &'static str) {
    let is_of_fill = |alarm: &proto::Alarm| {
        let begins = ["this node could not be filled from", "this node takes nothing of a log"];
        begins.iter().any(|words| alarm.text.contains(words))
    };
    match status.alarms.iter().any(is_of_fill) {
        true => (
            "it is not ready: what its peers have is not proven there",
            "docs/guides/troubleshooting.md, Records are not proven; `node-admin alarms list` at this node says more",
        ),
        false => (
            "it is not ready yet",
            "Wait for its first catch-up; `/readyz` on its HTTP side says what is missing",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_nobody_can_fill_is_not_told_to_wait() {
        let mut status = proto::StatusResponse::default();
        assert_eq!(unready(&status).0, "it is not ready yet");
        let text = "this node could not be filled from the peer at b:1: 5 operations".to_owned();
        status.alarms.push(proto::Alarm { text, ..proto::Alarm::default() });
        assert!(unready(&status).0.contains("not proven"), "{:?}", unready(&status));
    }

    #[test]
    fn what_is_not_proven_is_a_finding_only_where_nothing_else_is_believed() {
        let fork = proto::ForkedOrigin {
            origin: [b"a".as_slice(), &[0; 27], &[0, 0, 0, 1]].concat().into(),
            kind: "two births".to_owned(),
            acknowledged: false,
        };
        let trust = |mode: TrustMode| proto::Trust {
            mode: mode.to_string(),
            unproven_records: 3,
            unborn_origins: 1,
            signs: true,
            unbelieved_origins: 2,
            forks: vec![fork.clone()],
            ..proto::Trust::default()
        };
        let all: Vec<_> =
            findings(&trust(TrustMode::Distributed)).into_iter().map(|(what, _)| what).collect();
        for (what, begin) in all.iter().zip(["3 of its records", "2 origins", "a/00000001 is frozen"]) {
            assert!(what.starts_with(begin), "{what}");
        }
        assert_eq!(all.len(), 3);
        assert_eq!(findings(&trust(TrustMode::Centralized)).len(), 1);
        let acknowledged = vec![proto::ForkedOrigin { acknowledged: true, ..fork.clone() }];
        assert!(findings(&proto::Trust { forks: acknowledged, ..trust(TrustMode::Centralized) }).is_empty());
    }
}
