//! Identifiers: nodes, their incarnations, origins, and key hashes.

use std::{fmt, ops::RangeInclusive, str::FromStr, sync::Arc};

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};

/// The longest node id, in bytes.
pub const NODE_ID_MAX_BYTES: usize = 28;

/// The version byte in front of the 16 bytes of an access key id.
const ACCESS_KEY_VERSION: u8 = 0x4d;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A node id is empty.
    #[error("a node id must not be empty")]
    NodeIdEmpty,
    /// A node id has more than [`NODE_ID_MAX_BYTES`] bytes.
    #[error("a node id has at most {NODE_ID_MAX_BYTES} bytes, this one has {0}")]
    NodeIdTooLong(usize),
    /// A node id has a character outside `A-Z a-z 0-9 . _ -`.
    #[error("a node id consists of letters, digits, '.', '_' and '-'")]
    NodeIdCharacter,
    /// An origin on the wire or on disk is not 32 well-formed bytes.
    #[error("an origin is 28 bytes of zero-padded node id and 4 bytes of incarnation")]
    Origin,
    /// A key hash is not 32 bytes long.
    #[error("a key hash is 32 bytes, this one has {0}")]
    KeyHashLength(usize),
    /// A key in text form is neither a key hash nor an access key id. Never quotes the key.
    #[error(
        "a key is either a key hash (64 hex digits) or an access key id (28 base32 characters), and this is neither"
    )]
    KeyForm,
    /// An access key id does not decode, or not to the version that is known.
    #[error("this access key id is not a canonical one: check that it was copied whole")]
    AccessKeyId,
}

/// The operator's name for a node: 1 to 28 letters, digits, `.`, `_` or `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(String);

impl NodeId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::NodeIdEmpty);
        }
        if text.len() > NODE_ID_MAX_BYTES {
            return Err(IdError::NodeIdTooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !text.chars().all(allowed) {
            return Err(IdError::NodeIdCharacter);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a node's storage: minted at random, so that no (origin, clock) is used twice
/// whatever disk, tail or backup was lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u32);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where incarnations come from.
#[derive(Clone)]
pub struct Incarnations(Arc<dyn Fn() -> u32 + Send + Sync>);

impl Incarnations {
    /// Chance.
    pub fn random() -> Self {
        Self(Arc::new(rand::random))
    }

    /// A source of the caller's own, so that a simulation can be repeated.
    pub fn new(next: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// The next one.
    pub fn mint(&self) -> Incarnation {
        Incarnation((self.0)())
    }
}

impl fmt::Debug for Incarnations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incarnations")
    }
}

/// The source of operations: a node id and an incarnation, 32 bytes together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin([u8; 32]);

impl Origin {
    /// The origin that a node writes under in one incarnation.
    pub fn new(node_id: &NodeId, incarnation: Incarnation) -> Self {
        let mut bytes = [0; 32];
        bytes[..node_id.0.len()].copy_from_slice(node_id.0.as_bytes());
        bytes[NODE_ID_MAX_BYTES..].copy_from_slice(&incarnation.0.to_be_bytes());
        Self(bytes)
    }

    /// All incarnations that a node can have, in order.
    pub fn all_of(node_id: &NodeId) -> RangeInclusive<Self> {
        Self::new(node_id, Incarnation(0))..=Self::new(node_id, Incarnation(u32::MAX))
    }

    /// The 32 bytes of the wire and of every key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The node id.
    pub fn node_id(&self) -> NodeId {
        let padded = &self.0[..NODE_ID_MAX_BYTES];
        let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
        NodeId(String::from_utf8_lossy(&padded[..end]).into_owned())
    }

    /// Whether this origin is an incarnation of `node_id`. Does not allocate.
    pub fn is_of(&self, node_id: &NodeId) -> bool {
        let (id, padding) = self.0[..NODE_ID_MAX_BYTES].split_at(node_id.0.len());
        id == node_id.0.as_bytes() && padding.iter().all(|byte| *byte == 0)
    }

    /// The incarnation.
    pub fn incarnation(&self) -> Incarnation {
        let [.., a, b, c, d] = self.0;
        Incarnation(u32::from_be_bytes([a, b, c, d]))
    }
}

impl TryFrom<&[u8]> for Origin {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| IdError::Origin)?;
        let padded = &bytes[..NODE_ID_MAX_BYTES];
        let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
        let (id, padding) = padded.split_at(end);
        let id = std::str::from_utf8(id).map_err(|_| IdError::Origin)?;
        NodeId::from_str(id).map_err(|_| IdError::Origin)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(IdError::Origin);
        }
        Ok(Self(bytes))
    }
}

