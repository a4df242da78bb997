//! Levels of wire encryption: which key exchanges, cipher suites and certificates a connection may have.
//!
//! | level | key exchange | suites | keys of certificates |
//! |---|---|---|---|
//! | default | X25519MLKEM768 first, then classical ones; the group of 256 if the other end demands it | AES-256 first | any |
//! | 128 | X25519MLKEM768, X25519 | AES-128-GCM, ChaCha20-Poly1305 | any |
//! | 192 | X25519MLKEM768, SecP256r1MLKEM768 | AES-256-GCM | any |
//! | 256 | SecP384r1MLKEM1024 | AES-256-GCM | ECDSA P-384, P-521, ML-DSA-87 |
//!
//! A level is pinned: an end that lacks it gets no connection. The client sends the share of the first group, so
//! ends of one level never need a HelloRetryRequest.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use rustls::{
    CipherSuite, CommonState, NamedGroup, SignatureScheme,
    crypto::{
        CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    server::ClientHello,
};
use rustls_pki_types::{SignatureVerificationAlgorithm, alg_id};

use super::{
    algorithms::KeyKind,
    hybrid::{self, SECP384R1_MLKEM1024},
    remembered::remembering,
};
use crate::address::Address;

/// A level of wire encryption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WireLevel {
    /// Whatever the other end has of it, the strongest first.
    #[default]
    Default,
    /// As strong as AES-128.
    Bits128,
    /// As strong as AES-192: always a hybrid post-quantum key exchange.
    Bits192,
    /// As strong as AES-256.
    Bits256,
}

impl WireLevel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Default, Self::Bits128, Self::Bits192, Self::Bits256];

    /// As the setting writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Bits128 => "128",
            Self::Bits192 => "192",
            Self::Bits256 => "256",
        }
    }

    fn groups(self) -> Vec<&'static dyn SupportedKxGroup> {
        match self {
            Self::Default => [aws_lc_rs::DEFAULT_KX_GROUPS, &[SECP384R1_MLKEM1024]].concat(),
            Self::Bits128 => vec![kx_group::X25519MLKEM768, kx_group::X25519],
            Self::Bits192 => vec![kx_group::X25519MLKEM768, kx_group::SECP256R1MLKEM768],
            Self::Bits256 => vec![SECP384R1_MLKEM1024],
        }
    }

    /// aws-lc-rs with what the level allows. Signatures are restricted elsewhere, where the refusal gets its words.
    pub(crate) fn provider(self) -> Arc<CryptoProvider> {
        let provider = aws_lc_rs::default_provider();
        let cipher_suites = match self {
            Self::Default => provider.cipher_suites,
            Self::Bits128 => {
                vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256]
            }
            Self::Bits192 | Self::Bits256 => vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
        };
        Arc::new(CryptoProvider { kx_groups: self.groups(), cipher_suites, ..provider })
    }

    /// Whether certificates of this kind of key may be used.
    pub(crate) fn allows(self, kind: KeyKind) -> bool {
        self != Self::Bits256 || matches!(kind, KeyKind::EcdsaP384 | KeyKind::EcdsaP521 | KeyKind::MlDsa87)
    }

    /// Whether an end of this level asks the other end for such a signature. Weak classical ones are asked for
    /// at 256 too, and refused: "none in common" would not say which certificate is the wrong one.
    pub(crate) fn offers(self, scheme: SignatureScheme) -> bool {
        self != Self::Bits256 || !matches!(scheme, SignatureScheme::ML_DSA_44 | SignatureScheme::ML_DSA_65)
    }

    /// What a caller lacks of this level, according to its first message; `None` if it lacks nothing.
    pub(crate) fn lacks(self, hello: &ClientHello<'_>) -> Option<String> {
        let (groups, provider) = (hello.named_groups().unwrap_or_default(), self.provider());
        let ours: Vec<NamedGroup> = provider.kx_groups.iter().map(|group| group.name()).collect();
        let suites: Vec<CipherSuite> = provider.cipher_suites.iter().map(|suite| suite.suite()).collect();
        let lacked = if !ours.iter().any(|group| groups.contains(group)) {
            (list(ours, group_name), list(groups.iter().copied(), group_name))
        } else if !suites.iter().any(|suite| hello.cipher_suites().contains(suite)) {
            (list(suites, suite_name), list(hello.cipher_suites().iter().copied(), suite_name))
        } else {
            return None;
        };
        Some(format!(
            "this node requires wire encryption {self}, and the caller offers no {}, only {}",
            lacked.0, lacked.1
        ))
    }

    /// What an end of this level offers, for a message.
    pub(crate) fn offer(self) -> String {
        let provider = self.provider();
        let groups = list(provider.kx_groups.iter().map(|group| group.name()), group_name);
        let suites = list(provider.cipher_suites.iter().map(|suite| suite.suite()), suite_name);
        format!("{groups} with {suites}")
    }
}

