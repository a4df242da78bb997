//! Which pullers a donor admits, and how many at once.

use std::{net::IpAddr, time::Instant};

use tokio_util::sync::CancellationToken;

use super::{error::DonorError, session::Session};
use crate::{
    membership::{duplicates::Place, members::Members},
    replication::pull::puller::PROTOCOL_VERSION,
    runtime::pool::{Applicant, Bounds, Pool, Taken},
    store::Store,
    transfer::{feed::SnapshotFeed, proof::Verifier},
};
use brock_core::{
    base::{
        id::{Incarnation, NodeId, Origin},
        limits,
        time::WallClock,
    },
    domain::codec,
    proto,
};

/// The connection of a puller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The node id of its certificate; `None`: that states none.
    pub certified: Option<NodeId>,
    /// Who its share is counted for.
    pub holder: String,
    /// When the connection was accepted.
    pub accepted_at: Instant,
    /// Where it comes from.
    pub ip: IpAddr,
}

impl Caller {
    /// Fails unless the certificate may speak for this node.
    fn check(&self, said: &NodeId) -> Result<(), DonorError> {
        match self.certified.clone().filter(|certified| certified != said) {
            Some(certified) => Err(DonorError::OtherId { certified, said: said.clone() }),
            None => Ok(()),
        }
    }

    fn applicant(&self, said: &NodeId) -> Applicant {
        Applicant {
            identity: self.holder.clone(),
            name: said.to_string(),
            has_names: self.certified.is_none(),
        }
    }
}

/// Admits pullers. Cheap to clone.
#[derive(Clone)]
pub struct Donor {
    store: Store,
    members: Members,
    wall_clock: WallClock,
    /// Of proofs that origins have signed two histories.
    verifier: Verifier,
    feeds: Pool,
    snapshots: Pool,
}

impl Donor {
    /// Feeds pullers from this store, and records in `members` what they have applied.
    pub fn new(store: Store, members: Members, wall_clock: WallClock, verifier: Verifier) -> Self {
        Self {
            verifier,
            store,
            members,
            wall_clock,
            feeds: Pool::new(Bounds { max: limits::FEEDS_MAX, share: limits::FEEDS_SHARE }),
            snapshots: Pool::new(Bounds { max: limits::SNAPSHOTS_MAX, share: limits::SNAPSHOTS_SHARE }),
        }
    }

    /// Admits a puller that is to be fed from the log for as long as the place is held, or until `evicted` is
    /// cancelled: a newer stream of the same node takes its place. It must be the node of its certificate, must not
    /// be this node, and must speak this version's protocol.
    pub async fn admit(
        &self,
        mut hello: proto::Hello,
        caller: Option<Caller>,
        evicted: CancellationToken,
    ) -> Result<(Session, Option<Taken>), DonorError> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(DonorError::Version(hello.protocol_version));
        }
        let node_id: NodeId = hello.node_id.parse().map_err(DonorError::NodeId)?;
        if let Some(caller) = &caller {
            caller.check(&node_id)?;
            let origin = Origin::new(&node_id, Incarnation(hello.incarnation));
            self.note(&origin, caller.accepted_at, caller.ip);
        }
        if node_id == *self.store.node_id() {
            return Err(DonorError::OwnId(node_id));
        }
        let vector = codec::vector_from_proto(hello.vector.as_ref().unwrap_or(&proto::Vector::default()))
            .map_err(DonorError::HelloVector)?;
        let take = |caller: &Caller| self.feeds.take(&caller.applicant(&node_id), evicted);
        let place = caller.as_ref().map(|caller| take(caller).ok_or(DonorError::TooManyFeeds)).transpose()?;
        let holder = caller.as_ref().map_or_else(|| node_id.to_string(), |caller| caller.holder.clone());
        let refused = self.verifier.take_forks(std::mem::take(&mut hello.forks)).await?;
        if refused > 0 {
            tracing::debug!(%node_id, refused, "a puller's proofs that origins have signed two histories are none");
        }
        self.store.check_rollback(&vector, &holder).await?;
        let vector = self.store.relevant(vector, 0);
        let introducer = caller.filter(|caller| caller.certified.is_none()).map(|caller| caller.holder);
        let Self { store, members, wall_clock, verifier, .. } = self.clone();
        let closings = verifier.known_closings();
        Ok((
            Session { store, members, wall_clock, node_id, hello, vector, holder, introducer, closings },
            place,
        ))
    }

    /// Notes which process calls. One that has this node's id and is another process shows that both run.
    fn note(&self, origin: &Origin, accepted_at: Instant, ip: IpAddr) {
        let (own, duplicates) = (self.store.origin(), self.members.duplicates());
        if *origin == own {
            return;
        }
        duplicates.saw(origin, accepted_at, Place::From(ip));
        if origin.is_of(self.store.node_id()) {
            duplicates.saw(&own, Instant::now(), Place::Here);
        }
    }

    /// Begins a snapshot, or continues a broken one, for as long as the place is held, or until `evicted` is
    /// cancelled.
    pub async fn snapshot(
        &self,
        request: proto::SnapshotRequest,
        caller: Option<Caller>,
        evicted: CancellationToken,
    ) -> Result<(SnapshotFeed, Option<Taken>), DonorError> {
        let node_id: NodeId = request.node_id.parse().map_err(DonorError::NodeId)?;
        let mut holder = node_id.to_string();
        if let Some(caller) = &caller {
            caller.check(&node_id)?;
            holder.clone_from(&caller.holder);
        }
        let applied = codec::vector_from_proto(&request.applied.clone().unwrap_or_default())
            .map_err(DonorError::Applied)?;
        self.store.check_rollback(&applied, &holder).await?;
        let feed = SnapshotFeed::begin(self.store.clone(), request)?;
        let take = |caller: Caller| self.snapshots.take(&caller.applicant(&node_id), evicted);
        let place = caller.map(|caller| take(caller).ok_or(DonorError::TooManySnapshots)).transpose()?;
        Ok((feed, place))
    }
}
