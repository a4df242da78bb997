//! What a liar answers to a comparison, a repair and a read.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{CLAIMED, Lie, any, flip, pages::keyed, states, stranger};
use crate::{harness::store::key, sim::world::World};
use brock::{
    membership::peer::RemoteError,
    replication::{peek, remote::Remote},
    store::Store,
};
use brock_core::{
    base::{id::KeyHash, vector::Stamp},
    domain::{codec, record::RecordState},
    proto,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Another node's records, as it shows them.
pub struct Shown {
    store: Store,
    random: Mutex<StdRng>,
    /// 0 = it does not lie.
    chance: f64,
    /// How many states it has shown without the proof of something in them.
    pub bare: AtomicU64,
    /// How it lied.
    pub lies: Mutex<Vec<&'static str>>,
}

impl Shown {
    fn draw<T>(&self, alter: impl FnOnce(&mut StdRng) -> Option<(&'static str, T)>) -> Option<T> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        if self.chance == 0.0 || !random.random_bool(self.chance) {
            return None;
        }
        let (what, altered) = alter(&mut random)?;
        self.lies.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        Some(altered)
    }

    /// A state as it is shown.
    fn shown(&self, state: &RecordState, other: &RecordState) -> RecordState {
        let altered = self.draw(|random| {
            let (lie, what, bare) = states::altered(random, state, other)?;
            Some((what, (lie, bare)))
        });
        let Some((lie, bare)) = altered else { return state.clone() };
        self.bare.fetch_add(u64::from(!bare.is_empty()), Ordering::SeqCst);
        lie
    }
}

impl Remote for Shown {
    async fn summary(&self, buckets: bool) -> Result<proto::SummaryResponse, RemoteError> {
        let answer = Remote::summary(&self.store, buckets).await?;
        let altered = self.draw(|random| {
            random.random_bool(0.4).then_some(())?;
            let mut lie = answer.clone();
            let what = match random.random_range(0..4) {
                0 => {
                    let vector = lie.vector.get_or_insert_default();
                    let mut origins: Vec<_> =
                        vector.clocks.iter().map(|clock| clock.origin.clone()).collect();
                    let invented = stranger(random);
                    let invented = codec::stamp_to_proto(Stamp { origin: invented, clock: CLAIMED }).origin;
                    let origin = any(random, &mut origins).cloned().unwrap_or(invented);
                    vector.clocks.push(proto::Stamp { origin, clock: CLAIMED.0 });
                    "lies: a summary of clocks that it has not"
                }
                1 => {
                    flip(&mut lie.record_buckets, random)?;
                    "lies: a digest altered"
                }
                2 => {
                    flip(&mut lie.tombstone_buckets, random)?;
                    "lies: a digest altered"
                }
                _ => {
                    lie.digest.get_or_insert_default().has_collected = true;
                    "lies: a digest without tombstones"
                }
            };
            Some((what, lie))
        });
        Ok(altered.unwrap_or(answer))
    }

    async fn list_bucket(
        &self,
        request: proto::ListBucketRequest,
    ) -> Result<proto::ListBucketResponse, RemoteError> {
        let answer = Remote::list_bucket(&self.store, request).await?;
        let altered = self.draw(|random| {
            let mut lie = answer.clone();
            let item = any(random, &mut lie.items)?;
            match random.random_range(0..4) {
                0 => flip(&mut item.digest, random)?,
                1 => item.deleted = !item.deleted,
                2 => flip(&mut item.key_hash, random)?,
                _ => drop(lie.items.pop()),
            }
            Some(("lies: an item of a bucket altered", lie))
        });
        Ok(altered.unwrap_or(answer))
    }

    async fn hash_records(
        &self,
        request: proto::HashRecordsRequest,
    ) -> Result<proto::HashRecordsResponse, RemoteError> {
        let answer = Remote::hash_records(&self.store, request).await?;
        let altered = self.draw(|random| {
            let mut lie = answer.clone();
            match random.random_range(0..3) {
                0 => flip(&mut lie.records, random)?,
                1 => flip(&mut lie.tombstones, random)?,
                _ => flip(&mut lie.through, random)?,
            }
            Some(("lies: a hash altered", lie))
        });
        Ok(altered.unwrap_or(answer))
    }

    async fn fetch_states(
        &self,
        request: proto::FetchStatesRequest,
    ) -> Result<proto::FetchStatesResponse, RemoteError> {
        let mut answer = Remote::fetch_states(&self.store, request).await?;
        let read = |record: &proto::KeyedState| {
            let key_hash = KeyHash::try_from(record.key_hash.as_ref()).ok()?;
            Some((key_hash, codec::state_from_proto(record.state.clone()?).ok()?))
        };
        let known: Vec<(KeyHash, RecordState)> = answer.states.iter().filter_map(read).collect();
        answer.states = known
            .iter()
            .enumerate()
            .map(|(index, (key_hash, state))| {
                keyed(*key_hash, &self.shown(state, &known[(index + 1) % known.len()].1))
            })
            .collect();
        let invented = self.draw(|_| {
            let (key_hash, state) = known.first()?;
            let (state, bare) = states::invented(state);
            let new = states::behind(key_hash)?;
            Some(("lies: an invented record", (keyed(new, &state), bare)))
        });
        if let Some((record, bare)) = invented {
            self.bare.fetch_add(u64::from(!bare.is_empty()), Ordering::SeqCst);
            answer.states.push(record);
        }
        if self.draw(|random| random.random_bool(0.2).then_some(("lies: no births", ()))).is_some() {
            answer.births.clear();
        }
        self.draw(|random| {
            let leaves = any(random, &mut answer.bundles)?;
            flip(&mut leaves.signed, random).map(|()| ("lies: a bundle altered", ()))
        });
        Ok(answer)
    }
}

impl World {
    /// A node's records, as it shows them to others.
    pub fn shown(&mut self, node: usize) -> Option<Shown> {
        let store = self.store(node)?;
        let (seed, chance) = match self.is_liar(node) {
            true => (self.random.random(), self.liars.chance),
            false => (0, 0.0),
        };
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Some(Shown { store, random, chance, bare: AtomicU64::default(), lies: Mutex::default() })
    }

    /// Notes how a node lied in its answers. `unproven`: how many of its states were refused, in part or as a whole;
    /// `None`: an answer was refused as a whole.
    ///
    /// Claim: an honest node refuses every state that lacks a proof.
    pub fn note_answers(&mut self, node: usize, from: &Shown, sender: usize, unproven: Option<u64>) {
        for what in from.lies.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.note_lie(sender, node, Lie::silent(what));
        }
        let bare = from.bare.load(Ordering::SeqCst);
        let Some(unproven) = unproven else { return };
        if unproven > 0 {
            self.refuse_claim(node, sender, "state");
        }
        if bare > 0 {
            self.check_refused(node, sender, Some(Lie::shown("an unproven state")), unproven > 0);
        }
    }

    /// A read asks another node for a record that it does not have (yet).
    ///
    /// Claim: it is shown nothing that nobody did.
    pub async fn peek_somewhere(&mut self) {
        let (node, other) = self.any_pair();
        let key_hash = key(self.random.random_range(0..self.profile.keys));
        if !self.are_connected(node, other) {
            return;
        }
        let other_key = key(self.random.random_range(0..self.profile.keys));
        let Some(shown) = self.shown(other) else { return };
        let state = shown.store.get(key_hash).await.expect("the store reads");
        let another = shown.store.get(other_key).await.expect("the store reads").unwrap_or_default();
        let Some(state) = state else { return };
        let births = shown.store.births_of([&state]).await.expect("the store reads");
        let chains = shown.store.chains_of([&state]).await.expect("the store reads");
        let genuine = [state.clone(), another.clone()];
        let state = Some(codec::state_to_proto(&shown.shown(&state, &another)));
        let bundles = shown.store.bundles_of(&genuine).await.expect("the store reads");
        let response = proto::PeekResponse { state, births, chains, bundles };
        let Some(verifier) = self.running(node).map(|running| running.verifier.clone()) else { return };
        let believed = peek::believed(&verifier, key_hash, response).await;
        self.note_answers(node, &shown, other, believed.as_ref().ok().map(|(_, unproven)| *unproven as u64));
        self.tally.add("peeks", 1);
        if let Ok((state, _)) = believed
            && !self.is_liar(node)
        {
            self.check_was_done(&key_hash, &state, &format!("what {node} is told by {other}"));
        }
    }
}
