//! What may be missing at a node, or is: fills that another member should have confirmed by now, and operations that
//! peers keep back.

use brock_core::{
    base::{id::Origin, limits, trust::TrustMode},
    domain::record::UnixSeconds,
    proto::{OriginHead, StatusResponse, Trust, cluster_response::Node},
};

/// What is wrong, and what to do about it.
pub(super) fn findings(
    node: &Node,
    status: &StatusResponse,
    nodes: &[Node],
    now: UnixSeconds,
) -> Vec<(String, &'static str)> {
    let Some(trust) = &status.trust else { return Vec::new() };
    [withheld(trust), unconfirmed(node, trust, nodes, now)].concat()
}

/// Of each log that peers keep back.
fn withheld(trust: &Trust) -> Vec<(String, &'static str)> {
    const TODO: &str = "Find out who controls those peers, and let it pull from other nodes too; \
                        docs/explanation/security.md, Completeness";
    let kept_back = trust.heads.iter().filter(|head| !head.withheld_by.is_empty());
    let what = |head: &OriginHead| {
        let origin =
            Origin::try_from(head.origin.as_ref()).map_or_else(|_| "?".to_owned(), |o| o.to_string());
        format!(
            "it lacks {} operations that {origin} has signed: {} claims to have them, and has sent none for {} s",
            head.lacking,
            head.withheld_by.join(", "),
            head.lacking_seconds
        )
    };
    kept_back.take(limits::FINDINGS_PER_NODE).map(|head| (what(head), TODO)).collect()
}

/// Of each fill of a node that is older than [`limits::FILL_CONFIRM_SECONDS`], if there is a third node that could have
/// confirmed it. With two nodes, or where the same donor alone has filled all others, no node can, and that is no
/// finding.
fn unconfirmed(node: &Node, trust: &Trust, nodes: &[Node], now: UnixSeconds) -> Vec<(String, &'static str)> {
    if trust.mode != TrustMode::Distributed.as_str() {
        return Vec::new();
    }
    let is_due = |since: UnixSeconds| now.saturating_sub(since) >= limits::FILL_CONFIRM_SECONDS;
    let is_confirmable = |donor: &str| {
        let others = nodes.iter().filter(|other| !other.retired && other.node != node.node);
        let sound = others.filter(|other| other.node != donor).filter_map(|other| other.status.as_ref());
        sound.filter_map(|status| status.trust.as_ref()).any(|trust| !is_filled_from(trust, donor))
    };
    let due = trust.unconfirmed_fills.iter().filter(|fill| is_due(fill.since_unix));
    let due = due.filter(|fill| is_confirmable(&fill.donor)).take(limits::FINDINGS_PER_NODE);
    let what = |donor: &str| {
        format!(
            "it was filled from {donor} alone, and no other member has confirmed that nothing was left out"
        )
    };
    const TODO: &str = "Let it reach a third node that has not lost its storage: `node-admin peers` at this node shows what \
                        is in the way; docs/explanation/security.md, Completeness";
    due.map(|fill| (what(&fill.donor), TODO)).collect()
}

fn is_filled_from(trust: &Trust, donor: &str) -> bool {
    trust.unconfirmed_fills.iter().any(|fill| fill.donor == donor)
}

#[cfg(test)]
mod tests {
    use brock_core::proto::UnconfirmedFill;

    use super::*;

    const NOW: UnixSeconds = 1_000_000;

    fn node(id: &str, mode: TrustMode, filled_from: Option<(&str, UnixSeconds)>) -> Node {
        let fill = |(donor, age): (&str, UnixSeconds)| UnconfirmedFill {
            donor: donor.to_owned(),
            since_unix: NOW - age,
        };
        let trust = Trust {
            mode: mode.to_string(),
            unconfirmed_fills: filled_from.map(fill).into_iter().collect(),
            ..Trust::default()
        };
        let status = StatusResponse { trust: Some(trust), ..StatusResponse::default() };
        Node { node: id.to_owned(), status: Some(status), ..Node::default() }
    }

    #[test]
    fn an_old_fill_is_a_finding_if_a_third_node_could_have_confirmed_it() {
        let distributed = TrustMode::Distributed;
        let found = |mode, age, others: &[Node]| {
            let filled = node("a", mode, Some(("b", age)));
            let all = [std::slice::from_ref(&filled), others].concat();
            findings(&filled, filled.status.as_ref().unwrap(), &all, NOW).len()
        };
        let (donor, third) = (node("b", distributed, None), node("c", distributed, None));
        let all = [donor.clone(), third.clone()];
        let old = limits::FILL_CONFIRM_SECONDS;
        assert_eq!(found(distributed, old, &all), 1);
        assert_eq!(found(distributed, old - 1, &all), 0, "it is young");
        assert_eq!(found(TrustMode::Centralized, old, &all), 0);
        assert_eq!(found(distributed, old, &all[..1]), 0, "two nodes");
        let filled_too = node("c", distributed, Some(("b", old)));
        assert_eq!(
            found(distributed, old, &[donor.clone(), filled_too]),
            0,
            "the same donor has filled both"
        );
        let retired = Node { retired: true, ..third.clone() };
        assert_eq!(found(distributed, old, &[donor.clone(), retired]), 0);
        let silent = Node { status: None, ..third };
        assert_eq!(found(distributed, old, &[donor, silent]), 0);
    }
}
