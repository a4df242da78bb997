//! The recognition service: has this node heard of that one before?

use bytes::Bytes;
use tonic::{Request, Response, Status};

use crate::{membership::members::Members, store::Store};
use brock_core::{
    base::id::{Instance, NodeId},
    proto::{self, recognition_service_server::RecognitionService},
};

/// The handlers. Cheap to clone.
#[derive(Clone)]
pub struct Recognition {
    /// Who answers.
    pub node_id: NodeId,
    /// Of this process.
    pub instance: Instance,
    /// What it remembers; `None`: it has no storage yet.
    pub memory: Option<(Store, Members)>,
}

#[tonic::async_trait]
impl RecognitionService for Recognition {
    async fn recognise(
        &self,
        request: Request<proto::RecogniseRequest>,
    ) -> Result<Response<proto::RecogniseResponse>, Status> {
        let asked: NodeId = request
            .into_inner()
            .node_id
            .parse()
            .map_err(|error| Status::invalid_argument(format!("node_id: {error}")))?;
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
