//! The identity that a certificate states.
//!
//! A certificate states its role in one `spiffe://<domain>/<role>/<name>` URI among its subject
//! alternative names. A certificate without such a URI (made by the `openssl` recipe) states it by its
//! extended key usage. A certificate with neither is denied.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName},
    prelude::FromDer,
};

use crate::task;
use brock_core::base::{id::NodeId, limits};

/// What the holder of a certificate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Replicates.
    Node,
    /// Reads and writes records.
    Client,
    /// Operates nodes.
    Admin,
}

impl Role {
    /// The name in URIs, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Client => "client",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which certificates are accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolePolicy {
    /// Refuse certificates that state their role by key usage instead of a URI. Under a CA that signs for
    /// other systems too, each of its client certificates would be an admin.
    pub require_uri: bool,
}

/// Why a certificate states no identity. The texts quote URIs escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// Not X.509, or an extension that matters is malformed or repeated.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// More than one identity.
    #[error("the certificate has more than one spiffe URI ({0} and {1}): it must state one identity")]
    SeveralUris(String, String),
    /// A spiffe URI that does not name a role.
    #[error("the certificate's URI {0} is not of the form spiffe://DOMAIN/node|client|admin/NAME")]
    UnknownUri(String),
    /// A role URI whose name is not a valid one.
    #[error("the certificate's URI {uri} has an invalid name: {reason}")]
    InvalidName {
        /// The URI.
        uri: String,
        /// What is wrong with its last part.
        reason: String,
    },
    /// A certificate without a URI where one is required.
    #[error(
        "the certificate (serial {serial}) has no spiffe URI, and certificates without one are refused here \
         (node.require-uri-roles): make one with `brock cert`, or add URI:spiffe://DOMAIN/node|client|admin/NAME to \
         subjectAltName in your openssl recipe (docs/guides/certificates.md)"
    )]
    UriRequired {
        /// The certificate's serial number, in hex.
        serial: String,
    },
    /// Neither a URI nor a key usage that states a role.
    #[error(
        "the certificate (serial {serial}) states no role: it has no spiffe URI, and its extended key usage is \
         neither clientAuth with serverAuth (a node) nor clientAuth alone (an admin)"
    )]
    NoRole {
        /// The certificate's serial number, in hex.
        serial: String,
    },
    /// The certificate is valid, but not a node's.
    #[error("the certificate belongs to {0}, but a node certificate is needed")]
    NotANode(String),
}

/// The identity of a peer, as its certificate states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The role.
    pub role: Role,
    /// The node id, or the name of a client or admin; `None` without a URI.
    pub name: Option<String>,
    /// The domain of the URI; `None` without a URI.
    pub trust_domain: Option<String>,
    /// Whether the role comes from the key usage, because there is no URI.
    pub legacy: bool,
    /// The certificate's serial number, in hex.
    pub serial: String,
    /// The certificate's SHA-256, in hex.
    pub fingerprint: String,
    /// When the certificate expires, seconds since the Unix epoch.
    pub not_after_unix_seconds: i64,
}

impl PeerIdentity {
    /// Reads the identity from a leaf certificate. The caller has verified the chain.
    pub fn of_certificate(der: &[u8], policy: RolePolicy) -> Result<Self, RoleError> {
        let certificate = parse(der)?;
        let serial = certificate.raw_serial_as_string();
        let fingerprint = HEXLOWER.encode(digest(&SHA256, der).as_ref());
        let not_after_unix_seconds = certificate.validity().not_after.timestamp();
        if let Some(uri) = spiffe_uri(&certificate)? {
            let (trust_domain, role, name) = parse_uri(&uri)?;
            return Ok(Self {
                role,
                name: Some(name),
                trust_domain: Some(trust_domain),
                legacy: false,
                serial,
                fingerprint,
                not_after_unix_seconds,
            });
        }
        if policy.require_uri {
            return Err(RoleError::UriRequired { serial });
        }
        let usage = certificate.extended_key_usage().map_err(|e| RoleError::Malformed(e.to_string()))?;
        let Some(role) = usage.and_then(|usage| role_of_usage(usage.value)) else {
            return Err(RoleError::NoRole { serial });
        };
        Ok(Self {
            role,
            name: None,
            trust_domain: None,
            legacy: true,
            serial,
            fingerprint,
            not_after_unix_seconds,
        })
    }

