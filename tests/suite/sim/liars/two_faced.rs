//! A liar that signs two histories of a log with the key of its genuine birth, and shows each node one of them, or now
//! and then the other.

use super::{LIARS, Lie, Operator};
use crate::{
    harness::{
        identity::TestOrigin,
        store::{NOW, creation, entry, key, origin, payload},
    },
    sim::{network::Message, profile::Profile, world::World},
};
use brock_core::{
    base::{id::Origin, vector::Clock},
    domain::{head::Head, operation::Operation, order::Subject},
    proto,
};
use rand::{Rng, rngs::StdRng};

pub const TWO_HISTORIES: &str = "lies: another history";

/// Keys that only one of the histories is about.
const MARKS: [u64; 2] = [101, 102];

/// An incarnation of a liar's.
#[derive(Debug)]
pub struct TwoFaced {
    pub liar: usize,
    pub origin: Origin,
    /// The batches of each history, in order, each with the head that the log ends there. The first ones may be those
    /// of both.
    faces: [Vec<(proto::Batch, Head)>; 2],
    /// Up to here the two histories are one.
    common: Clock,
    /// Which history each node is shown mostly.
    shown: Vec<usize>,
}

impl TwoFaced {
    pub fn of(random: &mut StdRng, profile: &Profile, liars: [usize; LIARS], now: u64) -> Self {
        let liar = liars[random.random_range(0..LIARS)];
        let origin = origin(&format!("store-{liar}"), random.random());
        let signer = TestOrigin::new(origin);
        let common = random.random_range(0..3);
        let first = log(random, &signer, (0, 100), common, (profile.keys, Some(now)));
        let mut logs = [first.clone(), first];
        for (log_of, mark) in logs.iter_mut().zip(MARKS) {
            let length = random.random_range(1..6);
            log_of.extend(log(random, &signer, (common, mark), length, (profile.keys, Some(now))));
        }
        let with_head = |batch: proto::Batch| {
            let head = signer.head(&batch, now * 1000);
            (batch, head)
        };
        let faces = logs.map(|log| log.into_iter().map(with_head).collect());
        let shown = (0..profile.stores).map(|_| random.random_range(0..2)).collect();
        Self { liar, origin, faces, common: Clock(common), shown }
    }

    /// Without signatures, which differ each time.
    pub fn describe(&self) -> String {
        let ends = |face: &[(proto::Batch, Head)]| -> Vec<u64> {
            face.iter().map(|(batch, _)| batch.covered_through).collect()
        };
        let [one, other] = [&self.faces[0], &self.faces[1]].map(|face| ends(face));
        format!("{} as {} after {}: {one:?} and {other:?}", self.liar, self.origin, self.common)
    }

    /// All that it has signed.
    pub fn batches(&self) -> impl Iterator<Item = &proto::Batch> {
        self.faces.iter().flatten().map(|(batch, _)| batch)
    }

    pub fn heads(&self) -> impl Iterator<Item = &Head> {
        self.faces.iter().flatten().map(|(_, head)| head)
    }

    fn face(&self, random: &mut StdRng, to: usize) -> usize {
        let shown = self.shown[to];
        if random.random_bool(0.1) { 1 - shown } else { shown }
    }

    /// A head of the history that a node is not shown.
    pub fn other_head(&self, random: &mut StdRng, to: usize) -> Option<Head> {
        let face = &self.faces[1 - self.shown[to]];
        let index = random.random_range(0..face.len());
        face.get(index).map(|(_, head)| *head).filter(|head| head.clock() > self.common)
    }
}

/// So many operations, under one signature or several, about so many keys. With a time, what destroys has an operator's
/// order.
pub fn log(
    random: &mut StdRng,
    signer: &TestOrigin,
    (after, mark): (u64, u64),
    length: u64,
    (keys, ordered): (u64, Option<u64>),
) -> Vec<proto::Batch> {
    let entries = (after + 1..=after + length).map(|clock| {
        let payload = payload(&[random.random_range(0..3)]);
        // The first is of a record that the other history has nothing of.
        let number = key(if clock == after + 1 { mark } else { random.random_range(0..keys) });
        let operation = match random.random_range(0..6) {
            0 => Operation::Delete,
            1 => Operation::Unpublish,
            2 => {
                let reason = ["leaked", "stolen"][random.random_range(0..2)].to_owned();
                let at = NOW + random.random_range(0..2);
                Operation::Invalidate { at: ordered.map_or(at, |now| Operator::get().time(now)), reason }
            }
            _ => creation(NOW + random.random_range(0..2), &payload),
        };
        let is_create = matches!(operation, Operation::Create { .. });
        let plain = entry(clock, number, &operation, is_create.then_some(&payload));
        let order = ordered.zip(Subject::of(&operation, &number));
        let order = order.map(|(now, subject)| Operator::get().order(subject, now));
        proto::Entry { operation: operation.encode_with(order.as_ref()), ..plain }
    });
    let mut rest: Vec<proto::Entry> = entries.collect();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let part: Vec<_> = rest.drain(..random.random_range(1..=rest.len())).collect();
        let mut batch = signer.sign(part[0].clock - 1, part);
        batch.certificates.extend(ordered.map(|_| Operator::get().chain.to_proto()));
        batches.push(batch);
    }
    batches
}

impl World {
    /// The two-faced liar sends the next part of one of its histories. Returns whether it did.
    pub fn show_a_face(&mut self, donor: usize, puller: usize) -> bool {
        let Some(two_faced) = self.liars.two_faced.as_ref().filter(|two_faced| two_faced.liar == donor)
        else {
            return false;
        };
        let Some(clock) = self.store(puller).map(|store| store.clock(&two_faced.origin)) else {
            return false;
        };
        if self.running(donor).is_none() {
            return false;
        }
        let face = two_faced.face(&mut self.random, puller);
        let next = two_faced.faces[face].iter().find(|(batch, _)| batch.after == clock.0);
        let Some(batch) = next.map(|(batch, _)| batch.clone()) else { return false };
        if batch.covered_through > two_faced.common.0 {
            self.note_lie(donor, puller, Lie::silent(TWO_HISTORIES));
        }
        self.remember_batch(&batch);
        self.send(donor, puller, Message::Batch(Box::new(batch)));
        true
    }

    /// Claim: an honest node freezes only what has signed two histories or births, lists nothing of it, and what it
    /// keeps of heads is signed, and is not of another history than the log here.
    pub async fn check_histories(&mut self, node: usize) {
        let Some(store) = self.store(node).filter(|_| !self.is_liar(node)) else { return };
        for fork in store.forks() {
            let origin = fork.origin();
            assert!(self.history.is_two_faced(&origin), "{node} has frozen {origin}, which has one history");
            let listed = store.vector().lists(&origin) || store.folds().lists(&origin);
            assert!(!listed, "{node} lists {origin}, which it has frozen");
        }
        for head in store.newest_heads(usize::MAX) {
            let origin = head.origin;
            assert!(self.liars.has_signed(&head), "{node} keeps a head of {origin} that it has not signed");
            // Behind what a donor's word has brought, no head is compared again.
            let is_compared = head.clock() >= store.clock(&origin) && !store.is_frozen(&origin);
            if !is_compared || !self.history.is_two_faced(&origin) {
                continue;
            }
            let contradiction = store.contradiction(origin, head.tip).await.expect("the store reads");
            assert!(
                contradiction.is_none(),
                "{node} knows a head of another history of {origin}, and goes on"
            );
        }
    }
}
