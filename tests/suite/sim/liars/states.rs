//! What a liar makes of a record's state, wherever it shows it.

use super::{any, flip};
use crate::sim::history::saying;
use brock_core::{
    base::{id::KeyHash, vector::Stamp},
    domain::{
        bundle::{self, Bundle, Tip},
        evidence::Evidence,
        leaves::Leaves,
        proofs::Proofs,
        record::{Invalidation, RecordState},
    },
    proto,
};
use rand::{Rng, rngs::StdRng};

/// Alters a state; `None`: this one cannot be altered so. The other one is a genuine state of another record.
type Alteration = fn(&mut StdRng, &mut RecordState, &RecordState) -> Option<()>;

const ALL: [(&str, Alteration); 11] = [
    ("lies: evidence left out", |random, state, _| {
        let one = any(random, &mut state.evidence)?.clone();
        state.evidence.retain(|evidence| *evidence != one);
        Some(())
    }),
    ("lies: evidence of another record", |random, state, other| {
        let (_, evidence) = any(random, &mut state.evidence)?;
        *evidence = any(random, &mut other.evidence.clone())?.1.clone();
        Some(())
    }),
    ("lies: evidence altered", |random, state, _| {
        let (_, evidence) = any(random, &mut state.evidence)?;
        let mut operation = evidence.operation().clone();
        flip(&mut operation, random)?;
        *evidence = Evidence::new(operation, (evidence.first, evidence.count), evidence.root);
        Some(())
    }),
    ("lies: another bundle named", |random, state, other| {
        let (_, evidence) = any(random, &mut state.evidence)?;
        evidence.root = any(random, &mut other.evidence.clone())?.1.root;
        Some(())
    }),
    ("lies: an invented invalidation", |random, state, other| {
        let stamp = a_stamp(random, state, other)?;
        state.invalidation = Some(Invalidation { at: 1, reason: "a lie".to_owned(), stamp });
        state.deletion.is_none().then_some(())
    }),
    ("lies: an invented delete", |random, state, other| {
        let deletion = Some(a_stamp(random, state, other)?);
        *state = RecordState { deletion, was_created: true, ..RecordState::default() };
        Some(())
    }),
    ("lies: an earlier expiry", |_, state, _| {
        state.expiry = Some(state.creation.as_ref()?.stamp);
        state.expires_at = Some(1);
        Some(())
    }),
    ("lies: a loser left out", |random, state, _| {
        let index = random.random_range(0..state.losers.len().max(1));
        state.losers.get(index)?;
        state.losers.remove(index);
        Some(())
    }),
    ("lies: a record left private", |_, state, _| {
        state.unpublication.take()?;
        state.unpublished = state.unpublished_create.is_some();
        Some(())
    }),
    ("lies: an invalidation left out", |_, state, _| state.invalidation.take().map(drop)),
    ("lies: a payload left out of a state", |_, state, _| state.creation.as_mut()?.payload.take().map(drop)),
];

/// How states are altered.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(what, _)| *what)
}

/// That some node has given to something.
fn a_stamp(random: &mut StdRng, state: &RecordState, other: &RecordState) -> Option<Stamp> {
    let mut stamps: Vec<Stamp> = other.stamps().chain(state.stamps()).collect();
    any(random, &mut stamps).copied()
}

/// A state as a liar shows it, how it was altered, and the operations that it has no proof for any more; `None`: as it
/// is.
pub fn altered(
    random: &mut StdRng,
    state: &RecordState,
    other: &RecordState,
) -> Option<(RecordState, &'static str, Vec<Stamp>)> {
    let (what, alteration) = ALL[random.random_range(0..ALL.len())];
    let mut lie = state.clone();
    alteration(random, &mut lie, other)?;
    // In the one form that nodes take.
    let lie = lie.join(RecordState::default());
    let genuine = lie.evidence.iter().filter(|one| state.evidence.contains(one)).cloned().collect();
    let genuine = Proofs::of(&genuine);
    let bare = lie.parts().filter(|(stamp, part)| !genuine.prove(*stamp, *part));
    let bare = bare.map(|(stamp, _)| stamp).collect();
    (lie != *state).then_some((lie, what, bare))
}

/// A record that nobody made, of the parts of one that somebody did; and the operations that it has no proof for.
pub fn invented(state: &RecordState) -> (RecordState, Vec<Stamp>) {
    let state = RecordState { evidence: Default::default(), ..state.clone() };
    let bare = state.stamps().collect();
    (state, bare)
}

/// The same with evidence, and bundles of the liar's own.
pub fn forged(key_hash: &KeyHash, state: &RecordState) -> (RecordState, Vec<proto::Leaves>) {
    let mut forged = RecordState { evidence: Default::default(), ..state.clone() };
    let mut bundles = Vec::new();
    for (stamp, part) in state.parts() {
        let operation = saying(part).encode();
        let root = bundle::leaf(stamp, &key_hash.0, &operation);
        let bundle = Bundle { first: stamp.clock, count: 1, before: [0; 32], signature: [1; 64] };
        let tip = Tip { bundle, root };
        forged.evidence.push((stamp, tip.evidence(operation)));
        bundles.extend(Leaves::new(tip, vec![root]).map(|leaves| leaves.to_proto(stamp.origin)));
    }
    (forged.canonical(), bundles)
}

/// The key hash behind another one.
pub fn behind(key_hash: &KeyHash) -> Option<KeyHash> {
    let mut bytes = key_hash.0;
    bytes[31] = bytes[31].checked_add(1)?;
    Some(KeyHash(bytes))
}
