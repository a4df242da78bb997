//! A receipt as JSON: what the commands that wait print, and what `receipt verify` reads.
//!
//! Each value has one spelling, so that no byte of a receipt can be changed without being noticed: hashes, keys and
//! signatures of 64 bytes in hex, what has no fixed length in base64, origins as `node-1/9f3c2a10`.

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::stamp;
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        acknowledgement::Acknowledgement,
        birth::{Birth, Previous, SignedBirth},
        bundle::Hash,
        inclusion::Inclusion,
        receipt,
    },
};

/// All of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    key_hash: String,
    operation: String,
    origin: String,
    clock: u64,
    already: bool,
    holders: Vec<Holder>,
    missing: Vec<String>,
    proof: Option<Proof>,
}

/// A member that holds the operation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holder {
    pub(crate) node: String,
    pub(crate) after_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgement: Option<Acknowledged>,
    /// Why there is no acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsigned: Option<String>,
}

/// What a member has signed of the log that the operation is in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledged {
    member: String,
    clock: u64,
    chain: String,
    signature: String,
}

/// What proves the acknowledgements.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proof {
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Proven>,
    bundles: Vec<Bundle>,
    births: Vec<Born>,
    by: String,
    signature: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proven {
    operation: String,
    first: u64,
    count: u8,
    before: String,
    path: Vec<String>,
    signature: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    last: u64,
    root: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Born {
    origin: String,
    key: String,
    born_at_unix: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Ended>,
    scheme: u16,
    signature: String,
    certificates: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vouched_at_unix_ms: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    origin: String,
    clock: u64,
    chain: String,
}

impl From<receipt::Holder> for Holder {
    fn from(holder: receipt::Holder) -> Self {
        let receipt::Holder { node, after_ms, signed } = holder;
        let unsigned = signed.as_ref().err().filter(|reason| !reason.is_empty()).cloned();
        let acknowledged = |Acknowledgement { member, applied, chain, signature }| Acknowledged {
            member: member.to_string(),
            clock: applied.clock.0,
            chain: HEXLOWER.encode(&chain),
            signature: HEXLOWER.encode(&signature),
        };
        Self { node, after_ms, acknowledgement: signed.ok().map(acknowledged), unsigned }
    }
}

impl Holder {
    pub(crate) fn is_signed(&self) -> bool {
        self.acknowledgement.is_some()
    }

    /// `origin`: of the operation.
    fn read(self, origin: Origin) -> Result<receipt::Holder, String> {
        let Self { node, after_ms, acknowledgement, unsigned } = self;
        let signed = match (acknowledgement, unsigned) {
            (Some(Acknowledged { member, clock, chain, signature }), None) => Ok(Acknowledgement {
                member: origin_of("holders.acknowledgement.member", &member)?,
                applied: Stamp { origin, clock: Clock(clock) },
                chain: hex("holders.acknowledgement.chain", &chain)?,
                signature: hex("holders.acknowledgement.signature", &signature)?,
            }),
            (None, unsigned) => Err(unsigned.unwrap_or_default()),
            (Some(_), Some(_)) => return Err("holders: signed and unsigned at once".to_owned()),
        };
        Ok(receipt::Holder { node, after_ms, signed })
    }
}

impl From<receipt::Proof> for Proof {
    fn from(proof: receipt::Proof) -> Self {
        let receipt::Proof { evidence, bundles, births, by, signature } = proof;
        let proven = |Inclusion { operation, first, count, before, path, signature }| Proven {
            operation: BASE64.encode(&operation),
            first: first.0,
            count,
            before: HEXLOWER.encode(&before),
            path: path.as_chunks::<32>().0.iter().map(|hash| HEXLOWER.encode(hash)).collect(),
            signature: HEXLOWER.encode(&signature),
        };
        let bundle = |(last, root): (Clock, Hash)| Bundle { last: last.0, root: HEXLOWER.encode(&root) };
        Self {
            evidence: evidence.map(proven),
            bundles: bundles.into_iter().map(bundle).collect(),
            births: births.into_iter().map(Born::from).collect(),
            by: by.to_string(),
            signature: HEXLOWER.encode(&signature),
        }
    }
}

impl Proof {
    fn read(self) -> Result<receipt::Proof, String> {
        let Self { evidence, bundles, births, by, signature } = self;
        if bundles.len() > limits::RECEIPT_ROOTS_MAX {
            return Err(format!("proof.bundles: more than {}", limits::RECEIPT_ROOTS_MAX));
        }
        let bundle = |Bundle { last, root }| Ok((Clock(last), hex("proof.bundles.root", &root)?));
        Ok(receipt::Proof {
            evidence: evidence.map(Proven::read).transpose()?,
            bundles: bundles.into_iter().map(bundle).collect::<Result<_, String>>()?,
            births: births.into_iter().map(Born::read).collect::<Result<_, _>>()?,
            by: origin_of("proof.by", &by)?,
            signature: hex("proof.signature", &signature)?,
        })
    }
}

impl Proven {
    fn read(self) -> Result<Inclusion, String> {
        let Self { operation, first, count, before, path, signature } = self;
        if path.len() > limits::BUNDLE_PATH_MAX {
            return Err(format!("proof.evidence.path: more than {} hashes", limits::BUNDLE_PATH_MAX));
        }
        let path: Vec<[u8; 32]> =
            path.iter().map(|hash| hex("proof.evidence.path", hash)).collect::<Result<_, _>>()?;
        Ok(Inclusion {
            operation: base64("proof.evidence.operation", &operation)?,
            first: Clock(first),
            count,
            before: hex("proof.evidence.before", &before)?,
            path: path.concat().into(),
            signature: hex("proof.evidence.signature", &signature)?,
        })
    }
}

impl From<SignedBirth> for Born {
    fn from(signed: SignedBirth) -> Self {
        let SignedBirth { birth, scheme, signature, certificates, vouched_at_unix_ms } = signed;
        let Birth { origin, key, born_at, previous } = birth;
        let ended = |Previous { last, chain }| Ended {
            origin: last.origin.to_string(),
            clock: last.clock.0,
            chain: HEXLOWER.encode(&chain),
        };
        Self {
            origin: origin.to_string(),
            key: HEXLOWER.encode(&key),
            born_at_unix: born_at,
            previous: previous.map(ended),
            scheme,
            signature: BASE64.encode(&signature),
            certificates: certificates.iter().map(|der| BASE64.encode(der)).collect(),
            vouched_at_unix_ms,
        }
    }
}

impl Born {
    fn read(self) -> Result<SignedBirth, String> {
        let Self { origin, key, born_at_unix, previous, scheme, signature, certificates, vouched_at_unix_ms } =
            self;
        let previous = previous.map(|Ended { origin, clock, chain }| {
            let origin = origin_of("proof.births.previous.origin", &origin)?;
            let last = Stamp { origin, clock: Clock(clock) };
            Ok::<_, String>(Previous { last, chain: hex("proof.births.previous.chain", &chain)? })
        });
        let certificate = |der: &String| base64("proof.births.certificates", der);
        let birth = Birth {
            origin: origin_of("proof.births.origin", &origin)?,
            key: hex("proof.births.key", &key)?,
            born_at: born_at_unix,
            previous: previous.transpose()?,
        };
        Ok(SignedBirth {
            birth,
            scheme,
            signature: base64("proof.births.signature", &signature)?,
            certificates: certificates.iter().map(certificate).collect::<Result<_, _>>()?,
            vouched_at_unix_ms,
        })
    }
}

impl File {
    /// Whether the command that printed it waited for no member.
    pub(super) fn is_of_no_wait(&self) -> bool {
        self.proof.is_none() && self.holders.is_empty() && self.missing.is_empty()
    }

    /// The receipt. The error names the field that is malformed, never its value.
    pub(super) fn read(self) -> Result<receipt::Receipt, String> {
        let Self { key_hash, operation, origin, clock, already, holders, missing, proof } = self;
        let origin = origin_of("origin", &origin)?;
        Ok(receipt::Receipt {
            key_hash: KeyHash(hex("key_hash", &key_hash)?),
            operation,
            stamp: Stamp { origin, clock: Clock(clock) },
            already,
            holders: holders.into_iter().map(|holder| holder.read(origin)).collect::<Result<_, _>>()?,
            missing,
            proof: proof.map(Proof::read).transpose()?,
        })
    }
}

fn hex<const N: usize>(field: &str, text: &str) -> Result<[u8; N], String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("{field}: must be {N} bytes in lower-case hex digits"))
}

fn base64(field: &str, text: &str) -> Result<Bytes, String> {
    let bytes = BASE64.decode(text.as_bytes());
    bytes.map(Bytes::from).map_err(|_| format!("{field}: must be in base64, with its padding"))
}

fn origin_of(field: &str, text: &str) -> Result<Origin, String> {
    let origin = stamp::origin(text).ok().filter(|origin| origin.to_string() == text);
    origin.ok_or_else(|| format!("{field}: must be an origin such as node-1/9f3c2a10"))
}
