//! Revoking certificates, for `brock cert revoke`: nodes refuse the certificates on the list and close their
//! connections.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::{
    error::X509Error, prelude::FromDer, revocation_list::CertificateRevocationList,
    x509::SubjectPublicKeyInfo,
};

use super::{
    install,
    issue::{Ca, MakeError},
};
use crate::tls::{TlsError, algorithms::Signed as _, files, roles};

/// The name of the list in the certificates directory.
const NAME: &str = "ca.crl";
const LINE: usize = 64;

/// A request to revoke certificates of the CA of the certificates directory.
#[derive(Debug, Clone)]
pub struct Revoke {
    /// The directory with `ca.crt`, where `ca.crl` is written.
    pub certs_dir: PathBuf,
    /// The CA's key.
    pub ca_key: PathBuf,
    /// The files of the certificates; the first certificate of each file is revoked.
    pub certificates: Vec<PathBuf>,
}

/// The result of [`revoke`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The list's file.
    pub list: PathBuf,
    /// The name of the CA.
    pub authority: String,
    /// How many certificates this CA has revoked in all.
    pub total: usize,
}

/// Adds certificates to the revocation list of their CA. Idempotent. The lists of other CAs in the file stay
/// as they are.
pub fn revoke(request: &Revoke) -> Result<Revoked, MakeError> {
    let Revoke { certs_dir, ca_key, certificates } = request;
    let ca = Ca::load(certs_dir, ca_key)?;
    ca.check_signs_lists()?;
    let list = certs_dir.join(NAME);
    let (mut revoked, mut number, mut others) = (Vec::new(), 0, Vec::new());
    if list.exists() {
        for der in files::revocation_lists(&list)? {
            let unreadable = |_| TlsError::NotARevocationList { path: list.clone() };
            let (_, known) = CertificateRevocationList::from_der(&der).map_err(unreadable)?;
            if known.issuer().as_raw() != ca.subject {
                others.push(der.to_vec());
                continue;
            }
            number =
                known.crl_number().and_then(|number| number.to_u64_digits().first().copied()).unwrap_or(0);
            for entry in known.iter_revoked_certificates() {
                revoked.push((entry.raw_serial().to_vec(), entry.revocation_date.to_datetime()));
            }
        }
    }
    let now = OffsetDateTime::now_utc();
    for path in certificates {
        let serial = serial_of(path, &ca)?;
        if revoked.iter().all(|(known, _)| *known != serial) {
            revoked.push((serial, now));
        }
    }
    let total = revoked.len();
    let until = OffsetDateTime::from_unix_timestamp(ca.validity.not_after_unix_seconds).unwrap_or(now);
    let params = CertificateRevocationListParams {
        this_update: now,
        // A list stays valid until the next one: without a new list, certificates must not be refused.
        next_update: until,
        crl_number: SerialNumber::from(number.saturating_add(1)),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().map(|(serial, at)| entry(&serial, at)).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let mut text = params.signed_by(&ca.issuer)?.pem()?;
    others.iter().for_each(|der| text.push_str(&pem(der)));
    install::file(&list, &text, 0o644, true)?;
    Ok(Revoked { list, authority: ca.name()?, total })
}

/// Whether the list in this directory has revoked a certificate. What cannot be read has not.
pub fn is_revoked(certs_dir: &Path, certificate: &Path) -> bool {
    let Ok(chain) = files::certificates(certificate) else { return false };
    let Some(Ok(leaf)) = chain.first().map(|der| roles::parse(der)) else { return false };
    let Ok(lists) = files::revocation_lists(&certs_dir.join(NAME)) else { return false };
    let names_it = |list: CertificateRevocationList<'_>| {
        list.issuer().as_raw() == leaf.issuer().as_raw()
            && list.iter_revoked_certificates().any(|entry| entry.raw_serial() == leaf.raw_serial())
    };
    lists.iter().any(|der| CertificateRevocationList::from_der(der).is_ok_and(|(_, list)| names_it(list)))
}

fn entry(serial: &[u8], at: OffsetDateTime) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: at,
        reason_code: Some(RevocationReason::Unspecified),
        invalidity_date: None,
    }
}

/// The serial number of a certificate that this CA has signed.
fn serial_of(path: &Path, ca: &Ca) -> Result<Vec<u8>, MakeError> {
    let chain = files::certificates(path)?;
    // `files::certificates` returns at least one.
    let leaf = roles::parse(&chain[0]).map_err(|source| TlsError::Role { path: path.to_owned(), source })?;
    if leaf.public_key().raw == ca.key {
        return Err(MakeError::TheCaItself { path: path.to_owned() });
    }
    // An earlier CA of the same name has other numbers. A signature in a way that is not known here proves nothing.
    let is_signed_by =
        |key: &SubjectPublicKeyInfo<'_>| leaf.verify(key) != Err(X509Error::SignatureVerificationError);
    let is_ours = leaf.issuer().as_raw() == ca.subject
        && SubjectPublicKeyInfo::from_der(&ca.key).is_ok_and(|(_, key)| is_signed_by(&key));
    if !is_ours {
        return Err(MakeError::OfAnotherCa { path: path.to_owned() });
    }
    Ok(leaf.raw_serial().to_vec())
}

fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(LINE).map(|at| &text[at..text.len().min(at + LINE)]).collect();
    format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n"))
}
