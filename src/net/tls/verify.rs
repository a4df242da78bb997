//! The verifiers of the handshake: the chain is verified by rustls, the role by us.
//!
//! The role is verified inside the handshake, so that a refused peer receives an alert, which
//! [`super::errors`] explains, instead of a closed connection.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    level::WireLevel,
    roles::{PeerIdentity, RoleError, RolePolicy},
    trust_store::CurrentTrustStore,
};

/// Accepts clients whose certificate states a role.
#[derive(Debug)]
pub(crate) struct ClientRoleVerifier {
    current: Arc<CurrentTrustStore>,
    policy: RolePolicy,
    level: WireLevel,
    mandatory: bool,
}

impl ClientRoleVerifier {
    pub(crate) fn new(current: Arc<CurrentTrustStore>, policy: RolePolicy, level: WireLevel) -> Self {
        Self { current, policy, level, mandatory: true }
    }

    /// Accepts clients without a certificate too; they have no role.
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

    /// No hints: they would have to change with the trust store, and a client has one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.current.load().verify_caller(end_entity, intermediates, now, self.level)?;
        PeerIdentity::of_certificate(end_entity, self.policy).map_err(refusal)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.load().clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.load().clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().offered_schemes(self.level)
    }
}

/// Accepts nodes whose certificate names the dialled host.
#[derive(Debug)]
pub(crate) struct NodeVerifier {
    current: Arc<CurrentTrustStore>,
    policy: RolePolicy,
    level: WireLevel,
}

impl NodeVerifier {
    pub(crate) fn new(current: Arc<CurrentTrustStore>, policy: RolePolicy, level: WireLevel) -> Self {
        Self { current, policy, level }
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
        let store = self.current.load();
        let verified =
            store.verify_node(end_entity, intermediates, server_name, ocsp_response, now, self.level)?;
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
        self.current.load().nodes.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current.load().nodes.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().offered_schemes(self.level)
    }
}

/// The peer receives the alert `certificate_unknown`; the reason is only for our own log.
fn refusal(error: RoleError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
