//! Which pullers a donor admits, and how many at once.

use std::{net::IpAddr, sync::Arc, time::Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{error::DonorError, session::Session};
use crate::{
    membership::{duplicates::Place, members::Members},
    replication::pull::puller::PROTOCOL_VERSION,
    store::Store,
    transfer::feed::SnapshotFeed,
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
    /// When the connection was accepted.
    pub accepted_at: Instant,
    /// Where it comes from.
    pub ip: IpAddr,
}

/// Admits pullers. Cheap to clone.
#[derive(Clone)]
pub struct Donor {
    store: Store,
    members: Members,
    wall_clock: WallClock,
    feeds: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
}

impl Donor {
    /// Feeds pullers from this store, and records in `members` what they have applied.
    pub fn new(store: Store, members: Members, wall_clock: WallClock) -> Self {
        Self {
            store,
            members,
            wall_clock,
            feeds: Arc::new(Semaphore::new(limits::FEEDS_MAX)),
            snapshots: Arc::new(Semaphore::new(limits::SNAPSHOTS_MAX)),
        }
    }

    /// Admits a puller that is to be fed from the log for as long as the permit is held. It must be the node
    /// of its certificate, must not be this node, and must speak this version's protocol.
    pub async fn admit(
        &self,
        hello: proto::Hello,
        caller: Option<Caller>,
    ) -> Result<(Session, OwnedSemaphorePermit), DonorError> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(DonorError::Version(hello.protocol_version));
        }
        let node_id: NodeId = hello.node_id.parse().map_err(DonorError::NodeId)?;
        if let Some(Caller { certified, accepted_at, ip }) = caller {
            if let Some(certified) = certified.filter(|certified| *certified != node_id) {
                return Err(DonorError::OtherId { certified, said: node_id });
            }
            let origin = Origin::new(&node_id, Incarnation(hello.incarnation));
            self.note(&origin, accepted_at, ip);
        }
        if node_id == *self.store.node_id() {
            return Err(DonorError::OwnId(node_id));
        }
        let vector = codec::vector_from_proto(hello.vector.as_ref().unwrap_or(&proto::Vector::default()))
            .map_err(DonorError::HelloVector)?;
        let Ok(permit) = Arc::clone(&self.feeds).try_acquire_owned() else {
            return Err(DonorError::TooManyFeeds);
        };
        self.store.check_rollback(&vector).await?;
        let Self { store, members, wall_clock, .. } = self.clone();
        Ok((Session { store, members, wall_clock, node_id, hello, vector }, permit))
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

    /// Begins a snapshot, or continues a broken one, for as long as the permit is held.
    pub async fn snapshot(
        &self,
        request: proto::SnapshotRequest,
    ) -> Result<(SnapshotFeed, OwnedSemaphorePermit), DonorError> {
        let applied = codec::vector_from_proto(&request.applied.clone().unwrap_or_default())
            .map_err(DonorError::Applied)?;
        self.store.check_rollback(&applied).await?;
        let feed = SnapshotFeed::begin(self.store.clone(), request)?;
        let Ok(permit) = Arc::clone(&self.snapshots).try_acquire_owned() else {
            return Err(DonorError::TooManySnapshots);
        };
        Ok((feed, permit))
    }
}
