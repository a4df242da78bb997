//! Orders: what an operator signs so that a record is invalidated, unpublished or deleted, or a member retired.
//!
//! What is signed has a fixed layout, so that there is one encoding of it, and is made again by each node that
//! verifies it. It names the cluster, so that no order is valid in another one. An order that is replayed does
//! nothing new: what it destroys stays destroyed. (Only a retired member may return, so an order to retire is
//! valid for minutes.)

use bytes::Bytes;
use prost::Message;

use super::{
    bundle::Hash,
    codec::{self, CodecError},
    operation::{EntryError, Operation},
    record::UnixSeconds,
};
use crate::{
    base::{
        id::{ClusterId, KeyHash, NodeId, Origin, sha256},
        limits,
        vector::{Clock, Stamp},
    },
    proto,
};

/// The first bytes of every order.
const TAG: &[u8] = b"brock/order/1";

/// What an operator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// To revoke a record.
    Invalidate(&'a KeyHash, &'a str),
    /// To make a record private.
    Unpublish(&'a KeyHash),
    /// To delete a record.
    Delete(&'a KeyHash),
    /// To retire a member: a node id or an address.
    Retire(&'a str),
    /// To revoke a record that was revoked before, as of then: what was logged without an order is logged again.
    InvalidateAsOf(&'a KeyHash, &'a str, UnixSeconds),
    /// That a birth with this statement is genuine, although its certificate cannot be verified.
    Vouch(&'a Hash),
    /// To close these logs of a node.
    Close(&'a NodeId, &'a [ClosedLog]),
}

/// Where a log ends by an operator's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedLog {
    /// Whose log it is.
    pub origin: Origin,
    /// The last clock.
    pub end: Clock,
    /// The hash of what its birth states, which the operator takes for genuine up to the end; `None`: it signs nothing.
    pub birth: Option<Hash>,
}

impl ClosedLog {
    /// Reads one from a message; `None`: it is malformed.
    pub fn from_proto(log: &proto::ClosedLog) -> Option<Self> {
        let birth = match log.birth.as_ref() {
            [] => None,
            hash => Some(hash.try_into().ok()?),
        };
        Some(Self { origin: Origin::try_from(log.origin.as_ref()).ok()?, end: Clock(log.end), birth })
    }

    /// As it travels.
    pub fn to_proto(&self) -> proto::ClosedLog {
        proto::ClosedLog {
            origin: Bytes::copy_from_slice(self.origin.as_bytes()),
            end: self.end.0,
            birth: self.birth.map(|hash| Bytes::copy_from_slice(&hash)).unwrap_or_default(),
        }
    }
}

impl<'a> Subject<'a> {
    /// What an operation on a record does; `None`: it creates, which needs no order.
    pub fn of(operation: &'a Operation, key_hash: &'a KeyHash) -> Option<Self> {
        match operation {
            Operation::Create { .. } => None,
            Operation::Invalidate { reason, .. } => Some(Self::Invalidate(key_hash, reason)),
            Operation::Unpublish => Some(Self::Unpublish(key_hash)),
            Operation::Delete => Some(Self::Delete(key_hash)),
        }
    }

    /// What an operation with this order does. One that revokes as of an earlier time than that of its order says so.
    pub fn ordered(operation: &'a Operation, key_hash: &'a KeyHash, order: &OrderProof) -> Option<Self> {
        match operation {
            Operation::Invalidate { at, reason } if *at != order.at() => {
                Some(Self::InvalidateAsOf(key_hash, reason, *at))
            }
            _ => Self::of(operation, key_hash),
        }
    }

    /// The bytes that the operator signs: tag, cluster, kind, subject, time in milliseconds, reason, and the earlier
    /// time in seconds, or origins (32 bytes) each with its last clock (8) and the hash of what its birth states (32,
    /// of zeros if it has none), in their order, if there are any. A member and a reason are preceded by their lengths
    /// (4 bytes); numbers are big-endian.
    pub fn encode(&self, cluster: &ClusterId, at_unix_ms: i64) -> Vec<u8> {
        let mut bytes = [TAG, &cluster.0].concat();
        let (kind, reason) = match self {
            Self::Invalidate(_, reason) => (1, *reason),
            Self::Unpublish(_) => (2, ""),
            Self::Delete(_) => (3, ""),
            Self::Retire(_) => (4, ""),
            Self::InvalidateAsOf(_, reason, _) => (5, *reason),
            Self::Vouch(_) => (6, ""),
            Self::Close(..) => (7, ""),
        };
        bytes.push(kind);
        match self {
            Self::Invalidate(key_hash, _)
            | Self::Unpublish(key_hash)
            | Self::Delete(key_hash)
            | Self::InvalidateAsOf(key_hash, ..) => {
                bytes.extend_from_slice(&key_hash.0);
            }
            Self::Retire(member) => put_text(&mut bytes, member),
            Self::Vouch(statement) => bytes.extend_from_slice(*statement),
            Self::Close(node_id, _) => put_text(&mut bytes, node_id.as_str()),
        }
        bytes.extend_from_slice(&at_unix_ms.to_be_bytes());
        put_text(&mut bytes, reason);
        if let Self::InvalidateAsOf(_, _, at) = self {
            bytes.extend_from_slice(&at.to_be_bytes());
        }
        if let Self::Close(_, logs) = self {
            for ClosedLog { origin, end, birth } in *logs {
                bytes.extend_from_slice(&codec::stamp_key(Stamp { origin: *origin, clock: *end }));
                bytes.extend_from_slice(&birth.unwrap_or_default());
            }
        }
        bytes
    }
}

/// IMPORTANT: no two texts may have the same bytes. No message is as large as the length can say.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// An operator's signature in an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderProof {
    /// The SHA-256 of the operator's certificate.
    pub certificate: [u8; 32],
    /// When the order was given.
    pub at_unix_ms: i64,
    /// By its number in TLS 1.3.
    pub scheme: u16,
    /// The signature over [`Subject::encode`].
    pub signature: Bytes,
}

impl OrderProof {
    /// When the order was given.
    pub fn at(&self) -> UnixSeconds {
        self.at_unix_ms.div_euclid(1000)
    }

    pub(super) fn to_proto(&self) -> proto::operation::Order {
        proto::operation::Order {
            certificate: Bytes::copy_from_slice(&self.certificate),
            at_unix_ms: self.at_unix_ms,
            scheme: self.scheme.into(),
            signature: self.signature.clone(),
        }
    }

    pub(super) fn from_proto(order: &proto::operation::Order) -> Result<Self, EntryError> {
        let invalid = EntryError::Field("order");
        let (Ok(certificate), Ok(scheme)) = (order.certificate.as_ref().try_into(), order.scheme.try_into())
        else {
            return Err(invalid);
        };
        if order.at_unix_ms < 0 || !(1..=limits::SIGNATURE_MAX_BYTES).contains(&order.signature.len()) {
            return Err(invalid);
        }
        let (at_unix_ms, signature) = (order.at_unix_ms, order.signature.clone());
        Ok(Self { certificate, at_unix_ms, scheme, signature })
    }

    /// The operator's certificate that an encoded operation names. Does not decode a create, as most are.
    pub fn certificate_in(operation: &[u8]) -> Option<[u8; 32]> {
        const CREATE: [u8; 2] = [0x08, 0x01];
        if operation.starts_with(&CREATE) {
            return None;
        }
        Operation::decode_with(operation).ok()?.1.map(|order| order.certificate)
    }
}

/// The certificates of an operator, in DER, the operator's own first: at least one, and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<Bytes>,
    /// Of the first one.
    id: [u8; 32],
}

