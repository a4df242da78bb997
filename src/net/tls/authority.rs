//! The CAs that are trusted, and how much each has revoked: for whoever compares nodes. One that was not given
//! the newest list lets in who is revoked, and nothing else would tell.

use std::collections::{BTreeMap, HashSet};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    revocation_list::CertificateRevocationList,
};

use super::roles;

/// Bytes of the hash that a CA goes by.
const KEY_BYTES: usize = 16;

/// A CA that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The first half of SHA-256 of its public key (SubjectPublicKeyInfo), hex: the same at all nodes,
    /// whatever its file is called.
    pub key: String,
    /// Its subject.
    pub name: String,
    /// How many of its certificates the lists in the directory revoke.
    pub revoked: u64,
}

/// Those of `roots`, each key once, with what `lists` say of them, by name. What is malformed is left out:
/// rustls refuses the whole directory for it.
pub(crate) fn authorities<'a>(
    roots: impl Iterator<Item = &'a CertificateDer<'a>>,
    lists: &[CertificateRevocationListDer<'_>],
) -> Vec<Authority> {
    let mut known: BTreeMap<String, (X509Certificate<'a>, HashSet<Vec<u8>>)> = BTreeMap::new();
    for root in roots.filter_map(|der| roles::parse(der).ok()) {
        let key = HEXLOWER.encode(&digest(&SHA256, root.public_key().raw).as_ref()[..KEY_BYTES]);
        known.entry(key).or_insert_with(|| (root, HashSet::new()));
    }
    for list in lists {
        let Ok((_, list)) = CertificateRevocationList::from_der(list) else { continue };
        let is_of = |root: &X509Certificate<'_>| root.subject().as_raw() == list.issuer().as_raw();
        for (_, revoked) in known.values_mut().filter(|(root, _)| is_of(root)) {
            revoked.extend(list.iter_revoked_certificates().map(|entry| entry.raw_serial().to_vec()));
        }
    }
    let authority = |(key, (root, revoked)): (String, (X509Certificate<'_>, HashSet<Vec<u8>>))| Authority {
        key,
        name: root.subject().to_string(),
        revoked: revoked.len() as u64,
    };
    known.into_iter().map(authority).collect()
}
