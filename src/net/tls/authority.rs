//! The trusted CAs, and how many certificates each has revoked. Comparing these numbers between nodes is the
//! only way to see that a node lacks the newest revocation list.

use std::collections::{BTreeMap, HashSet};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    revocation_list::CertificateRevocationList,
};

use super::roles;

/// Bytes of the hash that identifies a CA.
const KEY_BYTES: usize = 16;

/// A trusted CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The first half of SHA-256 of its public key (SubjectPublicKeyInfo), in hex. It is
    /// the same on all nodes, whatever the name of the file.
    pub key: String,
    /// Its subject.
    pub name: String,
    /// How many of its certificates the revocation lists of the directory contain.
    pub revoked: u64,
}

/// The CAs among `roots`, each public key once, with the number of certificates that `lists` revoke, ordered by
/// key. Malformed entries are skipped, because rustls refuses the whole directory for them.
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
