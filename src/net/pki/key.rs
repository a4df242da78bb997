//! The keys of new certificates, and of the CAs that sign them.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{
    Ed25519KeyPair, KeyPair as _, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair,
    PqdsaSigningAlgorithm,
};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_ML_DSA_44, PKCS_ML_DSA_65,
    PKCS_ML_DSA_87, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::PrivateKeyDer;

use crate::tls::algorithms::KeyKind;

/// The algorithm of a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm(KeyKind);

impl Algorithm {
    /// All of them: the default first, the post-quantum ones last.
    const ALL: [Self; 6] = [
        Self(KeyKind::EcdsaP256),
        Self(KeyKind::EcdsaP384),
        Self(KeyKind::Ed25519),
        Self(KeyKind::MlDsa44),
        Self(KeyKind::MlDsa65),
        Self(KeyKind::MlDsa87),
    ];

    /// That of such a key; the default if none like it is made here.
    pub(crate) fn like(kind: KeyKind) -> Self {
        Self::ALL.into_iter().find(|known| known.0 == kind).unwrap_or_default()
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.0.as_str()
    }

    /// Whether it is ML-DSA.
    pub fn is_post_quantum(self) -> bool {
        self.0.post_quantum().is_some()
    }

    /// A new key.
    pub(crate) fn generate(self) -> Result<KeyPair, rcgen::Error> {
        if self.0 == KeyKind::Ed25519 {
            // In the first version of PKCS#8: OpenSSL 3.0 cannot read the second one, which rcgen writes.
            let key = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
            let key = key.map_err(|_| rcgen::Error::KeyGenerationUnavailable)?;
            return KeyPair::from_pkcs8_der_and_sign_algo(&key.as_ref().into(), &PKCS_ED25519);
        }
        KeyPair::generate_for(match self.0 {
            KeyKind::EcdsaP384 => &PKCS_ECDSA_P384_SHA384,
            KeyKind::MlDsa44 => &PKCS_ML_DSA_44,
            KeyKind::MlDsa65 => &PKCS_ML_DSA_65,
            KeyKind::MlDsa87 => &PKCS_ML_DSA_87,
            _ => &PKCS_ECDSA_P256_SHA256,
        })
    }
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::ALL[0]
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| format!("choose one of {}", names()))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key of a CA, read from its file. rcgen makes ML-DSA keys and cannot read them.
pub(crate) enum CaKey {
    Classical(KeyPair),
    MlDsa(PqdsaKeyPair, &'static SignatureAlgorithm),
}

impl CaKey {
    pub(crate) fn of(key: &PrivateKeyDer<'_>) -> Result<Self, rcgen::Error> {
        let kinds: [(&'static PqdsaSigningAlgorithm, _); 3] = [
            (&ML_DSA_44_SIGNING, &PKCS_ML_DSA_44),
            (&ML_DSA_65_SIGNING, &PKCS_ML_DSA_65),
            (&ML_DSA_87_SIGNING, &PKCS_ML_DSA_87),
        ];
        let ml_dsa = kinds.into_iter().find_map(|(signing, algorithm)| {
            PqdsaKeyPair::from_pkcs8(signing, key.secret_der()).ok().map(|key| Self::MlDsa(key, algorithm))
        });
        ml_dsa.map_or_else(|| KeyPair::try_from(key).map(Self::Classical), Ok)
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Classical(key) => key.der_bytes(),
            Self::MlDsa(key, _) => key.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::Classical(key) => PublicKeyData::algorithm(key),
            Self::MlDsa(_, algorithm) => algorithm,
        }
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::Classical(key) => key.sign(message),
            Self::MlDsa(key, _) => {
                let mut signature = vec![0; key.algorithm().signature_len()];
                let length = key.sign(message, &mut signature).map_err(|_| rcgen::Error::RemoteKeyError)?;
                signature.truncate(length);
                Ok(signature)
            }
        }
    }
}