/// The names of what the other end offers are the other end's choice, so their number is bounded.
fn list<T>(items: impl IntoIterator<Item = T>, name: fn(T) -> String) -> String {
    const SHOWN: usize = 8;
    let names: Vec<String> = items.into_iter().take(SHOWN).map(name).collect();
    if names.is_empty() { "nothing known".to_owned() } else { names.join(" or ") }
}

impl FromStr for WireLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or(())
    }
}

impl fmt::Display for WireLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The levels of a node: one for its port and for the peers that it dials, and others for single peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireLevels {
    /// For accepting, and for dialling.
    pub node: WireLevel,
    /// For dialling these addresses, as `node.join` names them, without `dns+`.
    pub peers: BTreeMap<String, WireLevel>,
}

impl From<WireLevel> for WireLevels {
    fn from(node: WireLevel) -> Self {
        Self { node, peers: BTreeMap::new() }
    }
}

impl WireLevels {
    /// The level for dialling this address, or one that DNS gave for a name.
    pub(crate) fn of(&self, address: &Address) -> WireLevel {
        let listed = self.peers.get(&address.to_string());
        listed.or_else(|| self.peers.get(&address.as_joined())).copied().unwrap_or(self.node)
    }

    /// The addresses with a level of their own that are none of these peers.
    pub fn beyond(&self, peers: &[Address]) -> impl Iterator<Item = &str> {
        let named: Vec<String> = peers.iter().flat_map(|peer| [peer.to_string(), peer.as_joined()]).collect();
        self.peers.keys().map(String::as_str).filter(move |address| !named.iter().any(|name| name == address))
    }

    /// The setting that demands this level, which is included.
    pub(crate) fn setting(&self, level: WireLevel) -> &'static str {
        if self.node == level { "node.wire-encryption" } else { "node.wire-encryption-peers" }
    }

    /// Whether any connection may need this level.
    pub(crate) fn include(&self, level: WireLevel) -> bool {
        self.node == level || self.peers.values().any(|of_peer| *of_peer == level)
    }
}

/// What two ends have agreed on. Every value is one of a few.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Negotiated {
    /// The key exchange: `X25519MLKEM768`.
    pub group: String,
    /// The cipher suite: `TLS_AES_256_GCM_SHA384`.
    pub suite: String,
    /// The kind of key that the other end has signed with: `ecdsa-p256`.
    pub signature: KeyKind,
}

impl Negotiated {
    /// Of a session whose handshake is finished.
    pub(crate) fn of(session: &CommonState) -> Self {
        let unknown = || "unknown".to_owned();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        Self {
            group: session
                .negotiated_key_exchange_group()
                .map_or_else(unknown, |group| group_name(group.name())),
            suite: session.negotiated_cipher_suite().map_or_else(unknown, |suite| suite_name(suite.suite())),
            signature: leaf.map_or(KeyKind::Other, |leaf| KeyKind::of_certificate(leaf)),
        }
    }
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.group, self.suite, self.signature)
    }
}

/// As the registry of IANA writes it.
fn group_name(group: NamedGroup) -> String {
    match group {
        hybrid::CODEPOINT => "SecP384r1MLKEM1024".to_owned(),
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768".to_owned(),
        NamedGroup::Unknown(codepoint) => format!("{codepoint:#06x}"),
        known => format!("{known:?}"),
    }
}

/// As the registry of IANA writes it.
fn suite_name(suite: CipherSuite) -> String {
    match suite {
        CipherSuite::Unknown(codepoint) => format!("{codepoint:#06x}"),
        known => format!("{known:?}").replacen("TLS13_", "TLS_", 1),
    }
}

/// Verifies signatures of the highest level only: of certificates, by the keys of their CAs.
pub(crate) fn strong_signatures() -> WebPkiSupportedAlgorithms {
    static STRONG: std::sync::LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
        std::sync::LazyLock::new(|| {
            let all = remembering(aws_lc_rs::default_provider().signature_verification_algorithms).all;
            let is_strong = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
                let (key, signature) = (algorithm.public_key_alg_id(), algorithm.signature_alg_id());
                let is_ecdsa = key == alg_id::ECDSA_P384 || key == alg_id::ECDSA_P521;
                let is_long = signature == alg_id::ECDSA_SHA384 || signature == alg_id::ECDSA_SHA512;
                is_ecdsa && is_long || key == alg_id::ML_DSA_87
            };
            all.iter().filter(is_strong).copied().collect()
        });
    let all = aws_lc_rs::default_provider().signature_verification_algorithms;
    WebPkiSupportedAlgorithms { all: STRONG.as_slice(), ..all }
}
