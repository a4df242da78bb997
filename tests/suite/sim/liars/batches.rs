//! What a liar makes of a batch: a relay's ways to alter a log, and an origin's own.

use super::{Lie, any, flip, stranger};
use crate::harness::{identity::TestIdentity, store};
use brock::store::{Certified, Identity as _};
use brock_core::{
    base::id::Origin,
    domain::birth::{Birth, SignedBirth},
    proto,
};
use bytes::Bytes;
use rand::{Rng, rngs::StdRng};

pub const SECOND_BIRTH: &str = "lies: a second birth";

/// Alters a batch; `None`: this one cannot be altered so. The others are genuine.
type Alteration = fn(&mut StdRng, &mut proto::Batch, &[proto::Batch]) -> Option<()>;

/// Those that the batch shows.
const SHOWN: [(&str, Alteration); 16] = [
    ("lies: an operation altered", |random, batch, _| {
        flip(&mut any(random, &mut batch.entries)?.operation, random)
    }),
    ("lies: a key hash altered", |random, batch, _| {
        flip(&mut any(random, &mut batch.entries)?.key_hash, random)
    }),
    ("lies: a payload altered", |random, batch, _| {
        flip(any(random, &mut batch.entries)?.payload.as_mut()?, random)
    }),
    ("lies: a signature altered", |random, batch, _| {
        flip(&mut any(random, &mut batch.bundles)?.signature, random)
    }),
    ("lies: an entry dropped", |random, batch, _| {
        let index = random.random_range(0..batch.entries.len());
        batch.entries.remove(index);
        Some(())
    }),
    ("lies: two entries swapped", |random, batch, _| {
        let index = random.random_range(1..batch.entries.len().max(2));
        let clock = batch.entries.get(index)?.clock;
        batch.entries.swap(index, index - 1);
        // Or their places in the log too.
        if random.random() {
            batch.entries[index - 1].clock = clock - 1;
            batch.entries[index].clock = clock;
        }
        Some(())
    }),
    ("lies: a clock twice", |random, batch, _| {
        let again = any(random, &mut batch.entries)?.clone();
        let after = batch.entries.iter().position(|entry| *entry == again)?;
        batch.entries.insert(after, again);
        Some(())
    }),
    ("lies: more covered than there is", |random, batch, _| {
        batch.covered_through += random.random_range(1..4);
        Some(())
    }),
    ("lies: covered and left out", |_, batch, _| {
        batch.entries.clear();
        batch.bundles.clear();
        Some(())
    }),
    ("lies: cut inside of a bundle", |random, batch, _| {
        let last = batch.bundles.last_mut().filter(|last| last.count > 1)?;
        batch.entries.pop();
        batch.covered_through -= 1;
        if random.random() {
            last.count -= 1;
        }
        Some(())
    }),
    ("lies: two origins in one batch", |random, batch, others| {
        let other = any(random, &mut others.to_vec())?.clone();
        let entry = other.entries.first().filter(|_| other.origin != batch.origin)?.clone();
        let into = any(random, &mut batch.entries)?;
        *into = proto::Entry { clock: into.clock, ..entry };
        Some(())
    }),
    ("lies: another origin's bundle behind", |random, batch, others| {
        let other = any(random, &mut others.to_vec())?.clone();
        let moved = other.entries.iter().filter(|_| other.origin != batch.origin).cloned();
        let end = batch.covered_through;
        let moved = moved.zip(1..).map(|(entry, number)| proto::Entry { clock: end + number, ..entry });
        batch.entries.extend(moved);
        batch.covered_through = batch.entries.last()?.clock;
        batch.bundles.extend(other.bundles.iter().filter(|_| other.origin != batch.origin).cloned());
        Some(())
    }),
    ("lies: no signatures", |_, batch, _| {
        batch.bundles.clear();
        Some(())
    }),
    ("lies: another origin's log", |random, batch, others| {
        let mut origins: Vec<Bytes> = others.iter().map(|other| other.origin.clone()).collect();
        origins.retain(|other| *other != batch.origin);
        batch.origin = any(random, &mut origins)?.clone();
        if random.random() {
            batch.birth = None;
        }
        Some(())
    }),
    ("lies: an invented origin's log", |random, batch, _| {
        batch.origin = Bytes::copy_from_slice(stranger(random).as_bytes());
        if random.random() {
            batch.birth = None;
        }
        Some(())
    }),
    ("lies: a log moved up", |_, batch, _| {
        batch.after += 1;
        batch.covered_through += 1;
        batch.entries.iter_mut().for_each(|entry| entry.clock += 1);
        Some(())
    }),
];

/// Those that it does not show.
const SILENT: [(&str, Alteration); 4] = [
    ("lies: no birth", |_, batch, _| batch.birth.take().map(drop)),
    ("lies: no certificates of operators", |_, batch, _| {
        batch.certificates.pop()?;
        Some(())
    }),
    ("lies: a payload left out", |random, batch, _| {
        any(random, &mut batch.entries)?.payload.take().map(drop)
    }),
    ("lies: an old batch", |random, batch, others| {
        *batch = any(random, &mut others.to_vec())?.clone();
        Some(())
    }),
];

/// How batches are altered.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    SHOWN.iter().chain(&SILENT).map(|(what, _)| *what)
}

/// A batch as a liar sends it; `None`: as it is.
pub fn altered(
    random: &mut StdRng,
    batch: &proto::Batch,
    others: &[proto::Batch],
) -> Option<(proto::Batch, Lie)> {
    let drawn = random.random_range(0..SHOWN.len() + SILENT.len());
    let (what, alteration) = SHOWN.iter().chain(&SILENT).nth(drawn)?;
    let mut lie = batch.clone();
    alteration(random, &mut lie, others)?;
    (lie != *batch).then_some((lie, Lie { what, shows: drawn < SHOWN.len() }))
}

/// Another key for an origin that has one, certified by its node.
pub fn second_birth(random: &mut StdRng, origin: Origin) -> proto::Batch {
    let birth = Birth { origin, key: random.random(), born_at: store::NOW, previous: None };
    let identity = TestIdentity::new(origin.node_id());
    let cluster = identity.cluster().expect("the stores are of a cluster");
    let certified = identity.sign(&birth.content(&cluster)).expect("a certificate signs");
    let Certified { scheme, signature, certificates } = certified;
    let birth = SignedBirth { birth, scheme, signature, certificates, vouched_at_unix_ms: None }.to_proto();
    proto::Batch { birth: Some(birth), ..store::batch(origin, 0, Vec::new()) }
}

pub fn origin_of(batch: &proto::Batch) -> Option<Origin> {
    Origin::try_from(batch.origin.as_ref()).ok()
}
