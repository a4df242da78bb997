//! One member: who it is, and what it is known to have applied.

use crate::{
    domain::{codec, record::UnixSeconds},
    ground::{
        clock::{Clock, Stamp, Vector},
        id::{Incarnation, NodeId, Origin},
        limits,
    },
    proto,
};

#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    /// `None` until an address of `node.join` has answered.
    pub(super) node_id: Option<NodeId>,
    /// `None` if it is not in `node.join`.
    pub(super) address: Option<String>,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) last_seen: UnixSeconds,
    /// What its pulls announced. Replaced by each hello: a node may have lost data.
    pub(super) pulled: Option<Vector>,
    /// What it said as a donor that it has applied. Replaced by each round.
    pub(super) heads: Option<Vector>,
    /// Set when it was retired: what this node had applied then.
    pub(super) retired: Option<Vector>,
    /// When it last said hello although it is retired.
    pub(super) returned_at: Option<UnixSeconds>,
    /// Streams by which it follows this node now.
    pub(super) feeds: usize,
    /// Without a name, and not in `node.join` as it is: nothing to remember over a restart.
    pub(super) is_passing: bool,
}

impl Member {
    pub(super) fn name(&self) -> String {
        let named = self.node_id.as_ref().map(ToString::to_string);
        named.or_else(|| self.address.clone()).unwrap_or_default()
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

    pub(super) fn to_proto(&self) -> proto::MemberState {
        proto::MemberState {
            node_id: self.node_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            address: self.address.clone().unwrap_or_default(),
            last_seen_unix: self.last_seen,
            applied: self.applied().as_ref().map(codec::vector_to_proto),
            retired_at: self.retired.as_ref().map(codec::vector_to_proto),
            retired: self.retired.is_some(),
        }
    }
}

/// A retired node that has said hello lately: it is being filled.
pub(super) fn is_returning(member: &Member, now: UnixSeconds) -> bool {
    let patience = i64::try_from(limits::RETURN_PATIENCE.as_secs()).unwrap_or(i64::MAX);
    let lately = member.returned_at.is_some_and(|at| now.saturating_sub(at) <= patience);
    member.retired.is_some() && lately
}
