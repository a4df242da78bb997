//! A certificate authority for stores without nodes: nothing but a secret that they all know; and origins.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use super::{certs::Certs, store};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use brock::{
    node::certificate::NodeCertificate,
    store::{Certified, Identity, Options, Store, StoreError},
    transfer::proof::Verifier,
};
use brock_core::{
    base::{
        id::{ClusterId, NodeId, Origin, sha256},
        trust::TrustMode,
        vector::{Clock, Stamp},
    },
    domain::{
        acknowledgement::{self, Acknowledgement},
        birth::{Birth, Previous, SignedBirth, Standing, Unbelieved},
        bundle::{self, Bundle, Hash, Tip},
        head::{self, Head},
        record::UnixSeconds,
        segment::Segment,
    },
    proto,
};
use bytes::Bytes;
use rustls::{SignatureScheme, crypto::aws_lc_rs::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// When origins were born, unless a test says otherwise.
const BORN_AT: UnixSeconds = 1_700_000_000;

/// Schemes of births whose certificates are accepted at their date only, or not any more.
pub const EXPIRED: u16 = 2;
pub const REVOKED: u16 = 3;

/// With a certificate of the store's node.
pub fn signing(options: Options) -> Options {
    Options { identity: Some(Arc::new(TestIdentity::new(options.node_id.clone()))), ..options }
}

/// Believes only what is proven, and asks for no orders.
pub fn strict(store: &Store) -> Verifier {
    Verifier::new(store.clone(), TrustMode::Distributed, None)
}

/// Believes origins that have never signed.
pub fn trusting(store: &Store) -> Verifier {
    Verifier::new(store.clone(), TrustMode::Centralized, None)
}

/// Applies a batch that a relay has sent, as far as it is proven.
pub async fn take(store: &Store, batch: proto::Batch) -> Result<(), StoreError> {
    let segment =
        strict(store).check_segment(&store::node_id("relay"), Segment::check(batch).unwrap()).unwrap();
    store.apply(segment).await.map(drop)
}

/// The certificate of a store's node.
#[derive(Debug)]
pub struct TestIdentity(NodeId);

impl TestIdentity {
    pub fn new(node_id: NodeId) -> Self {
        Self(node_id)
    }

    fn signature(node_id: &NodeId, content: &[u8]) -> Bytes {
        sha256(&[b"the secret of the CA", node_id.as_str().as_bytes(), content].concat()).to_vec().into()
    }
}

impl Identity for TestIdentity {
    fn cluster(&self) -> Option<ClusterId> {
        Some(ClusterId::of("test"))
    }

    fn sign(&self, content: &[u8]) -> Result<Certified, String> {
        Ok(Certified {
            scheme: 1,
            signature: Self::signature(&self.0, content),
            certificates: vec![Bytes::copy_from_slice(self.0.as_str().as_bytes())],
        })
    }

    fn verify(&self, signed: &SignedBirth) -> Result<(), Unbelieved> {
        let content = signed.birth.content(&ClusterId::of("test"));
        let expected = Self::signature(&signed.birth.origin.node_id(), &content);
        match signed.signature == expected {
            true if signed.scheme == REVOKED => Err(Unbelieved::Revoked),
            true => Ok(()),
            false => Err(Unbelieved::Other("forged".to_owned())),
        }
    }

    fn standing(&self, signed: &SignedBirth) -> Option<Standing> {
        let content = signed.birth.content(&ClusterId::of("test"));
        let is_genuine = signed.signature == Self::signature(&signed.birth.origin.node_id(), &content);
        is_genuine.then_some(if signed.scheme == EXPIRED { Standing::Past } else { Standing::Present })
    }
}

/// The holder of any certificate, who claims to be a node of some cluster. The signature is made here and not by what
/// nodes sign with: nothing keeps a thief from signing with an expired certificate.
#[derive(Debug)]
pub struct Hand {
    chain: Vec<Bytes>,
    key: Arc<dyn SigningKey>,
    cluster: ClusterId,
}

impl Hand {
    /// With the certificate in a directory, of whatever role.
    pub fn of(certs_dir: &Path, trust_domain: &str) -> Self {
        let stem = if certs_dir.join("client.crt").exists() { "client" } else { "node" };
        let file = |end: &str| certs_dir.join(format!("{stem}.{end}"));
        let chain = CertificateDer::pem_file_iter(file("crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        Self {
            chain: chain.map(|der| Bytes::copy_from_slice(&der.unwrap())).collect(),
            key: any_supported_type(&key).unwrap(),
            cluster: ClusterId::of(trust_domain),
        }
    }
}

impl Identity for Hand {
    fn cluster(&self) -> Option<ClusterId> {
        Some(self.cluster)
    }

    fn sign(&self, content: &[u8]) -> Result<Certified, String> {
        let message = [&[b' '; 64][..], b"Brock origin birth", &[0], content].concat();
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
        let signer = self.key.choose_scheme(&schemes).unwrap();
        let signature = signer.sign(&message).unwrap().into();
        Ok(Certified { scheme: signer.scheme().into(), signature, certificates: self.chain.clone() })
    }

    fn verify(&self, _: &SignedBirth) -> Result<(), Unbelieved> {
        Err(Unbelieved::Other("a hand only signs".to_owned()))
    }

    fn standing(&self, _: &SignedBirth) -> Option<Standing> {
        None
    }
}

/// An origin that a test speaks for, with the key of a birth.
pub struct TestOrigin {
    pub origin: Origin,
    cluster: ClusterId,
    key: Ed25519KeyPair,
    birth: proto::Birth,
    /// The hash of what it has signed last, up to each clock.
    chains: Mutex<BTreeMap<u64, Hash>>,
}

impl TestOrigin {
    /// Of a store without a node.
    pub fn new(origin: Origin) -> Self {
        Self::born(origin, &TestIdentity::new(origin.node_id()), None, BORN_AT)
    }

    /// The same, whose node's incarnation before has ended there.
    pub fn after(origin: Origin, last: Stamp) -> Self {
        let previous = Previous { last, chain: [1; 32] };
        Self::born(origin, &TestIdentity::new(origin.node_id()), Some(previous), BORN_AT)
    }

    /// An operation of its.
    pub fn stamp(&self, clock: u64) -> Stamp {
        Stamp { origin: self.origin, clock: Clock(clock) }
    }

    /// Of a node with a certificate of this CA.
    pub fn certified(certs: &Certs, origin: Origin) -> Self {
        let identity = NodeCertificate::new(certs.node_identity(origin.node_id().as_str()));
        Self::born(origin, &identity, None, BORN_AT)
    }

    /// Whose birth anybody has signed, and dated.
    pub fn signed_by(hand: &Hand, origin: Origin, born_at: UnixSeconds) -> Self {
        Self::born(origin, hand, None, born_at)
    }

    fn born(
        origin: Origin,
        identity: &dyn Identity,
        previous: Option<Previous>,
        born_at: UnixSeconds,
    ) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let public = key.public_key().as_ref().try_into().unwrap();
        let birth = Birth { origin, key: public, born_at, previous };
        let cluster = identity.cluster().unwrap();
        let Certified { scheme, signature, certificates } = identity.sign(&birth.content(&cluster)).unwrap();
        let chains = Mutex::new(BTreeMap::from([(0, birth.chain(&cluster))]));
        let birth =
            SignedBirth { birth, scheme, signature, certificates, vouched_at_unix_ms: None }.to_proto();
        Self { origin, cluster, key, birth, chains }
    }

    /// Its birth.
    pub fn birth(&self) -> proto::Birth {
        self.birth.clone()
    }

    /// Signs that it has applied a log up to there.
    pub fn acknowledge(&self, applied: Stamp, chain: [u8; 32]) -> proto::Acknowledgement {
        let content = acknowledgement::content(&self.cluster, &self.origin, applied, &chain);
        let signature = self.key.sign(&content).as_ref().try_into().unwrap();
        Acknowledgement { member: self.origin, applied, chain, signature }.to_proto()
    }

    /// States that the log ends with this batch of one bundle.
    pub fn head(&self, batch: &proto::Batch, at_unix_ms: u64) -> Head {
        self.head_in(&self.cluster, batch, at_unix_ms)
    }

    /// The same as if it were in another cluster.
    pub fn head_in(&self, cluster: &ClusterId, batch: &proto::Batch, at_unix_ms: u64) -> Head {
        let stamp = |clock| Stamp { origin: self.origin, clock: Clock(clock) };
        let leaf = |entry: &proto::Entry| bundle::leaf(stamp(entry.clock), &entry.key_hash, &entry.operation);
        let root = bundle::root(&batch.entries.iter().map(leaf).collect::<Vec<_>>());
        let before = batch.chain.as_ref().try_into().unwrap();
        let bundle = Bundle::from_proto(Clock(batch.after + 1), before, &batch.bundles[0]).unwrap();
        let tip = Tip { bundle, root };
        let content = head::content(cluster, &self.origin, &tip, at_unix_ms);
        let signature = self.key.sign(&content).as_ref().try_into().unwrap();
        Head { origin: self.origin, tip, at_unix_ms, signature }
    }

    /// These entries, each under a signature of its own.
    pub fn sign_each(&self, after: u64, entries: Vec<proto::Entry>) -> proto::Batch {
        let mut all =
            proto::Batch { birth: Some(self.birth.clone()), ..store::batch(self.origin, after, vec![]) };
        for entry in entries {
            let next = self.sign(entry.clock - 1, vec![entry]);
            if all.entries.is_empty() {
                all.chain = next.chain;
            }
            all.covered_through = next.covered_through;
            all.entries.extend(next.entries);
            all.bundles.extend(next.bundles);
        }
        all
    }

    /// These entries, under one signature, behind what it has signed last up to `after`.
    pub fn sign(&self, after: u64, entries: Vec<proto::Entry>) -> proto::Batch {
        let before = *self.chains.lock().unwrap().get(&after).expect("it has signed that");
        let stamp = |clock| Stamp { origin: self.origin, clock: Clock(clock) };
        let leaf = |entry: &proto::Entry| bundle::leaf(stamp(entry.clock), &entry.key_hash, &entry.operation);
        let root = bundle::root(&entries.iter().map(leaf).collect::<Vec<_>>());
        let (first, count) = (Clock(after + 1), u8::try_from(entries.len()).unwrap());
        let content = bundle::content(&self.cluster, &self.origin, (first, count), &before, &root);
        let signature = self.key.sign(&content).as_ref().try_into().unwrap();
        let bundle = Bundle { first, count, before, signature };
        self.chains.lock().unwrap().insert(bundle.last().0, Tip { bundle, root }.chain());
        proto::Batch {
            bundles: vec![bundle.to_proto()],
            birth: Some(self.birth.clone()),
            chain: Bytes::copy_from_slice(&before),
            ..store::batch(self.origin, after, entries)
        }
    }
}
