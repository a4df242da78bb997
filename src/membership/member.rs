//! One member: what it is known to have applied, and the state of it that the store remembers.

use std::sync::Arc;

use super::{peer::PeerKey, receipt::Signed};
use brock_core::{
    base::{
        id::{Incarnation, NodeId, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{self, CodecError},
        record::UnixSeconds,
    },
    proto,
};

#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    /// `None` until the peer at `address` has answered.
    pub(super) node_id: Option<NodeId>,
    /// `None`: it only pulls from here.
    pub(super) address: Option<PeerKey>,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) last_seen: Option<UnixSeconds>,
    /// What it announced as a puller. Replaced by each hello: a node may have lost data.
    pub(super) pulled: Option<Vector>,
    /// What it said as a donor that it has applied. Replaced by each round.
    pub(super) heads: Option<Vector>,
    /// Set when it was retired: what this node had applied then.
    pub(super) retired: Option<Vector>,
    /// When it last said hello although it is retired.
    pub(super) returned_at: Option<UnixSeconds>,
    /// The streams by which it is pulling from this node now.
    pub(super) feeds: usize,
    /// Its certificate states no node id: what is known of the caller instead.
    pub(super) introduced_by: Option<String>,
    /// The newest acknowledgement that it has signed of this node's own log. Not remembered over a restart, which
    /// begins another log.
    pub(super) signed: Option<Arc<Signed>>,
    /// A peer from DNS that has not answered yet: not remembered over a restart.
    pub(super) is_passing: bool,
}

impl Member {
    /// What the store remembers. An address lasts if `node.join` has it, or may still have a name for it.
    pub(super) fn from_proto(
        state: proto::MemberState,
        join: &[PeerKey],
        discovers: bool,
    ) -> Result<Self, CodecError> {
        let vector =
            |vector: Option<proto::Vector>| vector.as_ref().map(codec::vector_from_proto).transpose();
        let node_id: Option<NodeId> = state.node_id.parse().ok();
        let stays =
            |address: &PeerKey| join.contains(address) || (discovers && (node_id.is_some() || state.retired));
        let address = (!state.address.is_empty()).then(|| PeerKey::from(state.address.as_str()));
        Ok(Self {
            address: address.filter(stays),
            node_id,
            last_seen: Some(state.last_seen_unix).filter(|seen| *seen != 0),
            introduced_by: Some(state.introduced_by).filter(|introducer| !introducer.is_empty()),
            // A damaged vector must not fail the start: the next hello replaces it.
            pulled: vector(state.applied).unwrap_or_default(),
            retired: match state.retired {
                true => Some(vector(state.retired_at)?.unwrap_or_default()),
                false => None,
            },
            ..Self::default()
        })
    }

    /// What the store remembers; of what the member has applied at most so many origins. The others count as not
    /// applied after a restart, until it says hello again.
    pub(super) fn to_proto(&self, origins: usize) -> proto::MemberState {
        let applied: Option<Vector> = self.applied().map(|applied| applied.iter().take(origins).collect());
        proto::MemberState {
            node_id: self.node_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            address: self.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            last_seen_unix: self.last_seen.unwrap_or_default(),
            applied: applied.as_ref().map(codec::vector_to_proto),
            retired_at: self.retired.as_ref().map(codec::vector_to_proto),
            retired: self.retired.is_some(),
            introduced_by: self.introduced_by.clone().unwrap_or_default(),
        }
    }

    pub(super) fn name(&self) -> String {
        let node_id = self.node_id.as_ref().map(ToString::to_string);
        node_id.or_else(|| self.address.as_ref().map(ToString::to_string)).unwrap_or_default()
    }

    pub(super) fn applied(&self) -> Option<Vector> {
        match (&self.pulled, &self.heads) {
            (Some(pulled), Some(heads)) => {
                let mut applied = pulled.clone();
                applied.join(heads);
                Some(applied)
            }
            (pulled, heads) => pulled.clone().or_else(|| heads.clone()),
        }
    }

    pub(super) fn has(&self, stamp: Stamp) -> bool {
        [&self.pulled, &self.heads].into_iter().flatten().any(|vector| vector.has(stamp))
    }

    pub(super) fn clock(&self, origin: &Origin) -> Clock {
        let said = [&self.pulled, &self.heads].into_iter().flatten();
        said.map(|vector| vector.get(origin)).max().unwrap_or_default()
    }

    /// Whether it is a retired node that has said hello lately, and so is being filled.
    pub(super) fn is_returning(&self, now: UnixSeconds) -> bool {
        let patience = i64::try_from(limits::RETURN_PATIENCE.as_secs()).unwrap_or(i64::MAX);
        let lately = self.returned_at.is_some_and(|at| now.saturating_sub(at) <= patience);
        self.retired.is_some() && lately
    }
}
