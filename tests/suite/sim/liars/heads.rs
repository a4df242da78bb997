//! What a liar makes of the heads that it passes on, and of proofs of forks.

use std::collections::BTreeSet;

use super::{Lie, any, flip};
use crate::sim::world::World;
use brock::store::Store;
use brock_core::{
    base::limits,
    domain::{bundle::Tip, fork::Fork, head::Head},
    proto,
};
use bytes::Bytes;
use prost::Message as _;
use rand::Rng;

const FUTURE: &str = "lies: a head from the future";
const FALSE_FORK: &str = "lies: a proof of two histories where there is one";

/// How heads are altered.
pub const KINDS: [&str; 7] = [
    FUTURE,
    FALSE_FORK,
    "lies: a head altered",
    "lies: a head of another origin",
    "lies: an old head",
    "lies: a head of another history",
    "lies: heads left out",
];

/// Heads that were signed, in the order in which they were met first.
#[derive(Debug, Default)]
pub struct Signed {
    known: BTreeSet<Vec<u8>>,
    heads: Vec<proto::Head>,
}

impl Signed {
    pub fn note(&mut self, head: &proto::Head) {
        if self.known.insert(head.encode_to_vec()) {
            self.heads.push(head.clone());
        }
    }

    pub fn has(&self, head: &Head) -> bool {
        self.known.contains(&head.to_proto().encode_to_vec())
    }
}

impl World {
    /// Notes what a node has signed itself of the heads that it sends.
    pub fn note_heads(&mut self, store: &Store, heads: &proto::Heads) {
        let own = store.origin();
        for head in heads.heads.iter().filter(|head| head.origin == own.as_bytes()[..]) {
            self.liars.signed.note(head);
        }
    }

    /// The heads of a liar as they leave it.
    pub fn altered_heads(&mut self, to: usize, heads: &mut proto::Heads) -> Option<Lie> {
        let what = KINDS[self.random.random_range(0..KINDS.len())];
        let mut lie = any(&mut self.random, &mut heads.heads).cloned();
        let random = &mut self.random;
        match what {
            FUTURE => {
                let ahead = limits::CLOCK_SKEW_MAX_SECONDS + random.random_range(60..600);
                lie.as_mut()?.at_unix_ms = (self.now + ahead) * 1000;
            }
            FALSE_FORK => {
                heads.forks.push(self.false_fork(&heads.tips)?);
                return Some(Lie::shown(FALSE_FORK));
            }
            "lies: a head altered" => {
                let head = lie.as_mut()?;
                let tip = head.tip.as_mut()?;
                match random.random_range(0..4) {
                    0 => flip(&mut head.signature, random)?,
                    1 => flip(&mut tip.root, random)?,
                    2 => tip.first += random.random_range(1..9),
                    _ => head.at_unix_ms = head.at_unix_ms.saturating_sub(random.random_range(1..9)),
                }
            }
            "lies: a head of another origin" => {
                let mut others: Vec<Bytes> = heads.tips.iter().map(|tip| tip.origin.clone()).collect();
                lie.as_mut()?.origin = any(random, &mut others)?.clone();
            }
            "lies: an old head" => lie = Some(any(random, &mut self.liars.signed.heads)?.clone()),
            "lies: a head of another history" => {
                lie = Some(self.liars.two_faced.as_ref()?.other_head(random, to)?.to_proto());
            }
            _ => {
                lie.as_ref()?;
                heads.heads.clear();
                return Some(Lie::silent("lies: heads left out"));
            }
        }
        let lie = lie.filter(|lie| !heads.heads.contains(lie))?;
        // Where it stands decides what of the others is read.
        let place = random.random_range(0..=heads.heads.len());
        heads.heads.insert(place, lie);
        Some(Lie { what, shows: what == FUTURE })
    }

    /// That an origin, an honest one too, has signed something else than what a tip shows.
    fn false_fork(&mut self, tips: &[proto::OriginTip]) -> Option<proto::Fork> {
        let mut tips: Vec<proto::OriginTip> = tips.to_vec();
        let shown = any(&mut self.random, &mut tips)?.clone();
        let (origin, one) = Tip::with_origin(&shown)?;
        let mut births = self.liars.heard.iter().filter(|batch| batch.origin == origin.as_bytes()[..]);
        let birth = births.find_map(|batch| batch.birth.clone())?;
        let mut other = one.to_proto();
        flip(&mut other.root, &mut self.random)?;
        Some(proto::Fork {
            birth: Some(birth),
            one: Some(one.to_proto()),
            other: Some(other),
            other_birth: None,
        })
    }

    /// A node takes the proofs, the last bundles and the signed heads of a donor, as a round does.
    pub async fn take_histories(
        &mut self,
        puller: usize,
        donor: usize,
        heads: &mut proto::Heads,
        lie: Option<Lie>,
    ) {
        let Some(running) = self.running(puller) else { return };
        let (verifier, now_ms) = (running.verifier.clone(), running.wall_clock.now_ms());
        let stream = running.streams.get(&donor);
        let store = running.store.clone();
        // Of what is frozen already, no proof is looked at.
        let is_frozen = |fork: &proto::Fork| {
            Fork::from_proto(fork.clone()).is_ok_and(|fork| store.is_frozen(&fork.origin()))
        };
        let lie = lie.filter(|lie| lie.what != FALSE_FORK || !heads.forks.iter().any(is_frozen));
        // On a slow way, or by a clock that is ahead, the future has become the present.
        let latest = now_ms + limits::CLOCK_SKEW_MAX_SECONDS * 1000;
        let is_ahead = heads.heads.iter().any(|head| head.at_unix_ms > latest);
        let lie = lie.filter(|lie| lie.what != FUTURE || is_ahead);
        let lied_before = stream.is_some_and(|stream| stream.lies_of_history);
        let mut is_refused = lied_before;
        if !lied_before {
            let forks =
                verifier.take_forks(std::mem::take(&mut heads.forks)).await.expect("the store freezes");
            let tips = std::mem::take(&mut heads.tips);
            self.tally.add("logs compared by their last bundles", tips.len() as u64);
            let tips = verifier.compare_tips(tips).await.expect("the store freezes");
            if forks + tips > 0 {
                is_refused = true;
                self.refuse_claim(puller, donor, "history");
                let stream = self.running_mut(puller).and_then(|running| running.streams.get_mut(&donor));
                stream.into_iter().for_each(|stream| stream.lies_of_history = true);
            }
        }
        let signed = std::mem::take(&mut heads.heads);
        self.tally.add("heads shown", signed.len() as u64);
        let refused = verifier.take_heads(signed, now_ms).await.expect("the store freezes");
        if refused > 0 {
            self.refuse_claim(puller, donor, "head");
        }
        let is_history = lie.is_some_and(|lie| lie.what == FALSE_FORK);
        self.check_refused(puller, donor, lie, if is_history { is_refused } else { refused > 0 });
        self.check_histories(puller).await;
    }
}
