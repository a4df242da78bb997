//! Keeping the certificates of operators whose orders are, or will be, in the log.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{base::limits, domain::order::Chain};

impl Store {
    /// Keeps these chains, for this node and for those that pull from it. Durable when it returns. Idempotent. The
    /// caller has verified that they are operators'.
    pub async fn keep_chains(&self, chains: Vec<Chain>) -> Result<(), StoreError> {
        if chains.is_empty() { Ok(()) } else { self.change(KeepChains(chains)).await }
    }
}

struct KeepChains(Vec<Chain>);

impl Change for KeepChains {
    type Outcome = ();

    /// Contract: a chain is never replaced by another one of the same certificate, and there are about
    /// [`limits::CHAINS_MAX`] at most.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        for chain in self.0 {
            if commit.view().chain(&chain.id())?.is_some() {
                continue;
            }
            if commit.view().chains()? >= limits::CHAINS_MAX {
                return Err(StoreError::ChainsFull);
            }
            commit.batch.put_chain(&chain);
        }
        Ok(())
    }
}
