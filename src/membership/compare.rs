//! What the peers of the roster claim to have, compared with what is applied here.

use std::time::Duration;

use super::{
    peer::PeerKey,
    roster::{Roster, Row},
    status::{PeerReport, PeerStatus},
};
use brock_core::base::{
    id::{NodeId, Origin},
    vector::{Clock, Vector},
};

/// How far this node is behind its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncStatus {
    /// How many peers it has, members that DNS no longer lists included.
    pub peers: usize,
    /// The most operations that any one peer is believed to have, and this node lacks; `None` = no peer has said
    /// yet what it has.
    pub lag_entries: Option<u64>,
    /// The time since any peer was heard; `None` = none was heard yet.
    pub gap: Option<Duration>,
}

impl Roster {
    /// The reports of all peers, each with what it claims above what is applied here by now.
    pub fn compared(&self, applied: &Vector) -> Vec<PeerReport> {
        let rows = self.lock();
        let statuses = rows.values().filter_map(|row| row.status.as_ref());
        let compared = |status: &PeerStatus| PeerReport {
            lag: status.lag(applied),
            unsent: status.unsent().clone(),
            ..status.report().clone()
        };
        statuses.map(compared).collect()
    }

    /// How far the peers say that they have applied an origin, but for its donor and for its own node; `None` =
    /// there is no other peer.
    pub fn applied_by_others(
        &self,
        origin: &Origin,
        (key, donor): (&PeerKey, &NodeId),
        node_id: &NodeId,
    ) -> Option<Clock> {
        let rows = self.lock();
        let is_other = |(other, report): &(&PeerKey, &PeerReport)| {
            let id = report.node_id.as_ref();
            *other != key && id.is_none_or(|id| id != donor && id != node_id)
        };
        let reports = rows.iter().filter_map(|(key, row)| Some((key, row.status.as_ref()?.report())));
        reports
            .filter(is_other)
            .map(|(_, report)| report.heads.as_ref().map(|heads| heads.get(origin)).unwrap_or_default())
            .max()
    }

    /// How far any peer claims to have applied an origin.
    pub fn claimed(&self, origin: &Origin) -> Clock {
        let rows = self.lock();
        let reports = rows.values().filter_map(|row| row.status.as_ref()).map(PeerStatus::report);
        reports
            .filter_map(|report| report.heads.as_ref())
            .map(|heads| heads.get(origin))
            .max()
            .unwrap_or_default()
    }

    /// The peers that are up, have long claimed to have more of an origin's log than is applied here, and sent none.
    pub fn withholding(&self, origin: &Origin, applied: Clock) -> Vec<PeerKey> {
        let rows = self.lock();
        let claims = |row: &&Row| row.status.as_ref().is_some_and(|status| status.withholds(origin, applied));
        let statuses = rows.values().filter(claims).filter_map(|row| row.status.as_ref());
        statuses.map(|status| status.report().key.clone()).collect()
    }

    /// What any peer claims to have applied of the origins of one node.
    pub fn claimed_of(&self, node_id: &NodeId) -> Vector {
        let rows = self.lock();
        let reports = rows.values().filter_map(|row| row.status.as_ref()).map(PeerStatus::report);
        let heads = reports.filter_map(|report| report.heads.as_ref());
        heads.flat_map(Vector::iter).filter(|(origin, _)| origin.is_of(node_id)).collect()
    }

    /// How far this node, which has applied `applied`, is behind its peers.
    pub fn sync_status(&self, applied: &Vector) -> SyncStatus {
        let rows = self.lock();
        let statuses: Vec<_> = rows.values().filter_map(|row| row.status.as_ref()).collect();
        let lags = statuses.iter().filter_map(|status| status.lag(applied));
        let reports: Vec<_> = statuses.iter().map(|status| status.report()).collect();
        let asked: Vec<PeerKey> = rows.values().filter_map(Row::peer).map(|peer| peer.key.clone()).collect();
        let last_heard = reports.iter().filter_map(|report| report.last_heard).map(|heard| heard.at).max();
        SyncStatus {
            peers: reports.len() + self.members().elsewhere(&asked),
            lag_entries: lags.max(),
            gap: last_heard.map(|at| at.elapsed()),
        }
    }

    /// Weighs what a peer, which was just heard, claims above what is applied here.
    pub fn weigh(&self, key: &PeerKey, applied: &Vector) {
        let mut rows = self.lock();
        // Taken out, so that the others can be looked at.
        let Some(mut status) = rows.get_mut(key).and_then(|row| row.status.take()) else { return };
        let others = || rows.values().filter_map(|row| row.status.as_ref());
        status.weigh(applied, |origin, clock| others().any(|other| other.is_sending(origin, clock)));
        if let Some(row) = rows.get_mut(key) {
            row.status = Some(status);
        }
    }

    /// A peer has sent operations of an origin that this node lacked.
    pub fn sent(&self, key: &PeerKey, origin: &Origin, operations: u64) {
        self.update(key, |status| status.sent(origin, operations));
    }

    /// Whether this node refuses to be filled from a peer, because of what it does not believe there: that the peer
    /// sends nothing else says nothing about the peer then.
    pub fn refuse_records(&self, key: &PeerKey, are_refused: bool) {
        self.update(key, |status| status.refuse_records(are_refused));
    }

    /// This node takes nothing of an origin from a peer on the present stream.
    pub fn decline(&self, key: &PeerKey, origin: Origin) {
        self.update(key, |status| status.decline(origin));
    }
}
