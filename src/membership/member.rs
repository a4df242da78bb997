//! One member: who it is, and what it is known to have applied.

use brock_core::{
    base::{
        id::{Incarnation, NodeId, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{codec, record::UnixSeconds},
    proto,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    /// `None` until an address of `node.join` has answered.
    pub(crate) node_id: Option<NodeId>,
    /// `None` if it is not in `node.join`.
    pub(crate) address: Option<String>,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) last_seen: UnixSeconds,
    /// What its pulls announced. Replaced by each hello: a node may have lost data.
    pub(crate) pulled: Option<Vector>,
    /// What it said as a donor that it has applied. Replaced by each round.
    pub(crate) heads: Option<Vector>,
    /// Set when it was retired: what this node had applied then.
    pub(crate) retired: Option<Vector>,
    /// When it last said hello although it is retired.
    pub(crate) returned_at: Option<UnixSeconds>,
    /// Streams by which it follows this node now.
    pub(crate) feeds: usize,
    /// Without a name, and not in `node.join` as it is: nothing to remember over a restart.
    pub(crate) is_passing: bool,
}

impl Member {
    pub(crate) fn name(&self) -> String {
        let named = self.node_id.as_ref().map(ToString::to_string);
        named.or_else(|| self.address.clone()).unwrap_or_default()
    }

    pub(crate) fn applied(&self) -> Option<Vector> {
        match (&self.pulled, &self.heads) {
            (Some(pulled), Some(heads)) => {
                let mut applied = pulled.clone();
                applied.join(heads);
                Some(applied)
            }
            (pulled, heads) => pulled.clone().or_else(|| heads.clone()),
        }
    }

    pub(crate) fn has(&self, stamp: Stamp) -> bool {
        [&self.pulled, &self.heads].into_iter().flatten().any(|vector| vector.has(stamp))
    }

    pub(crate) fn clock(&self, origin: &Origin) -> Clock {
        let said = [&self.pulled, &self.heads].into_iter().flatten();
        said.map(|vector| vector.get(origin)).max().unwrap_or_default()
    }

    pub(crate) fn to_proto(&self) -> proto::MemberState {
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
pub(crate) fn is_returning(member: &Member, now: UnixSeconds) -> bool {
    let patience = i64::try_from(limits::RETURN_PATIENCE.as_secs()).unwrap_or(i64::MAX);
    let lately = member.returned_at.is_some_and(|at| now.saturating_sub(at) <= patience);
    member.retired.is_some() && lately
}
