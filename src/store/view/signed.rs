//! Reads of what is signed: births, bundles, forks, and the certificates of operators.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{View, read_error};
use crate::store::{error::StoreError, schema};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::{Clock, Stamp},
    },
    domain::{
        bundle::Tip,
        codec::{self, CodecError},
        fork::Fork,
        leaves::{BundleId, Leaves},
        order::Chain,
        record::RecordState,
    },
    proto,
};

impl View<'_> {
    /// The origins that have signed two histories, with the proof.
    pub(in crate::store) fn forks(&self) -> Result<BTreeMap<Origin, Arc<Fork>>, StoreError> {
        let forks = self.scan(schema::FORK, self.options()).map(|item| {
            let fork = Fork::decode(&item?.1)?;
            Ok((fork.origin(), Arc::new(fork)))
        });
        forks.collect()
    }

    /// The births of the origins that sign above `after`, in the order of the origins.
    pub(in crate::store) fn births(
        &self,
        after: Option<Origin>,
    ) -> impl Iterator<Item = Result<proto::Birth, StoreError>> {
        let mut options = self.options();
        if let Some(after) = after {
            options.set_iterate_lower_bound([after.as_bytes().as_slice(), &[0]].concat());
        }
        self.scan(schema::BIRTH, options).map(|item| decode_birth(&item?.1))
    }

    /// The birth of one origin; `None` = it does not sign.
    pub(in crate::store) fn birth(&self, origin: &Origin) -> Result<Option<proto::Birth>, StoreError> {
        self.value(schema::BIRTH, origin.as_bytes())?.map(|value| decode_birth(&value)).transpose()
    }

    /// The last bundles of the log of one origin, as far as they are known: where it was folded, and where it ends, if
    /// it went on from there.
    pub(in crate::store) fn tips(&self, origin: &Origin) -> Result<Vec<Tip>, StoreError> {
        let mut tips = Vec::new();
        for family in [schema::FOLDED, schema::CLOCK_VALUE] {
            let head = self.value(family, origin.as_bytes())?.map(|value| codec::decode_head(&value));
            tips.extend(head.transpose()?.and_then(|(_, tip)| tip));
        }
        Ok(tips)
    }

    /// The bundles of one origin's log that end above `after`, in order. At and below the floor, some are left of those
    /// that were there.
    pub(in crate::store) fn bundles(
        &self,
        origin: Origin,
        after: Clock,
    ) -> impl Iterator<Item = Result<Tip, StoreError>> {
        let mut options = self.long_scan();
        options.set_iterate_lower_bound(codec::stamp_key(Stamp { origin, clock: after.next() }));
        options.set_iterate_upper_bound(codec::stamp_key(Stamp { origin, clock: Clock(u64::MAX) }));
        self.scan(schema::BUNDLE, options).map(|item| Ok(codec::decode_bundle(&item?.1)?))
    }

    /// A bundle with the hashes of its operations, of a log or kept apart; `None`: it is not here.
    pub(in crate::store) fn leaves(&self, id: &BundleId) -> Result<Option<Leaves>, StoreError> {
        let read = |family, key: &[u8]| {
            let value = self.value(family, key)?;
            value.map(|value| decode_leaves(&value)).transpose()
        };
        let of_log = read(schema::BUNDLE, &codec::stamp_key(Stamp { origin: id.origin, clock: id.last }));
        if let Ok(Some(leaves)) = &of_log
            && leaves.id(id.origin) == *id
        {
            return of_log;
        }
        // One that the disk has damaged is kept apart once a peer has sent it.
        match read(schema::KEPT_BUNDLE, &codec::bundle_key(id))? {
            Some(leaves) => Ok(Some(leaves)),
            None => of_log.map(|_| None),
        }
    }

    /// Whether the bundles are here that prove what a record has evidence of.
    pub(in crate::store) fn has_proofs(&self, key_hash: &KeyHash, state: &RecordState) -> bool {
        state.evidence.iter().all(|(stamp, evidence)| {
            let leaves = self.leaves(&evidence.bundle_id(stamp.origin)).ok().flatten();
            leaves.is_some_and(|leaves| evidence.is_in(&leaves, *stamp, &key_hash.0))
        })
    }

    /// The bundles that are or were in logs, above a stamp; without a tip, what does not decode.
    pub(in crate::store) fn all_bundles(
        &self,
        after: Option<Stamp>,
    ) -> impl Iterator<Item = Result<(Stamp, Option<Tip>), StoreError>> {
        let mut options = self.long_scan();
        if let Some(Stamp { origin, clock }) = after {
            options.set_iterate_lower_bound(codec::stamp_key(Stamp { origin, clock: clock.next() }));
        }
        self.scan(schema::BUNDLE, options).map(|item| {
            let (key, value) = item?;
            Ok((codec::decode_stamp_key(&key)?, codec::decode_bundle(&value).ok()))
        })
    }

    /// The bundles that are kept apart from their logs, above one.
    pub(in crate::store) fn kept_bundles(
        &self,
        after: Option<BundleId>,
    ) -> impl Iterator<Item = Result<BundleId, StoreError>> {
        let mut options = self.long_scan();
        if let Some(after) = after {
            options.set_iterate_lower_bound([&codec::bundle_key(&after)[..], &[0]].concat());
        }
        self.scan(schema::KEPT_BUNDLE, options).map(|item| Ok(codec::decode_bundle_key(&item?.0)?))
    }

    /// The chain of an operator whose orders are in the log.
    pub(in crate::store) fn chain(&self, id: &[u8; 32]) -> Result<Option<Chain>, StoreError> {
        Ok(self.value(schema::CERTIFICATE, id)?.map(|value| Chain::decode(&value)).transpose()?)
    }

    /// How many chains there are, estimated.
    pub(in crate::store) fn chains(&self) -> Result<u64, StoreError> {
        let family = self.database.family(schema::CERTIFICATE);
        let estimate = self.database.db.property_int_value_cf(family, "rocksdb.estimate-num-keys");
        Ok(estimate.map_err(read_error)?.unwrap_or_default())
    }
}

fn decode_leaves(value: &[u8]) -> Result<Leaves, StoreError> {
    let (tip, hashes) = codec::decode_hashes(value)?;
    Ok(Leaves::new(tip, hashes.to_vec()).ok_or(CodecError::Malformed("bundle"))?)
}

fn decode_birth(value: &[u8]) -> Result<proto::Birth, StoreError> {
    let body = Bytes::copy_from_slice(codec::unversioned("birth", value)?);
    Ok(proto::Birth::decode(body).map_err(|_| CodecError::Malformed("birth"))?)
}
