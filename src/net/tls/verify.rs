//! The role check inside the handshake: first rustls's own chain check, then ours.
//!
//! It could be made after the handshake just as well, but then the refused side would see a closed
//! connection; this way it gets an alert, which [`super::errors`] puts into words.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    registry::Current,
    roles::{PeerIdentity, RoleError, RolePolicy},
};

/// Accepts clients whose certificate states a role.
#[derive(Debug)]
pub(crate) struct ClientRoleVerifier {
    current: Arc<Current>,
    policy: RolePolicy,
    mandatory: bool,
}

impl ClientRoleVerifier {
    pub(crate) fn new(current: Arc<Current>, policy: RolePolicy) -> Self {
        Self { current, policy, mandatory: true }
    }

    /// Who shows no certificate is let in, and is nobody.
    pub(crate) fn optional(self) -> Self {
        Self { mandatory: false, ..self }
    }
}

impl ClientCertVerifier for ClientRoleVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: a hint could not outlive the trust that it is of, and everybody has one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.current.trust().clients.verify_client_cert(end_entity, intermediates, now)?;
        PeerIdentity::of_certificate(end_entity, self.policy).map_err(refusal)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.trust().clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.trust().clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.trust().clients.supported_verify_schemes()
    }
}

/// Accepts servers that are nodes and whose certificate names the dialled host.
#[derive(Debug)]
pub(crate) struct NodeVerifier {
    current: Arc<Current>,
    policy: RolePolicy,
}

impl NodeVerifier {
    pub(crate) fn new(current: Arc<Current>, policy: RolePolicy) -> Self {
        Self { current, policy }
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let nodes = Arc::clone(&self.current.trust().nodes);
        let verified =
            nodes.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        PeerIdentity::of_certificate(end_entity, self.policy)
            .and_then(PeerIdentity::require_node)
            .map_err(refusal)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.trust().nodes.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.trust().nodes.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.trust().nodes.supported_verify_schemes()
    }
}

/// The peer is told `certificate_unknown`; the reason stays inside, for our own log.
fn refusal(error: RoleError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
