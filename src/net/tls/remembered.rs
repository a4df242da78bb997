//! Signatures in certificates and revocation lists that were verified before.
//!
//! Whether a key has signed some bytes never changes, so one answer is enough for all handshakes of a peer. Everything
//! else about a certificate is looked at in every handshake: its dates and names, whether it is revoked, whether its CA
//! is trusted now. The signature of the handshake itself is another one each time and never comes here.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use brock_core::base::{id::sha256, limits};

/// The same algorithms, of which those for certificates and revocation lists remember what they have found genuine.
pub(super) fn remembering(algorithms: WebPkiSupportedAlgorithms) -> WebPkiSupportedAlgorithms {
    static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
        let all = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let remember = |algorithm: &&'static dyn SignatureVerificationAlgorithm| {
            &*Box::leak(Box::new(Remembering { algorithm: *algorithm, genuine: Mutex::default() }))
                as &'static dyn SignatureVerificationAlgorithm
        };
        all.iter().map(remember).collect()
    });
    WebPkiSupportedAlgorithms { all: ALL.as_slice(), ..algorithms }
}

#[derive(Debug)]
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    /// Hashes of keys, what they have signed, and the signatures.
    genuine: Mutex<HashSet<[u8; 32]>>,
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let known = hash([public_key, message, signature]);
        let lock = || self.genuine.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().contains(&known) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        let mut genuine = lock();
        if genuine.len() >= limits::CERTIFICATE_SIGNATURES_REMEMBERED {
            genuine.clear();
        }
        genuine.insert(known);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

/// Each part after its length.
fn hash(parts: [&[u8]; 3]) -> [u8; 32] {
    let with_length = |part: &[u8]| [&(part.len() as u64).to_be_bytes()[..], part].concat();
    sha256(&parts.map(with_length).concat())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls_pki_types::alg_id;

    use super::*;

    /// Finds genuine what begins with the key, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            public_key: &[u8],
            _: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::SeqCst);
            if signature.starts_with(public_key) { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ED25519
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ED25519
        }
    }

    #[test]
    fn only_the_very_same_genuine_signature_is_remembered() {
        let counting: &'static Counting = Box::leak(Box::default());
        let asked = || counting.0.load(Ordering::SeqCst);
        let remembering = Remembering { algorithm: counting, genuine: Mutex::default() };
        let verify = |key: &[u8], message: &[u8], signature: &[u8]| {
            remembering.verify_signature(key, message, signature).is_ok()
        };
        assert!(verify(b"k", b"m", b"ks") && verify(b"k", b"m", b"ks"));
        assert_eq!(asked(), 1);
        // Another division of the same bytes, and each part altered.
        for (key, message, signature) in [
            (b"km".as_slice(), b"".as_slice(), b"kms".as_slice()),
            (b"k", b"mk", b"s"),
            (b"k", b"n", b"ks"),
            (b"k", b"m", b"kt"),
        ] {
            let before = asked();
            verify(key, message, signature);
            assert_eq!(asked(), before + 1, "{key:?} {message:?} {signature:?}");
        }
        // What is not genuine is looked at again each time.
        let before = asked();
        assert!(!verify(b"k", b"m", b"x") && !verify(b"k", b"m", b"x"));
        assert_eq!(asked(), before + 2);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let counting: &'static Counting = Box::leak(Box::default());
        let remembering = Remembering { algorithm: counting, genuine: Mutex::default() };
        for number in 0..2 * limits::CERTIFICATE_SIGNATURES_REMEMBERED + 1 {
            remembering.verify_signature(b"", &number.to_be_bytes(), b"").unwrap();
            let held = remembering.genuine.lock().unwrap().len();
            assert!(held <= limits::CERTIFICATE_SIGNATURES_REMEMBERED, "{held}");
        }
    }
}
