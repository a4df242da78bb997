//! What a liar makes of a snapshot.

use super::{CLAIMED, Lie, any, batches, states};
use crate::{harness::store::key, sim::world::World};
use brock_core::{
    base::{
        id::KeyHash,
        vector::{Stamp, Vector},
    },
    domain::{
        codec,
        record::{PayloadDigest, RecordState},
    },
    proto::{self, SnapshotResponse, snapshot_response::Message},
};
use bytes::Bytes;
use rand::Rng;

/// The states in a page.
fn read(page: &proto::RecordPage) -> Vec<(KeyHash, RecordState)> {
    let state = |record: &proto::KeyedState| {
        let key_hash = KeyHash::try_from(record.key_hash.as_ref()).ok()?;
        Some((key_hash, codec::state_from_proto(record.state.clone()?).ok()?))
    };
    page.records.iter().filter_map(state).collect()
}

pub fn keyed(key_hash: KeyHash, state: &RecordState) -> proto::KeyedState {
    brock::transfer::keyed_state(key_hash, state)
}

/// Whether a donor that says it has applied `said` must have the proof of one of these.
fn counts(said: &Vector, bare: &[Stamp]) -> bool {
    bare.iter().any(|stamp| said.has(*stamp))
}

impl World {
    /// A message of a snapshot as a donor sends it; `None`: it leaves it out. `said`: what it has said to have applied.
    pub fn leave_page(
        &mut self,
        donor: usize,
        puller: usize,
        message: SnapshotResponse,
        said: &Vector,
    ) -> (Option<SnapshotResponse>, Option<Lie>) {
        if !self.lies(donor) {
            return (Some(message), None);
        }
        let Some(content) = message.message.clone() else { return (Some(message), None) };
        let altered = match content {
            Message::Header(header) => self.altered_header(header, puller),
            Message::Births(_) => {
                let nothing = Message::Births(proto::Births::default());
                Some((Some(nothing), Lie::silent("lies: no births")))
            }
            Message::Records(page) => self.altered_page(page, said),
            Message::Log(page) => self.altered_log(page.batch.unwrap_or_default()),
            Message::End(_) => {
                let collected = Some(codec::vector_to_proto(said)).filter(|_| !said.is_empty());
                let end = Message::End(proto::SnapshotEnd { collected });
                let lie = Lie::shown("lies: an end with collected tombstones");
                Some((Some(end), lie)).filter(|_| !said.is_empty())
            }
        };
        let Some((altered, lie)) = altered else { return (Some(message), None) };
        self.note_lie(donor, puller, lie);
        (altered.map(|altered| SnapshotResponse { message: Some(altered) }), Some(lie))
    }

    fn altered_header(
        &mut self,
        mut header: proto::SnapshotHeader,
        puller: usize,
    ) -> Option<(Option<Message>, Lie)> {
        let lie = match self.random.random_range(0..6) {
            0 => {
                header.node_id = self.nodes[puller].id.to_string();
                Lie::shown("lies: another node's header")
            }
            1 => {
                let origin = self.claimable(puller)?;
                let folds = header.folds.get_or_insert_default();
                let mut claimed = codec::folds_from_proto(folds.clone()).ok()?;
                claimed.raise(origin, CLAIMED);
                *folds = codec::folds_to_proto(&claimed);
                Lie::silent("lies: an origin that is over")
            }
            _ => {
                let origin = self.claimable(puller)?;
                let vector = header.vector.get_or_insert_default();
                vector.clocks.push(codec::stamp_to_proto(Stamp { origin, clock: CLAIMED }));
                Lie::silent("lies: a header of clocks that it has not")
            }
        };
        Some((Some(Message::Header(header)), lie))
    }