    /// The node id that the certificate states. Its holder may act as this node only. `None` for a client or
    /// an admin, and for a node without a URI.
    pub fn node_id(&self) -> Option<NodeId> {
        match self.role {
            Role::Node => self.name.as_ref().and_then(|name| name.parse().ok()),
            Role::Client | Role::Admin => None,
        }
    }

    /// Who holds the certificate, as far as that is proved: the role and the name; without a URI, the certificate
    /// itself.
    pub fn holder(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.role),
            None => {
                format!("{} with certificate {}", self.role, self.fingerprint.get(..16).unwrap_or_default())
            }
        }
    }

    /// The identity, if it is a node's.
    pub(crate) fn require_node(self) -> Result<Self, RoleError> {
        match self.role {
            Role::Node => Ok(self),
            Role::Client | Role::Admin => Err(RoleError::NotANode(self.to_string())),
        }
    }
}

/// `node eu1-1`, `admin ops`, `admin (no URI; serial 01:a2)`
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name}", self.role),
            None => write!(f, "{} (no URI; serial {})", self.role, self.serial),
        }
    }
}

/// Parses one whole certificate.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, RoleError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(RoleError::Malformed("bytes follow it".to_owned())),
        Err(error) => Err(RoleError::Malformed(error.to_string())),
    }
}

/// Whether the certificate names a host: a DNS name or an IP address.
pub(crate) fn names_a_host(certificate: &X509Certificate<'_>) -> bool {
    let is_host =
        |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().any(is_host),
        Ok(None) | Err(_) => false,
    }
}

/// Checks the name of a client or admin. Certificates state it and audit lines show it.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return Err("a name must not be empty".to_owned());
    }
    if name.len() > limits::CERTIFICATE_NAME_MAX_BYTES {
        return Err(format!(
            "a name has at most {} bytes, this one has {}",
            limits::CERTIFICATE_NAME_MAX_BYTES,
            name.len()
        ));
    }
    if !name.chars().all(allowed) {
        return Err("a name consists of letters, digits, '.', '_' and '-'".to_owned());
    }
    Ok(())
}

/// The one spiffe URI of a certificate. The comparison of the scheme ignores case, so that an unusual
/// spelling is denied as unknown instead of ignored.
fn spiffe_uri(certificate: &X509Certificate<'_>) -> Result<Option<String>, RoleError> {
    let names = certificate.subject_alternative_name().map_err(|e| RoleError::Malformed(e.to_string()))?;
    let mut found: Option<String> = None;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let uri = match name {
            GeneralName::URI(uri) => *uri,
            GeneralName::Invalid(..) => {
                return Err(RoleError::Malformed("a subject alternative name is invalid".to_owned()));
            }
            _ => continue,
        };
        let is_spiffe = uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"));
        match found {
            _ if !is_spiffe => {}
            Some(first) => return Err(RoleError::SeveralUris(quoted(&first), quoted(uri))),
            None => found = Some(uri.to_owned()),
        }
    }
    Ok(found)
}

/// `spiffe://<domain>/<role>/<name>` and nothing else.
fn parse_uri(uri: &str) -> Result<(String, Role, String), RoleError> {
    let unknown = || RoleError::UnknownUri(quoted(uri));
    let parts: Vec<&str> = uri.strip_prefix("spiffe://").ok_or_else(unknown)?.split('/').collect();
    let [domain, role, name] = parts[..] else { return Err(unknown()) };
    check_trust_domain(domain).map_err(|_| unknown())?;
    let role = match role {
        "node" => Role::Node,
        "client" => Role::Client,
        "admin" => Role::Admin,
        _ => return Err(unknown()),
    };
    let valid = match role {
        Role::Node => name.parse::<NodeId>().map(drop).map_err(|error| error.to_string()),
        Role::Client | Role::Admin => check_name(name),
    };
    valid.map_err(|reason| RoleError::InvalidName { uri: quoted(uri), reason })?;
    Ok((domain.to_owned(), role, name.to_owned()))
}

/// Checks a trust domain as SPIFFE defines it.
pub(crate) fn check_trust_domain(domain: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if domain.is_empty() || domain.len() > 255 || !domain.chars().all(allowed) {
        return Err("a trust domain is 1 to 255 lower-case letters, digits, '.', '_' and '-'".to_owned());
    }
    Ok(())
}

