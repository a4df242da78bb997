//! CAs of before, `ca-history*.pem`: what was signed while they were in use is still believed, and no connection is.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{TlsError, errors, handshake, keypair::Validity};

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

    /// Whether one of them has certified this chain, all of it valid at that time. Says nothing about revocation.
    pub(crate) fn certified(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> bool {
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        self.0.iter().any(|former| {
            let Validity { not_before_unix_seconds: from, not_after_unix_seconds: to, .. } = former.validity;
            (from..=to).contains(&seconds)
                && former.verifier.verify_client_cert(leaf, intermediates, at).is_ok()
        })
    }
}
