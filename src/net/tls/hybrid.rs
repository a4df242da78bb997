//! SecP384r1MLKEM1024, the hybrid key exchange of the highest level of wire encryption (IANA 0x11ED,
//! draft-ietf-tls-ecdhe-mlkem). rustls has both halves, and not their combination.
//!
//! The classical half comes first, in the shares and in the secret: an attacker has to break both halves.

use rustls::{
    Error, NamedGroup, PeerMisbehaved, ProtocolVersion,
    crypto::{
        ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup,
        aws_lc_rs::kx_group::{MLKEM1024, SECP384R1},
    },
    ffdhe_groups::FfdheGroup,
};

/// The group, for a provider's list.
pub(crate) static SECP384R1_MLKEM1024: &dyn SupportedKxGroup = &SecP384r1MlKem1024;
/// Its codepoint, for which rustls has no name.
pub(crate) const CODEPOINT: NamedGroup = NamedGroup::Unknown(0x11ed);

/// Bytes of an uncompressed point on P-384.
const POINT_BYTES: usize = 97;
/// Bytes of an ML-KEM-1024 encapsulation key, which a client sends, and of a ciphertext, its answer.
const ML_KEM_BYTES: usize = 1568;

#[derive(Debug)]
struct SecP384r1MlKem1024;

/// The two halves of a share. Any other length is refused: a half that is cut short would weaken the whole.
fn split(share: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    match share.len() {
        length if length == POINT_BYTES + ML_KEM_BYTES => Ok(share.split_at(POINT_BYTES)),
        _ => Err(PeerMisbehaved::InvalidKeyShare.into()),
    }
}

/// The secret of both halves, which is erased when it is dropped.
fn join(classical: &SharedSecret, post_quantum: &SharedSecret) -> SharedSecret {
    SharedSecret::from([classical.secret_bytes(), post_quantum.secret_bytes()].concat())
}

impl SupportedKxGroup for SecP384r1MlKem1024 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let (classical, post_quantum) = (SECP384R1.start()?, MLKEM1024.start()?);
        let share = [classical.pub_key(), post_quantum.pub_key()].concat();
        Ok(Box::new(Active { classical, post_quantum, share }))
    }

    /// aws-lc checks that the point is on the curve, and the encapsulation key as FIPS 203 demands.
    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (point, key) = split(client_share)?;
        let classical = SECP384R1.start_and_complete(point)?;
        let post_quantum = MLKEM1024.start_and_complete(key)?;
        Ok(CompletedKeyExchange {
            group: CODEPOINT,
            pub_key: [classical.pub_key, post_quantum.pub_key].concat(),
            secret: join(&classical.secret, &post_quantum.secret),
        })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        CODEPOINT
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

/// An exchange whose share was sent. It offers no half by itself (`hybrid_component`): that would be a downgrade.
struct Active {
    classical: Box<dyn ActiveKeyExchange>,
    post_quantum: Box<dyn ActiveKeyExchange>,
    share: Vec<u8>,
}

impl ActiveKeyExchange for Active {
    fn complete(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        let (point, ciphertext) = split(server_share)?;
        Ok(join(&self.classical.complete(point)?, &self.post_quantum.complete(ciphertext)?))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        CODEPOINT
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{agreement, kem};

    use super::*;

    #[test]
    fn both_ends_get_one_secret_of_both_halves() {
        let client = SECP384R1_MLKEM1024.start().unwrap();
        assert_eq!((client.group(), client.pub_key().len()), (CODEPOINT, 1665));
        let server = SECP384R1_MLKEM1024.start_and_complete(client.pub_key()).unwrap();
        assert_eq!((server.group, server.pub_key.len()), (CODEPOINT, 1665));
        let secret = client.complete(&server.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), server.secret.secret_bytes());
        assert_eq!(secret.secret_bytes().len(), 48 + 32);
    }

    /// The order of the draft, against the primitives themselves: ECDH first, in shares and secret.
    #[test]
    fn the_halves_stand_in_the_order_of_the_draft() {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let point = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P384, &rng).unwrap();
        let key = kem::DecapsulationKey::generate(&kem::ML_KEM_1024).unwrap();
        let encapsulation = key.encapsulation_key().unwrap().key_bytes().unwrap();
        let share = [point.compute_public_key().unwrap().as_ref(), encapsulation.as_ref()].concat();
        let server = SECP384R1_MLKEM1024.start_and_complete(&share).unwrap();
        let theirs = agreement::UnparsedPublicKey::new(&agreement::ECDH_P384, &server.pub_key[..97]);
        let classical = agreement::agree_ephemeral(point, theirs, (), |secret| Ok(secret.to_vec())).unwrap();
        let post_quantum = key.decapsulate(server.pub_key[97..].into()).unwrap();
        assert_eq!(server.secret.secret_bytes(), [&classical[..], post_quantum.as_ref()].concat());
    }

    #[test]
    fn a_share_that_is_cut_or_altered_is_refused() {
        let share = SECP384R1_MLKEM1024.start().unwrap().pub_key().to_vec();
        let longer = [&share[..], &[0]].concat();
        let off_curve = [&[4][..], &[7; 96], &share[97..]].concat();
        // An encapsulation key with a coefficient that is not reduced.
        let not_reduced = [&share[..97], &[0xff; 1568]].concat();
        let swapped = [&share[97..], &share[..97]].concat();
        for wrong in [&share[..97], &share[..1664], &longer, &off_curve, &not_reduced, &swapped, &[][..]] {
            assert!(SECP384R1_MLKEM1024.start_and_complete(wrong).is_err(), "{} bytes", wrong.len());
            let client = SECP384R1_MLKEM1024.start().unwrap();
            // A ciphertext of the right length decapsulates to another secret; any other length is refused.
            if wrong.len() != 1665 {
                assert!(client.complete(wrong).is_err(), "{} bytes", wrong.len());
            }
        }
    }
}