impl Chain {
    /// `None`: there is none, or there are more or larger ones than any operator has.
    pub fn new(certificates: Vec<Bytes>) -> Option<Self> {
        let bytes: usize = certificates.iter().map(Bytes::len).sum();
        let fits = (1..=limits::CHAIN_CERTIFICATES_MAX).contains(&certificates.len())
            && bytes <= limits::CHAIN_MAX_BYTES;
        fits.then(|| Self { id: sha256(&certificates[0]), certificates })
    }

    /// The certificates.
    pub fn certificates(&self) -> &[Bytes] {
        &self.certificates
    }

    /// Takes the chains out of a batch, as they are claimed. What cannot be one is left out, and so are more than an
    /// honest batch has.
    pub fn take(batch: &mut proto::Batch) -> Vec<Self> {
        Self::read(std::mem::take(&mut batch.certificates), limits::BATCH_CHAINS_READ)
    }

    /// The chains in a message, as they are claimed. What cannot be one is left out, and so are more than `most`.
    pub fn read(chains: Vec<proto::Chain>, most: usize) -> Vec<Self> {
        chains.into_iter().take(most).filter_map(|chain| Self::new(chain.certificates)).collect()
    }

    /// By what orders name it: the SHA-256 of the operator's own certificate.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        codec::versioned(&self.to_proto().encode_to_vec())
    }

    /// Reads what [`Chain::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let malformed = || CodecError::Malformed("chain of certificates");
        let chain = proto::Chain::decode(codec::unversioned("chain of certificates", bytes)?);
        Self::new(chain.map_err(|_| malformed())?.certificates).ok_or_else(malformed)
    }

    /// As it travels.
    pub fn to_proto(&self) -> proto::Chain {
        proto::Chain { certificates: self.certificates.clone() }
    }
}