/// `node-1/9f3c2a10`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node_id(), self.incarnation())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 of a secret access key. A node never sees the key itself.
///
/// Its `Debug` shows four digits: enough to tell two apart in a test, not enough to look it up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// The key hash of the 16 bytes of an access key.
    pub fn of_access_key(key: &[u8]) -> Self {
        Self(sha256(key))
    }

    /// All 64 hex digits.
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl TryFrom<&[u8]> for KeyHash {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        let length = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| IdError::KeyHashLength(length))?))
    }
}

/// 64 hex digits are a key hash; 28 base32 characters are an access key id, whose version byte
/// is stripped and whose remaining 16 bytes are hashed. Non-canonical encodings are refused:
/// two texts must not mean one key.
impl FromStr for KeyHash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.len() {
            64 => {
                let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| IdError::KeyForm)?;
                Self::try_from(bytes.as_slice())
            }
            28 => {
                // The canonical form is lower-case; the decoder knows upper-case only.
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(IdError::AccessKeyId);
                }
                let bytes = BASE32_NOPAD
                    .decode(text.to_ascii_uppercase().as_bytes())
                    .map_err(|_| IdError::AccessKeyId)?;
                match bytes.split_first() {
                    Some((&ACCESS_KEY_VERSION, key)) if key.len() == 16 => Ok(Self::of_access_key(key)),
                    _ => Err(IdError::AccessKeyId),
                }
            }
            _ => Err(IdError::KeyForm),
        }
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", HEXLOWER.encode(&self.0[..2]))
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// The cluster that a signature is for: SHA-256 of the trust domain in its certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterId(pub [u8; 32]);

impl ClusterId {
    /// Of the trust domain in a SPIFFE URI.
    pub fn of(trust_domain: &str) -> Self {
        Self(sha256(trust_domain.as_bytes()))
    }
}

/// A running process: random, so that a node knows itself by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance(pub [u8; 16]);

impl Instance {
    /// Another one each time.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_round_trips_and_a_never_matches_aa() {
        let a: NodeId = "a".parse().unwrap();
        let aa: NodeId = "aa".parse().unwrap();
        let origin = Origin::new(&a, Incarnation(7));
        assert_eq!(Origin::try_from(origin.as_bytes().as_slice()), Ok(origin));
        assert_eq!(origin.node_id(), a);
        assert_eq!(origin.incarnation(), Incarnation(7));
        assert!(origin.is_of(&a));
        assert!(!origin.is_of(&aa));
        assert!(!Origin::new(&aa, Incarnation(7)).is_of(&a));
        assert_eq!(origin.to_string(), "a/00000007");
        let longest: NodeId = "x".repeat(28).parse().unwrap();
        assert_eq!(Origin::new(&longest, Incarnation(1)).node_id(), longest);
    }

    #[test]
    fn malformed_ids_are_refused() {
        assert_eq!("".parse::<NodeId>(), Err(IdError::NodeIdEmpty));
        assert_eq!("x".repeat(29).parse::<NodeId>(), Err(IdError::NodeIdTooLong(29)));
        assert_eq!("a/b".parse::<NodeId>(), Err(IdError::NodeIdCharacter));
        assert_eq!(Origin::try_from([0u8; 32].as_slice()), Err(IdError::Origin));
        let mut hole = [0u8; 32];
        hole[0] = b'a';
        hole[2] = b'b';
        assert_eq!(Origin::try_from(hole.as_slice()), Err(IdError::Origin));
    }

    #[test]
    fn a_key_is_a_hash_or_a_canonical_access_key_id() {
        let key = [0x4d, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let id = BASE32_NOPAD.encode(&key).to_ascii_lowercase();
        assert_eq!(id.len(), 28);
        let hash = KeyHash(sha256(&key[1..]));
        assert_eq!(id.parse(), Ok(hash));
        assert_eq!(hash.to_hex().parse(), Ok(hash));
        assert_eq!(hash.to_hex().to_ascii_uppercase().parse(), Ok(hash));

        // 28 characters carry 140 bits for 136: a set trailing bit would be a second spelling.
        let last = id.chars().last().unwrap();
        let twin = char::from_u32(last as u32 + 1).unwrap();
        let twin = format!("{}{twin}", &id[..27]);
        assert_eq!(twin.parse::<KeyHash>(), Err(IdError::AccessKeyId));
        assert_eq!(id.to_ascii_uppercase().parse::<KeyHash>(), Err(IdError::AccessKeyId));
        let mut wrong_version = key;
        wrong_version[0] = 0x4e;
        let wrong_version = BASE32_NOPAD.encode(&wrong_version).to_ascii_lowercase();
        assert_eq!(wrong_version.parse::<KeyHash>(), Err(IdError::AccessKeyId));
        assert_eq!("abc".parse::<KeyHash>(), Err(IdError::KeyForm));
        assert_eq!("g".repeat(64).parse::<KeyHash>(), Err(IdError::KeyForm));
    }
}
