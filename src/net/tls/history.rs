//! CAs of before, `ca-history*.pem`: what was signed while they were in use is still believed, and no connection is.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, Error, RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{
    TlsError,
    errors::{self, is_unknown_ca},
    handshake,
    keypair::Validity,
    revocation::Revocations,
    roles,
};

/// The warning about a CA of before of which there is no revocation list.
pub(crate) fn warning_without_list(der: &CertificateDer<'_>) -> String {
    let name = roles::parse(der).map(|certificate| certificate.subject().to_string());
    format!(
        "no revocation list of {}, a CA of before (ca-history*.pem), is in the certificates directory: if it has revoked \
         certificates, what they have signed is believed again. Copy its list there, as ca-history.crl",
        name.unwrap_or_default()
    )
}

/// The CAs of before.
#[derive(Debug, Default)]
pub(crate) struct History(Vec<Former>);

#[derive(Debug)]
struct Former {
    verifier: Arc<dyn ClientCertVerifier>,
    validity: Validity,
}

impl History {
    /// Adds the certificate of a CA, from this file.
    pub(crate) fn add(&mut self, path: &Path, der: CertificateDer<'static>) -> Result<(), TlsError> {
        let unusable =
            |error| TlsError::NotTrusted { path: path.to_owned(), reason: errors::own_certificate(&error) };
        let validity = Validity::of(path, &der)?;
        let mut roots = RootCertStore::empty();
        roots.add(der).map_err(unusable)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), handshake::provider());
        let verifier =
            builder.build().map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
        self.0.push(Former { verifier, validity });
        Ok(())
    }

    /// Verifies the chain of the signer of a statement that was made at that time, in the past, when `present`, the
    /// result with the CAs of now, is known. What was revoked since is refused, whichever CA has certified it.
    pub(crate) fn verify_past(
        &self,
        present: Result<(), Error>,
        revocations: &Revocations,
        (leaf, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        at: UnixTime,
    ) -> Result<(), Error> {
        let verified = match present {
            Err(error) if is_unknown_ca(&error) => {
                self.certified(leaf, intermediates, at).unwrap_or(Err(error))
            }
            verified => verified,
        };
        verified.and_then(|()| revocations.check(leaf, intermediates))
    }

    /// Whether one of them has certified this chain, all of it valid at that time; `None`: it is of none of them.
    fn certified(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Option<Result<(), Error>> {
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let mut refused = None;
        for former in &self.0 {
            let Validity { not_before_unix_seconds: from, not_after_unix_seconds: to, .. } = former.validity;
            let verified = match (from..=to).contains(&seconds) {
                true => former.verifier.verify_client_cert(leaf, intermediates, at).map(drop),
                false => former
                    .verifier
                    .verify_client_cert(leaf, intermediates, at)
                    .and(Err(CertificateError::Expired.into())),
            };
            match verified {
                Ok(()) => return Some(Ok(())),
                Err(error) if is_unknown_ca(&error) => {}
                Err(error) => refused = Some(Err(error)),
            }
        }
        refused
    }
}