/// An order as a client hands it in: the signature with the signer's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOrder {
    /// The signature.
    pub proof: OrderProof,
    /// The signer's certificates.
    pub chain: Chain,
}

impl SignedOrder {
    /// Reads an order from a request; the error says what is wrong with it.
    pub fn from_proto(order: proto::Order) -> Result<Self, &'static str> {
        let chain = Chain::new(order.chain)
            .ok_or("has no certificate, or more or larger ones than an operator's chain may have")?;
        let (certificate, at_unix_ms) = (Bytes::copy_from_slice(&chain.id()), order.at_unix_ms);
        let encoded = proto::operation::Order {
            certificate,
            at_unix_ms,
            scheme: order.scheme,
            signature: order.signature,
        };
        let proof = OrderProof::from_proto(&encoded);
        Ok(Self { proof: proof.map_err(|_| "has no valid time, scheme or signature")?, chain })
    }

    /// As it travels in a request.
    pub fn to_proto(&self) -> proto::Order {
        proto::Order {
            at_unix_ms: self.proof.at_unix_ms,
            scheme: self.proof.scheme.into(),
            signature: self.proof.signature.clone(),
            chain: self.chain.certificates.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn proof() -> OrderProof {
        let signature = Bytes::from_static(b"signature");
        OrderProof { certificate: [0xce; 32], at_unix_ms: 1_700_000_000_123, scheme: 0x0403, signature }
    }

    /// IMPORTANT: these bytes are signed. A change needs another tag.
    #[test]
    fn the_signed_bytes_are_these() {
        let key_hash = KeyHash([0xab; 32]);
        let cluster = ClusterId::of("brock");
        let hex = |subject: Subject<'_>| HEXLOWER.encode(&subject.encode(&cluster, 0x0102_0304_0506_0708));
        let head = format!("{}{}", HEXLOWER.encode(b"brock/order/1"), HEXLOWER.encode(&sha256(b"brock")));
        let (key, at) = ("ab".repeat(32), "0102030405060708");
        assert_eq!(
            hex(Subject::Invalidate(&key_hash, "leaked")),
            format!("{head}01{key}{at}000000066c65616b6564")
        );
        assert_eq!(hex(Subject::Unpublish(&key_hash)), format!("{head}02{key}{at}00000000"));
        assert_eq!(hex(Subject::Delete(&key_hash)), format!("{head}03{key}{at}00000000"));
        let as_of = Subject::InvalidateAsOf(&key_hash, "leaked", 258);
        assert_eq!(hex(as_of), format!("{head}05{key}{at}000000066c65616b65640000000000000102"));
        let node: NodeId = "node-1".parse().unwrap();
        let origin = Origin::new(&node, crate::base::id::Incarnation(9));
        let logs = [None, Some([0xaa; 32])].map(|birth| ClosedLog { origin, end: Clock(258), birth });
        let close = format!("{head}07000000066e6f64652d31{at}00000000{}", HEXLOWER.encode(origin.as_bytes()));
        let hash = ["00", "aa"].map(|byte| byte.repeat(32));
        assert_eq!(hex(Subject::Close(&node, &logs[..1])), format!("{close}0000000000000102{}", hash[0]));
        assert_eq!(hex(Subject::Close(&node, &logs[1..])), format!("{close}0000000000000102{}", hash[1]));
        let statement = [0xef; 32];
        assert_eq!(hex(Subject::Vouch(&statement)), format!("{head}06{}{at}00000000", "ef".repeat(32)));
        assert_eq!(hex(Subject::Retire("node-1")), format!("{head}04000000066e6f64652d31{at}00000000"));
    }

    #[test]
    fn an_operation_with_an_order_is_these_bytes() {
        let encoded = Operation::Delete.encode_with(Some(&proof()));
        let expected =
            format!("08043a370a20{}10fbd095ffbc31188308{}", "ce".repeat(32), "22097369676e6174757265");
        assert_eq!(HEXLOWER.encode(&encoded), expected);
        assert_eq!(Operation::decode_with(&encoded), Ok((Operation::Delete, Some(proof()))));
        assert_eq!(OrderProof::certificate_in(&encoded), Some([0xce; 32]));
        assert_eq!(OrderProof::certificate_in(&Operation::Delete.encode()), None);
    }

    #[test]
    fn orders_that_no_origin_writes_are_refused() {
        let create = Operation::Create { created_at: 1, expires_at: None, public: true, digest: [1; 32] };
        let refused = |operation: &Operation, proof: &OrderProof| {
            Operation::decode(&operation.encode_with(Some(proof))).unwrap_err()
        };
        assert_eq!(refused(&create, &proof()), EntryError::Field("order"));
        let empty = OrderProof { signature: Bytes::new(), ..proof() };
        let large = OrderProof { signature: vec![0; limits::SIGNATURE_MAX_BYTES + 1].into(), ..proof() };
        let early = OrderProof { at_unix_ms: -1, ..proof() };
        for proof in [empty, large, early] {
            assert_eq!(refused(&Operation::Delete, &proof), EntryError::Field("order"));
        }
        let revoke = |at| Operation::Invalidate { at, reason: "leaked".to_owned() };
        assert_eq!(refused(&revoke(1_700_000_001), &proof()), EntryError::Field("at_unix"));
        let revoked = revoke(1_700_000_000);
        assert_eq!(Operation::decode(&revoked.encode_with(Some(&proof()))), Ok(revoked));
    }

    #[test]
    fn the_largest_order_fits_into_an_operation() {
        let signature = vec![7; 4627].into();
        let largest =
            Operation::Invalidate { at: 1_700_000_000, reason: "r".repeat(limits::REASON_MAX_BYTES) };
        let encoded = largest.encode_with(Some(&OrderProof { signature, ..proof() }));
        assert_eq!(Operation::decode(&encoded), Ok(largest));
    }

    #[test]
    fn a_chain_is_bounded_and_round_trips() {
        let certificate = |bytes: usize| Bytes::from(vec![1; bytes]);
        assert_eq!(Chain::new(Vec::new()), None);
        assert_eq!(Chain::new(vec![certificate(1); limits::CHAIN_CERTIFICATES_MAX + 1]), None);
        assert_eq!(Chain::new(vec![certificate(limits::CHAIN_MAX_BYTES + 1)]), None);
        let chain = Chain::new(vec![certificate(9), certificate(10)]).unwrap();
        assert_eq!(chain.id(), sha256(&[1; 9]));
        assert_eq!(Chain::decode(&chain.encode()), Ok(chain.clone()));
        let signed = SignedOrder { proof: OrderProof { certificate: chain.id(), ..proof() }, chain };
        assert_eq!(SignedOrder::from_proto(signed.to_proto()), Ok(signed));
        assert!(SignedOrder::from_proto(proto::Order::default()).is_err());
    }

    proptest! {
        #[test]
        fn different_orders_are_different_bytes(
            a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), reason in ".{0,9}", other in ".{0,9}", at in any::<i64>(),
        ) {
            let cluster = ClusterId::of("brock");
            let (a, b) = (KeyHash(a), KeyHash(b));
            let of = |subject: Subject<'_>| subject.encode(&cluster, at);
            let same = (a == b) && (reason == other);
            prop_assert_eq!(
                of(Subject::Invalidate(&a, &reason)) == of(Subject::Invalidate(&b, &other)), same
            );
            let all = [
                of(Subject::Invalidate(&a, &reason)), of(Subject::Unpublish(&a)), of(Subject::Delete(&a)),
                of(Subject::Retire(&reason)),
            ];
            for (i, one) in all.iter().enumerate() {
                prop_assert!(all.iter().skip(i + 1).all(|another| one != another));
            }
            prop_assert!(of(Subject::Delete(&a)) != Subject::Delete(&a).encode(&ClusterId::of("other"), at));
        }

        #[test]
        fn decoding_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = (Chain::decode(&bytes), OrderProof::certificate_in(&bytes));
        }
    }
}
