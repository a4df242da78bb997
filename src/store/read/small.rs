//! Small values: notes, members, births, and the certificates of operators.

use std::collections::BTreeSet;

use prost::Message;

use crate::store::{error::StoreError, handle::Store, view::View};
use brock_core::{
    base::{id::Origin, limits, vector::Stamp},
    domain::{
        birth::SignedBirth,
        bundle::Tip,
        codec::CodecError,
        evidence::Evidence,
        inclusion::Inclusion,
        leaves::{BundleId, Leaves},
        order::{Chain, OrderProof},
        record::RecordState,
    },
    proto,
};

/// Births of origins that sign, as many as fit into a message.
#[derive(Debug, Clone, Default)]
pub struct BirthsPage {
    /// In the order of the origins.
    pub births: Vec<proto::Birth>,
    /// The last bundles of their logs, as far as they are known; of one that went on behind its fold, both.
    pub tips: Vec<(Origin, Tip)>,
    /// The last of these origins, if there are more.
    pub next: Option<Origin>,
}

impl BirthsPage {
    pub(super) fn read(view: &View<'_>, after: Option<Origin>) -> Result<Self, StoreError> {
        let (births, next) = births_page(view, after)?;
        let mut tips = Vec::new();
        for origin in births.iter().filter_map(|birth| Origin::try_from(birth.origin.as_ref()).ok()) {
            tips.extend(view.tips(&origin)?.into_iter().map(|tip| (origin, tip)));
        }
        Ok(Self { births, tips, next })
    }
}

impl Store {
    /// The birth of an origin; `None` = it does not sign.
    pub async fn birth(&self, origin: Origin) -> Result<Option<proto::Birth>, StoreError> {
        self.blocking(move |shared| shared.database.view().birth(&origin)).await
    }

    /// The births of the origins that have signed operations of these states.
    pub async fn births_of<'a>(
        &self,
        states: impl IntoIterator<Item = &'a RecordState>,
    ) -> Result<Vec<proto::Birth>, StoreError> {
        let stamps = states.into_iter().flat_map(|state| &state.evidence);
        let origins: BTreeSet<Origin> = stamps.map(|(stamp, _)| stamp.origin).collect();
        if origins.is_empty() {
            return Ok(Vec::new());
        }
        self.blocking(move |shared| {
            let view = shared.database.view();
            origins.iter().filter_map(|origin| view.birth(origin).transpose()).collect()
        })
        .await
    }

    /// The chains of the operators whose orders are in these states.
    pub async fn chains_of<'a>(
        &self,
        states: impl IntoIterator<Item = &'a RecordState>,
    ) -> Result<Vec<proto::Chain>, StoreError> {
        let ids = chain_ids(states);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.blocking(move |shared| chains(&shared.database.view(), &ids)).await
    }

    /// The bundles that the evidence of these states names.
    pub async fn bundles_of<'a>(
        &self,
        states: impl IntoIterator<Item = &'a RecordState>,
    ) -> Result<Vec<proto::Leaves>, StoreError> {
        let evidence = states.into_iter().flat_map(|state| &state.evidence);
        let ids: BTreeSet<BundleId> = evidence.map(|(stamp, one)| one.bundle_id(stamp.origin)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.blocking(move |shared| {
            let view = shared.database.view();
            let leaves =
                ids.iter().filter_map(|id| Some(view.leaves(id).transpose()?.map(|leaves| (id, leaves))));
            leaves.map(|leaves| leaves.map(|(id, leaves)| leaves.to_proto(id.origin))).collect()
        })
        .await
    }

    /// What proves an operation by itself; `None`: its bundle is not here.
    pub async fn inclusion(&self, stamp: Stamp, evidence: Evidence) -> Result<Option<Inclusion>, StoreError> {
        self.blocking(move |shared| {
            let leaves = shared.database.view().leaves(&evidence.bundle_id(stamp.origin))?;
            Ok(leaves.and_then(|leaves| leaves.inclusion(stamp, evidence.operation().clone())))
        })
        .await
    }

    /// A bundle with the hashes of its operations, if it is here. Blocks.
    pub fn leaves(&self, id: &BundleId) -> Result<Option<Leaves>, StoreError> {
        self.shared.database.view().leaves(id)
    }

    /// Births of the origins that sign above `after`, as many as fit into a message, and the last of these
    /// origins if there are more.
    pub async fn births(
        &self,
        after: Option<Origin>,
    ) -> Result<(Vec<proto::Birth>, Option<Origin>), StoreError> {
        self.blocking(move |shared| births_page(&shared.database.view(), after)).await
    }

    /// The same with the last bundles of their logs, as far as they are known here.
    pub async fn births_with_tips(&self, after: Option<Origin>) -> Result<BirthsPage, StoreError> {
        self.blocking(move |shared| BirthsPage::read(&shared.database.view(), after)).await
    }

    /// A small value that was kept under a name.
    pub async fn note(&self, name: &'static [u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.blocking(move |shared| shared.database.view().meta(name)).await
    }

    /// The birth of one origin as it was signed last. Blocks.
    pub fn signed_birth(&self, origin: &Origin) -> Result<Option<SignedBirth>, StoreError> {
        let birth = self.shared.database.view().birth(origin)?;
        Ok(birth.map(SignedBirth::from_proto).transpose()?)
    }

    /// The chain of the operator with this certificate, if it was kept. Blocks.
    pub fn chain(&self, id: &[u8; 32]) -> Result<Option<Chain>, StoreError> {
        self.shared.database.view().chain(id)
    }

    /// What was remembered of the members when the node last ran.
    pub async fn members(&self) -> Result<Vec<proto::MemberState>, StoreError> {
        self.blocking(|shared| shared.database.view().members()).await
    }
}

/// Births above `after`, as many as fit into a message, and the last of their origins if there are more.
fn births_page(
    view: &View<'_>,
    after: Option<Origin>,
) -> Result<(Vec<proto::Birth>, Option<Origin>), StoreError> {
    let (mut births, mut bytes) = (Vec::new(), 0);
    for birth in view.births(after) {
        let birth = birth?;
        bytes += birth.encoded_len();
        let origin = Origin::try_from(birth.origin.as_ref());
        births.push(birth);
        if bytes >= limits::BATCH_MAX_BYTES {
            return Ok((births, Some(origin.map_err(|_| CodecError::Malformed("birth"))?)));
        }
    }
    Ok((births, None))
}

/// The certificates of the operators whose orders are in these states.
pub(super) fn chain_ids<'a>(states: impl IntoIterator<Item = &'a RecordState>) -> BTreeSet<[u8; 32]> {
    let evidence = states.into_iter().flat_map(|state| &state.evidence);
    evidence.filter_map(|(_, evidence)| OrderProof::certificate_in(evidence.operation())).collect()
}

/// The chains of these certificates, as far as this node has them.
pub(super) fn chains(view: &View<'_>, ids: &BTreeSet<[u8; 32]>) -> Result<Vec<proto::Chain>, StoreError> {
    ids.iter().filter_map(|id| view.chain(id).transpose()).map(|chain| Ok(chain?.to_proto())).collect()
}
