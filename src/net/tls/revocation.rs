//! The revocation lists of the certificates directory, enforced as they are counted.
//!
//! rustls takes, of several lists of one CA, the first one only. Brock therefore checks revocation itself, after
//! rustls has verified a chain: a certificate that any list of the directory names is refused, and the same
//! lists give the numbers that are shown and compared between nodes. An old list is used too: it is better
//! than none, and a certificate that was revoked once stays revoked.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    certificate::X509Certificate,
    error::X509Error,
    extensions::{AuthorityKeyIdentifier, ParsedExtension},
    oid_registry as oid,
    prelude::FromDer as _,
    revocation_list::{CertificateRevocationList, RevokedCertificate},
    x509::SubjectPublicKeyInfo,
};

use super::{TlsError, algorithms::Signed as _, roles};

/// The extension of an entry that is of another CA than the list.
const CERTIFICATE_ISSUER: &str = "2.5.29.29";
/// Bytes of the hash that identifies a CA.
const KEY_BYTES: usize = 16;

/// A CA, and how many certificates it has revoked. Comparing these numbers between nodes is the only way to see
/// that a node lacks the newest revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The first half of SHA-256 of its public key (SubjectPublicKeyInfo), in hex; of an intermediate CA, which
    /// the directory does not trust by itself, of its name. It is the same on all nodes, whatever the name of
    /// the file.
    pub key: String,
    /// Its subject.
    pub name: String,
    /// How many of its certificates the revocation lists of the directory contain.
    pub revoked: u64,
    /// Whether its certificate is neither among the CAs of the directory nor in the chain of the node's own
    /// certificate: other nodes may show it, or it may be a CA that is gone.
    pub is_absent: bool,
}

impl Authority {
    /// The warning about the list of a CA that is not in the directory.
    pub(crate) fn warning(&self) -> Option<String> {
        self.is_absent.then(|| {
            format!(
                "a revocation list is of {}, a CA that is not in the certificates directory: it is enforced for \
                 certificates that name this CA as their issuer. If it is an intermediate CA of other nodes or of \
                 clients, that is right; otherwise copy the list of the right CA, and remove this one",
                self.name
            )
        })
    }
}

/// A revocation list and its file.
pub(crate) type ListFile = (PathBuf, CertificateRevocationListDer<'static>);

/// What the lists of a directory revoke.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// By the name of the issuer, DER.
    by_issuer: HashMap<Vec<u8>, Vec<Revoked>>,
}

/// The serial numbers that one key has revoked.
#[derive(Debug)]
struct Revoked {
    /// The key that has signed the list, DER; `None`: the lists of an intermediate CA, whose certificate only its
    /// holders show.
    signer: Option<Vec<u8>>,
    /// The issuer's name, to be shown.
    name: String,
    serials: HashSet<Vec<u8>>,
}

/// Who has signed a list.
enum Signer {
    /// This key of a trusted CA.
    Trusted(Vec<u8>),
    /// A CA that is not in the directory.
    Unknown,
    /// An earlier key of a trusted CA's name: no certificate that it has signed is trusted.
    Replaced,
}

