//! The bundles that peers send beside states: verified once, for all records that they prove.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::proof::{Believed, Verifier};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
    },
    domain::{
        bundle::verify_each,
        leaves::{BundleId, Leaves},
        order::Chain,
        record::RecordState,
    },
    proto,
};

/// Bundles that a peer has sent on one stream, verified. Those of earlier messages may have been forgotten: they are in
/// the store.
#[derive(Debug, Clone, Default)]
pub struct Bundles {
    known: HashMap<BundleId, Arc<Leaves>>,
    /// How many bytes they take, about.
    bytes: usize,
}

/// What one takes beside its hashes: its id, the places in the map and in memory.
const BUNDLE_BYTES: usize = 300;

impl Bundles {
    pub(super) fn get(&self, id: &BundleId) -> Option<&Leaves> {
        self.known.get(id).map(Arc::as_ref)
    }

    fn insert(&mut self, id: BundleId, leaves: Leaves) {
        self.bytes += BUNDLE_BYTES + leaves.bytes();
        self.known.insert(id, Arc::new(leaves));
    }
}

/// States as far as they are believed, and the bundles that are to be kept with them.
pub type BelievedStates = (Vec<(KeyHash, Believed)>, Vec<(Origin, Leaves)>);

/// Those of the bundles that the evidence of the states names. What else a peer sends is not looked at.
pub fn named<'a>(
    received: &[proto::Leaves],
    states: impl IntoIterator<Item = &'a RecordState>,
) -> Vec<(Origin, Leaves)> {
    let evidence = states.into_iter().flat_map(|state| &state.evidence);
    let mut wanted: HashSet<BundleId> = evidence.map(|(stamp, one)| one.bundle_id(stamp.origin)).collect();
    let named = received.iter().filter_map(Leaves::from_proto);
    named.filter(|(origin, leaves)| wanted.remove(&leaves.id(*origin))).collect()
}

impl Verifier {
    /// What is believed of states that a peer has sent with these bundles and chains, and those of the bundles that are
    /// to be kept with the states. `known`: bundles of earlier messages, and of this one at the end. Blocks for a
    /// signature per bundle and per order.
    pub fn believe_all(
        &self,
        claimed: Vec<(KeyHash, RecordState)>,
        (received, chains): (&[proto::Leaves], &[Chain]),
        known: &mut Bundles,
    ) -> BelievedStates {
        let named = named(received, claimed.iter().map(|(_, state)| state));
        let kept = self.take_bundles(named, known);
        let believe = |(key_hash, state)| (key_hash, self.believe(&key_hash, state, known, chains));
        (claimed.into_iter().map(believe).collect(), kept)
    }

    /// Adds those of the bundles to `known` that their origins have signed, and returns them: they are to be kept with
    /// the states that they prove. Blocks for a signature each.
    pub fn take_bundles(
        &self,
        received: Vec<(Origin, Leaves)>,
        known: &mut Bundles,
    ) -> Vec<(Origin, Leaves)> {
        if known.bytes >= limits::BUNDLES_CACHED_BYTES {
            *known = Bundles::default();
        }
        let cluster = self.cluster();
        let is_genuine = |(origin, leaves): &(Origin, Leaves)| {
            planted::is(Bug::SkipVerifyBundle)
                || self.store().keys_of(origin).iter().any(|key| leaves.is_genuine(&cluster, origin, key))
        };
        let is_kept = verify_each(&received, is_genuine);
        let genuine: Vec<_> =
            received.into_iter().zip(is_kept).filter_map(|(one, is_kept)| is_kept.then_some(one)).collect();
        for (origin, leaves) in &genuine {
            known.insert(leaves.id(*origin), leaves.clone());
        }
        genuine
    }
}
