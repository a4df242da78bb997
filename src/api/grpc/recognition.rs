//! The recognition service: whether this node has heard of another one before.

use bytes::Bytes;
use tonic::{Request, Response, Status};

use crate::{app::error::RequestError, membership::members::Members, store::Store};
use brock_core::{
    base::id::{IdError, Instance, NodeId},
    proto::{self, recognition_service_server::RecognitionService},
};

/// The handlers. Cheap to clone.
#[derive(Clone)]
pub struct Recognition {
    /// The id of this node.
    pub node_id: NodeId,
    /// Identifies this process.
    pub instance: Instance,
    /// What this node remembers; `None`: it has no storage yet.
    pub memory: Option<(Store, Members)>,
}

#[tonic::async_trait]
impl RecognitionService for Recognition {
    async fn recognise(
        &self,
        request: Request<proto::RecogniseRequest>,
    ) -> Result<Response<proto::RecogniseResponse>, Status> {
        let asked = request.into_inner().node_id;
        let asked: NodeId = asked.parse().map_err(|error: IdError| RequestError::field("node_id", error))?;
        let mut answer = proto::RecogniseResponse {
            node_id: self.node_id.to_string(),
            instance: Bytes::copy_from_slice(&self.instance.0),
            ..Default::default()
        };
        if let Some((store, members)) = &self.memory {
            let applied = store.applied();
            let its = applied.iter().filter(|(origin, _)| origin.is_of(&asked));
            answer.operations = its.fold(0, |sum, (_, clock)| sum.saturating_add(clock.0));
            answer.has_storage = true;
            if let Some(is_retired) = members.remembers(&asked) {
                (answer.is_known, answer.is_retired) = (true, is_retired);
            }
        }
        Ok(Response::new(answer))
    }
}
