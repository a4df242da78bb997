//! What is remembered of the members.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::proto;

impl Store {
    /// Remembers the states of some members, and forgets others.
    pub async fn remember(
        &self,
        members: Vec<proto::MemberState>,
        forget: Vec<proto::MemberState>,
    ) -> Result<(), StoreError> {
        self.change(Remember { members, forget }).await
    }
}

struct Remember {
    members: Vec<proto::MemberState>,
    forget: Vec<proto::MemberState>,
}

impl Change for Remember {
    type Outcome = ();

    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        self.forget.iter().for_each(|member| commit.batch.delete_member(member));
        self.members.iter().for_each(|member| commit.batch.put_member(member));
        Ok(())
    }
}
