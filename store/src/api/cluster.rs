//! Who the members are.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::*;
use pb::cluster_server::Cluster;

pub(super) struct ClusterService(pub(super) Arc<Node>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        admit(&self.0, &request)?;
        if request.get_ref().linearizable {
            self.0.read_barrier().await?;
        }
        Ok(Response::new(pb::MemberListResponse {
            header: Some(self.0.header(0)),
            members: self.0.members(),
        }))
    }
}