    fn altered_page(&mut self, mut page: proto::RecordPage, said: &Vector) -> Option<(Option<Message>, Lie)> {
        let known = read(&page);
        let lie = match self.random.random_range(0..20) {
            0 => {
                page.collected = Some(codec::vector_to_proto(said));
                Some(Lie::shown("lies: collected tombstones")).filter(|_| !said.is_empty())?
            }
            1 => {
                page.through = vec![0; 32].into();
                Some(Lie::shown("lies: a page that ends early")).filter(|_| !known.is_empty())?
            }
            2 => {
                let index = self.random.random_range(1..known.len().max(2));
                page.records.get(index)?;
                page.records.swap(index, index - 1);
                Lie::shown("lies: records out of order")
            }
            3 => {
                page.chains.pop()?;
                Lie::silent("lies: no certificates of operators")
            }
            4 => {
                let end = Message::End(proto::SnapshotEnd::default());
                return Some((Some(end), Lie::shown("lies: the end instead of a page")));
            }
            5 => {
                let record = any(&mut self.random, &mut page.records)?;
                let creation = record.state.as_mut()?.creation.as_mut()?;
                super::flip(creation.payload.as_mut()?, &mut self.random)?;
                Lie::shown("lies: a payload altered in a state")
            }
            6..12 => {
                // Mostly the same record, of all pullers: these then confirm nothing to each other.
                let hidden = known.iter().position(|(key_hash, _)| *key_hash == key(self.liars.hidden));
                let index = self.random.random_range(0..known.len().max(1));
                let index = hidden.unwrap_or(index);
                let is_tombstone = known.get(index)?.1.deletion.is_some();
                page.records.remove(index);
                let what =
                    if is_tombstone { "lies: a tombstone left out" } else { "lies: a record left out" };
                Lie::silent(what)
            }
            12 => {
                let index = self.random.random_range(0..known.len().max(1));
                let (key_hash, state) = known.get(index)?;
                let new = states::behind(key_hash)?;
                let next = known.get(index + 1).map(|(key_hash, _)| *key_hash);
                let is_in_order = next.is_none_or(|next| new < next) && new.0[..] <= page.through[..];
                let (state, bare) = states::invented(state);
                page.records.insert(index + 1, keyed(new, &state));
                let what = "lies: an invented record";
                Some(Lie { what, shows: counts(said, &bare) }).filter(|_| is_in_order)?
            }
            13 => {
                let leaves = any(&mut self.random, &mut page.bundles)?;
                super::flip(&mut leaves.signed, &mut self.random)?;
                Lie::silent("lies: a bundle altered")
            }
            14 => {
                page.bundles.pop()?;
                Lie::silent("lies: a bundle left out")
            }
            15 => {
                let index = self.random.random_range(0..known.len().max(1));
                let (key_hash, state) = known.get(index)?;
                let new = states::behind(key_hash)?;
                let next = known.get(index + 1).map(|(key_hash, _)| *key_hash);
                let is_in_order = next.is_none_or(|next| new < next) && new.0[..] <= page.through[..];
                let (state, bundles) = states::forged(&new, state);
                let bare: Vec<Stamp> = state.stamps().collect();
                page.records.insert(index + 1, keyed(new, &state));
                page.bundles.extend(bundles);
                let what = "lies: an invented record with forged bundles";
                Some(Lie { what, shows: counts(said, &bare) }).filter(|_| is_in_order)?
            }
            _ => {
                let index = self.random.random_range(0..known.len().max(1));
                let (key_hash, state) = known.get(index)?;
                let other = &known[self.random.random_range(0..known.len())].1;
                let (lie, what, bare) = states::altered(&mut self.random, state, other)?;
                page.records[index] = keyed(*key_hash, &lie);
                Lie { what, shows: counts(said, &bare) }
            }
        };
        Some((Some(Message::Records(page)), lie))
    }

    fn altered_log(&mut self, batch: proto::Batch) -> Option<(Option<Message>, Lie)> {
        if self.random.random_bool(0.2) {
            return Some((None, Lie::silent("lies: a page of the log left out")));
        }
        let (batch, lie) = batches::altered(&mut self.random, &batch, &self.liars.heard)?;
        Some((Some(Message::Log(proto::LogPage { batch: Some(batch) })), lie))
    }
}

/// What a header says that its sender has applied.
pub fn said_in(message: &SnapshotResponse) -> Option<Vector> {
    let Some(Message::Header(header)) = &message.message else { return None };
    let mut said = codec::vector_from_proto(&header.vector.clone().unwrap_or_default()).ok()?;
    said.join(&codec::folds_from_proto(header.folds.clone().unwrap_or_default()).ok()?);
    Some(said)
}

/// What is in a payload that a state has is what its digest says.
pub fn has_true_payload(state: &RecordState) -> bool {
    let digest = |payload: &Bytes| -> PayloadDigest { brock_core::base::id::sha256(payload) };
    state.creation.as_ref().is_none_or(|creation| {
        creation.payload.as_ref().is_none_or(|payload| digest(payload) == creation.digest)
    })
}