impl Revocations {
    /// Reads the lists. Each counts in full, or the error names its file and the reason. Also returns the
    /// warnings about lists that have no effect.
    pub(crate) fn new(
        lists: &[ListFile],
        roots: &[CertificateDer<'_>],
    ) -> Result<(Self, Vec<String>), TlsError> {
        let roots: Vec<_> = roots.iter().filter_map(|der| roles::parse(der).ok()).collect();
        let (mut all, mut warnings) = (Self::default(), Vec::new());
        for (path, der) in lists {
            let unusable = |reason| TlsError::RevocationList { path: path.clone(), reason };
            let list = parse(der).map_err(unusable)?;
            let signer = match signer(&list, &roots).map_err(unusable)? {
                Signer::Trusted(key) => Some(key),
                Signer::Unknown => None,
                Signer::Replaced => {
                    warnings.push(replaced(path, &list));
                    continue;
                }
            };
            let of_issuer = all.by_issuer.entry(list.issuer().as_raw().to_vec()).or_default();
            let serials = list.iter_revoked_certificates().map(|entry| serial(entry.raw_serial()));
            match of_issuer.iter_mut().find(|known| known.signer == signer) {
                Some(known) => known.serials.extend(serials),
                None => of_issuer.push(Revoked {
                    signer,
                    name: list.issuer().to_string(),
                    serials: serials.collect(),
                }),
            }
        }
        Ok((all, warnings))
    }

    /// Whether there is a list of this CA, be it empty.
    pub(crate) fn has_list_of(&self, ca: &CertificateDer<'_>) -> bool {
        let Ok(ca) = roles::parse(ca) else { return false };
        let of_issuer = self.by_issuer.get(ca.subject().as_raw());
        of_issuer.is_some_and(|all| all.iter().any(|one| one.signer.as_deref() == Some(ca.public_key().raw)))
    }

    /// Refuses a chain in which a certificate is revoked.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        if self.by_issuer.is_empty() {
            return Ok(());
        }
        for der in [leaf].into_iter().chain(intermediates) {
            let certificate = roles::parse(der).map_err(|_| CertificateError::BadEncoding)?;
            if self.has(&certificate) {
                return Err(CertificateError::Revoked.into());
            }
        }
        Ok(())
    }

    fn has(&self, certificate: &X509Certificate<'_>) -> bool {
        let Some(of_issuer) = self.by_issuer.get(certificate.issuer().as_raw()) else { return false };
        let serial = serial(certificate.raw_serial());
        of_issuer.iter().filter(|revoked| revoked.serials.contains(&serial)).any(|revoked| {
            // Two CAs of one name may use the same numbers.
            match revoked.signer.as_deref().map(SubjectPublicKeyInfo::from_der) {
                Some(Ok((_, key))) => certificate.verify(&key) != Err(X509Error::SignatureVerificationError),
                Some(Err(_)) | None => true,
            }
        })
    }

    /// The CAs among `roots`, each public key once, and the intermediate CAs that have lists, with the number of
    /// certificates that each has revoked, ordered by key. `present` are all certificates of the directory.
    pub(crate) fn authorities(
        &self,
        roots: &[CertificateDer<'_>],
        present: &[CertificateDer<'_>],
    ) -> Vec<Authority> {
        let present: HashSet<Vec<u8>> = present
            .iter()
            .filter_map(|der| Some(roles::parse(der).ok()?.subject().as_raw().to_vec()))
            .collect();
        let mut known: BTreeMap<String, Authority> = BTreeMap::new();
        for root in roots.iter().filter_map(|der| roles::parse(der).ok()) {
            let key = hash(root.public_key().raw);
            let name = root.subject().to_string();
            known.entry(key.clone()).or_insert(Authority { key, name, revoked: 0, is_absent: false });
        }
        for (issuer, revoked) in
            self.by_issuer.iter().flat_map(|(issuer, all)| all.iter().map(move |r| (issuer, r)))
        {
            let key = hash(revoked.signer.as_ref().unwrap_or(issuer));
            let name = revoked.name.clone();
            let is_absent = revoked.signer.is_none() && !present.contains(issuer);
            let authority =
                known.entry(key.clone()).or_insert(Authority { key, name, revoked: 0, is_absent });
            // A CA may have had several names.
            authority.revoked += revoked.serials.len() as u64;
        }
        known.into_values().collect()
    }
}

fn parse<'a>(der: &'a CertificateRevocationListDer<'_>) -> Result<CertificateRevocationList<'a>, String> {
    let list = match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => list,
        Ok(_) => return Err("bytes follow the list".to_owned()),
        Err(error) => return Err(format!("it is malformed: {error}")),
    };
    for extension in list.extensions() {
        let parsed = extension.parsed_extension();
        if extension.oid == oid::OID_X509_EXT_DELTA_CRL_INDICATOR {
            return Err(
                "it is a delta list, which says only what has changed: use the complete list".to_owned()
            );
        }
        if matches!(parsed, ParsedExtension::IssuingDistributionPoint(point) if point.indirect_crl) {
            return Err(
                "it is an indirect list, of certificates of several CAs: use one list for each CA".to_owned()
            );
        }
        let is_understood = matches!(
            parsed,
            ParsedExtension::CRLNumber(_)
                | ParsedExtension::AuthorityKeyIdentifier(_)
                | ParsedExtension::IssuingDistributionPoint(_)
        );
        if extension.critical && !is_understood {
            return Err(format!("it has a critical extension that is unknown here ({})", extension.oid));
        }
    }
    let is_of_another = |entry: &RevokedCertificate<'_>| {
        entry.extensions().iter().any(|extension| extension.oid.to_id_string() == CERTIFICATE_ISSUER)
    };
    if list.iter_revoked_certificates().any(is_of_another) {
        return Err("it names certificates of another CA: use one list for each CA".to_owned());
    }
    Ok(list)
}