/// Exactly the usages of the openssl recipe. A certificate with further usages (such as emailProtection) was
/// issued for another purpose and states no role.
fn role_of_usage(usage: &ExtendedKeyUsage<'_>) -> Option<Role> {
    let ExtendedKeyUsage {
        any,
        server_auth,
        client_auth,
        code_signing,
        email_protection,
        time_stamping,
        ocsp_signing,
        other,
    } = usage;
    if *any || *code_signing || *email_protection || *time_stamping || *ocsp_signing || !other.is_empty() {
        return None;
    }
    match (client_auth, server_auth) {
        (true, true) => Some(Role::Node),
        (true, false) => Some(Role::Admin),
        (false, _) => None,
    }
}

fn quoted(text: &str) -> String {
    task::bounded(&text.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::ExtendedKeyUsagePurpose as Usage;

    use super::*;
    use crate::tls::testing::{Dates, TestCa, TestKind, kind_admin, kind_node};

    fn identity(kind: &TestKind, require_uri: bool) -> Result<PeerIdentity, RoleError> {
        let leaf = TestCa::new().leaf(kind, Dates::now());
        PeerIdentity::of_certificate(&leaf.der, RolePolicy { require_uri })
    }

    #[test]
    fn the_uri_alone_decides_whatever_the_key_usage() {
        let both = [Usage::ServerAuth, Usage::ClientAuth];
        for (uri, role, name) in [
            ("spiffe://brock/node/eu1-1", Role::Node, "eu1-1"),
            ("spiffe://example.org/client/gateway_1", Role::Client, "gateway_1"),
            ("spiffe://brock/admin/ops.team", Role::Admin, "ops.team"),
        ] {
            for usages in [&both[..], &both[1..], &[]] {
                let kind = kind_admin("x").without_uri().with_uri(uri).with_usages(usages);
                let identity = identity(&kind, true).unwrap();
                assert_eq!((identity.role, identity.name.as_deref()), (role, Some(name)), "{uri}");
                assert!(!identity.legacy);
                assert_eq!(identity.node_id().is_some(), role == Role::Node);
                assert_eq!(identity.to_string(), format!("{role} {name}"));
            }
        }
    }

    #[test]
    fn without_a_uri_only_the_exact_key_usages_of_the_recipe_mean_a_role() {
        let (server, client) = (Usage::ServerAuth, Usage::ClientAuth);
        for (usages, role) in [
            (vec![server.clone(), client.clone()], Some(Role::Node)),
            (vec![client.clone()], Some(Role::Admin)),
            (vec![server.clone()], None),
            (vec![], None),
            (vec![Usage::Any], None),
            (vec![client.clone(), Usage::EmailProtection], None),
            (vec![client, server, Usage::CodeSigning], None),
        ] {
            let kind = kind_node("x", &["localhost"]).without_uri().with_usages(&usages);
            let found = identity(&kind, false);
            assert_eq!(found.as_ref().ok().map(|identity| identity.role), role, "{usages:?}");
            if let Ok(identity) = found {
                assert!(identity.legacy && identity.node_id().is_none());
                assert!(identity.to_string().contains("(no URI; serial "));
            }
            assert!(matches!(identity(&kind, true), Err(RoleError::UriRequired { .. })));
        }
    }

    #[test]
    fn a_uri_of_any_other_form_is_denied_and_never_overlooked() {
        for uri in [
            "spiffe://brock/node/",
            "spiffe://brock/node",
            "spiffe://brock/node/a/b",
            "spiffe://brock/node/a?b",
            "spiffe://brock/node/a%2fb",
            "spiffe://brock/Node/a",
            "spiffe://brock/root/a",
            "spiffe:///admin/a",
            "spiffe://BROCK/admin/a",
            "spiffe://u@brock/admin/a",
            "SPIFFE://brock/admin/a",
            "spiffe:admin",
            "spiffe://brock/node/12345678901234567890123456789",
            "spiffe://brock/admin/a b",
        ] {
            let kind = kind_admin("x").without_uri().with_uri(uri);
            let error = identity(&kind, false).unwrap_err();
            assert!(
                matches!(error, RoleError::UnknownUri(_) | RoleError::InvalidName { .. }),
                "{uri}: {error}"
            );
        }
        let two = kind_admin("x").with_uri("spiffe://brock/node/a");
        assert!(matches!(identity(&two, false), Err(RoleError::SeveralUris(..))));
        let other_scheme = kind_admin("x").with_uri("https://example.com/");
        assert_eq!(identity(&other_scheme, true).unwrap().to_string(), "admin x");
        assert!(matches!(
            PeerIdentity::of_certificate(b"junk", RolePolicy::default()),
            Err(RoleError::Malformed(_))
        ));
    }
}