/// Finds the CA that has signed a list.
fn signer(list: &CertificateRevocationList<'_>, roots: &[X509Certificate<'_>]) -> Result<Signer, String> {
    let named: Vec<_> =
        roots.iter().filter(|root| root.subject().as_raw() == list.issuer().as_raw()).collect();
    if named.is_empty() {
        return Ok(Signer::Unknown);
    }
    for root in &named {
        match list.verify(root.public_key()) {
            Ok(()) => return Ok(Signer::Trusted(root.public_key().raw.to_vec())),
            Err(X509Error::SignatureVerificationError) => {}
            Err(error) => return Err(format!("its signature cannot be verified: {error}")),
        }
    }
    let is_theirs = |root: &&X509Certificate<'_>| key_id_of(list) == subject_key_id(root);
    match key_id_of(list) {
        Some(_) if !named.iter().any(is_theirs) => Ok(Signer::Replaced),
        Some(_) => Err("its signature is wrong: it was changed after the CA had signed it".to_owned()),
        None => {
            Err("no CA of that name in the directory has signed it, and it does not say which one has: it \
                     was changed, or is of an earlier CA of the same name. Get the newest list, or remove it"
                .to_owned())
        }
    }
}

fn replaced(path: &Path, list: &CertificateRevocationList<'_>) -> String {
    format!(
        "the revocation list {} is of an earlier CA named {}, which is not trusted here any more: it has no effect. \
         Remove it",
        path.display(),
        list.issuer()
    )
}

/// The identifier of the key that has signed a list, as the list states it.
fn key_id_of<'a>(list: &'a CertificateRevocationList<'_>) -> Option<&'a [u8]> {
    list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(AuthorityKeyIdentifier {
            key_identifier: Some(id), ..
        }) => Some(id.0),
        _ => None,
    })
}

fn subject_key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

/// A serial number without the leading zeros that some tools write and others leave out.
fn serial(raw: &[u8]) -> Vec<u8> {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    raw[zeros..].to_vec()
}

fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(&digest(&SHA256, bytes).as_ref()[..KEY_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Dates, TestCa, TestLeaf, kind_admin};

    fn admin(ca: &TestCa) -> TestLeaf {
        ca.leaf(&kind_admin("ops"), Dates::now())
    }

    fn file(name: &str, list: CertificateRevocationListDer<'static>) -> ListFile {
        (PathBuf::from(name), list)
    }

    fn load(lists: &[ListFile], roots: &[&TestCa]) -> (Revocations, Vec<String>) {
        Revocations::new(lists, &roots.iter().map(|ca| ca.der()).collect::<Vec<_>>()).unwrap()
    }

    fn is_revoked(revocations: &Revocations, leaf: &TestLeaf) -> bool {
        match revocations.check(&leaf.der, &[]) {
            Ok(()) => false,
            Err(Error::InvalidCertificate(CertificateError::Revoked)) => true,
            Err(error) => panic!("{error}"),
        }
    }

    fn counts(revocations: &Revocations, roots: &[&TestCa]) -> Vec<u64> {
        let roots: Vec<_> = roots.iter().map(|ca| ca.der()).collect();
        revocations.authorities(&roots, &roots).iter().map(|authority| authority.revoked).collect()
    }

    #[test]
    fn of_several_lists_of_one_ca_each_is_enforced_and_counted() {
        let ca = TestCa::new();
        let [first, second, third] = [(); 3].map(|()| admin(&ca));
        let lists = [file("a.crl", ca.list(&[&first])), file("b.crl", ca.list(&[&first, &second]))];
        for lists in [lists.clone(), [lists[1].clone(), lists[0].clone()]] {
            let (revocations, warnings) = load(&lists, &[&ca]);
            assert_eq!(warnings, [""; 0]);
            assert_eq!(
                [&first, &second, &third].map(|leaf| is_revoked(&revocations, leaf)),
                [true, true, false]
            );
            assert_eq!(counts(&revocations, &[&ca]), [2]);
        }
        assert!(!is_revoked(&load(&[], &[&ca]).0, &first));
    }

    #[test]
    fn a_list_of_an_earlier_ca_of_the_same_name_has_no_effect_and_is_reported() {
        let (earlier, ca) = (TestCa::new(), TestCa::new());
        let leaf = ca.numbered_leaf(&kind_admin("ops"), Dates::now(), Some(7));
        let namesake = earlier.numbered_leaf(&kind_admin("ops"), Dates::now(), Some(7));
        let lists = [file("old.crl", earlier.list(&[&namesake]))];
        let (revocations, warnings) = load(&lists, &[&ca]);
        assert!(!is_revoked(&revocations, &leaf));
        assert!(warnings.len() == 1 && warnings[0].contains("old.crl is of an earlier CA"), "{warnings:?}");
        // While both are trusted, each list is about the certificates of its own key.
        let (revocations, warnings) = load(&lists, &[&ca, &earlier]);
        assert_eq!(warnings, [""; 0]);
        assert_eq!([&leaf, &namesake].map(|leaf| is_revoked(&revocations, leaf)), [false, true]);
        let mut counts = counts(&revocations, &[&ca, &earlier]);
        counts.sort_unstable();
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn a_list_of_an_intermediate_ca_is_enforced_and_counted() {
        let (root, intermediate) = (TestCa::named("Root"), TestCa::named("Intermediate"));
        let [revoked, valid] = [(); 2].map(|()| admin(&intermediate));
        let (revocations, _) = load(&[file("i.crl", intermediate.list(&[&revoked]))], &[&root]);
        assert_eq!([&revoked, &valid].map(|leaf| is_revoked(&revocations, leaf)), [true, false]);
        for (present, is_absent) in [(vec![root.der()], true), (vec![root.der(), intermediate.der()], false)]
        {
            let authorities = revocations.authorities(&[root.der()], &present);
            let shown = authorities.iter().find(|authority| authority.name == "CN=Intermediate").unwrap();
            assert_eq!((shown.revoked, shown.is_absent, authorities.len()), (1, is_absent, 2));
            assert_eq!(shown.warning().is_some(), is_absent);
            assert!(authorities.iter().all(|other| other == shown || other.warning().is_none()));
        }
        // As an intermediate certificate of a chain, too.
        let (revocations, _) = load(&[file("r.crl", root.list(&[]))], &[&root]);
        assert_eq!(revocations.check(&valid.der, &[intermediate.der()]), Ok(()));
    }

    #[test]
    fn the_lists_of_one_key_under_two_names_are_counted_together() {
        let revoked = |name: &str| {
            let serials = HashSet::from([vec![7]]);
            vec![Revoked { signer: Some(vec![1]), name: name.to_owned(), serials }]
        };
        let by_issuer = HashMap::from(["CN=A", "CN=B"].map(|name| (name.as_bytes().to_vec(), revoked(name))));
        assert_eq!(counts(&Revocations { by_issuer }, &[]), [2]);
    }

    #[test]
    fn a_list_that_cannot_be_enforced_in_full_is_refused_with_its_file() {
        let ca = TestCa::new();
        let good = ca.list(&[&admin(&ca)]);
        let mut changed = good.to_vec();
        // The last byte of the signature.
        *changed.last_mut().unwrap() ^= 1;
        let mut longer = good.to_vec();
        longer.push(0);
        for (der, part) in [
            (changed, "its signature is wrong"),
            (longer, "bytes follow the list"),
            (b"no list".to_vec(), "malformed"),
        ] {
            let error = Revocations::new(&[file("x.crl", der.into())], &[ca.der()]).unwrap_err().to_string();
            assert!(error.contains("x.crl") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn leading_zeros_of_a_serial_number_do_not_count() {
        assert_eq!(serial(&[0, 0xff, 0]), serial(&[0xff, 0]));
        assert_ne!(serial(&[0xff, 0]), serial(&[0xff]));
        assert_eq!(serial(&[0]), serial(&[]));
    }
}
