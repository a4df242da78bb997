//! Issuing certificates with rcgen, for `brock cert` and `brock dev`: one CA, leaves that state their role in a URI.
//! A post-quantum CA and its leaves may stand beside them, in files whose names end in `-pq`.
//!
//! No file is overwritten unless asked to, and a key never has more permissions than 0400.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::{InconsistentKeys, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::{prelude::FromDer as _, x509::X509Name};

use super::{
    install,
    key::{Algorithm, CaKey},
};
use crate::tls::{
    TlsError,
    algorithms::KeyKind,
    files::{self, Inventory},
    keypair::{self, Validity},
    roles,
};
use brock_core::base::{duration, id::NodeId};

/// The default lifetime of a CA: ten years.
pub const CA_LIFETIME_DEFAULT: Duration = Duration::from_secs(3650 * DAY_SECONDS);
/// The default lifetime of a leaf: a year.
pub const LEAF_LIFETIME_DEFAULT: Duration = Duration::from_secs(365 * DAY_SECONDS);
/// The default trust domain in the URIs of leaves.
pub const TRUST_DOMAIN_DEFAULT: &str = "brock";

const DAY_SECONDS: u64 = 24 * 3600;
/// The longest lifetime. Readers of X.509 may not support later dates.
const LIFETIME_MAX: Duration = Duration::from_secs(100 * 366 * DAY_SECONDS);
/// How long before now the validity begins, for machines whose clocks are slow.
const BACKDATE_SECONDS: i64 = 300;

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// A file of that name exists.
    #[error(
        "{at} exists already and was left as it is. --overwrite replaces it, and a replaced key is lost; for a \
         new CA beside the old one, name other files",
        at = .path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The CA's key would be inside the directory that is copied to nodes.
    #[error(
        "the CA key {key} would lie inside the certificates directory {dir}: that directory is copied to nodes, and \
         anyone who has the CA key can issue certificates of every role. Keep it elsewhere",
        key = .ca_key.display(), dir = .certs_dir.display()
    )]
    CaKeyInside {
        /// The requested place of the key.
        ca_key: PathBuf,
        /// The certificates directory.
        certs_dir: PathBuf,
    },
    /// The CA's key does not exist.
    #[error(
        "there is no CA key {at}: let --ca-key name the file that `brock cert ca` wrote, or create a CA first",
        at = .path.display()
    )]
    NoCaKey {
        /// The file.
        path: PathBuf,
    },
    /// The CA's key belongs to none of the CA certificates.
    #[error(
        "{key} is not the key of any CA certificate (ca*.crt) in {dir}: copy the certificate there that was created \
         together with the key, or use another key",
        key = .ca_key.display(), dir = .certs_dir.display()
    )]
    WrongCaKey {
        /// The CA's key.
        ca_key: PathBuf,
        /// The certificates directory.
        certs_dir: PathBuf,
    },
    /// The CA's certificate does not allow its key to sign revocation lists.
    #[error(
        "{at} does not allow its CA to sign revocation lists: its key usage lacks cRLSign. Create a new CA with \
         `brock cert ca`, or make the list with the CA's own tool: nodes accept it",
        at = .path.display()
    )]
    SignsNoLists {
        /// The CA's certificate.
        path: PathBuf,
    },
    /// Another CA issued the certificate that is to be revoked.
    #[error("{at} was not made by the CA whose key was given: only its own CA can revoke it", at = .path.display())]
    OfAnotherCa {
        /// The certificate.
        path: PathBuf,
    },
    /// The certificate that is to be revoked is the CA's.
    #[error(
        "{at} is the CA's own certificate, which no list of the CA can revoke: nodes trust it because it lies in their \
         directories. Replace the CA instead: docs/guides/certificates.md, Replace the CA", at = .path.display()
    )]
    TheCaItself {
        /// The certificate.
        path: PathBuf,
    },
    /// A post-quantum leaf under a classical CA.
    #[error(
        "a certificate of {algorithm} gives no protection under the classical CA {at}, whose signature could be forged, and \
         nodes refuse it: make a post-quantum CA first, `brock cert ca … --post-quantum {algorithm}` beside this one, or a \
         new one with --algorithm",
        at = .path.display()
    )]
    ClassicalCa {
        /// The CA's certificate.
        path: PathBuf,
        /// The algorithm that was asked for.
        algorithm: Algorithm,
    },
    /// A leaf would be valid for longer than its CA.
    #[error(
        "a lifetime of {wanted} goes beyond the CA's end at {ca_not_after}: choose at most {longest} (--lifetime), or \
         create a new CA"
    )]
    OutlivesCa {
        /// The requested lifetime.
        wanted: String,
        /// When the CA expires, RFC 3339.
        ca_not_after: String,
        /// The longest possible lifetime.
        longest: String,
    },
    /// A lifetime below a minute or above a century.
    #[error("a certificate cannot live for {0}: choose a lifetime of at least 1m and at most 100 years")]
    Lifetime(String),
    /// A node certificate without hosts.
    #[error(
        "a node certificate needs at least one --host: the names and IP addresses under which peers and clients dial \
         the node, without port"
    )]
    NoHosts,
    /// A host that no certificate can state.
    #[error("{0:?} is not a host: give a DNS name or an IP address, without port and brackets")]
    Host(String),
    /// A client's or admin's name, or a trust domain, that is not valid.
    #[error("{value:?} cannot be used in a certificate: {reason}")]
    Name {
        /// The value.
        value: String,
        /// The reason.
        reason: String,
    },
    /// The existing CA could not be read.
    #[error(transparent)]
    Load(#[from] TlsError),
    /// A file could not be written.
    #[error("cannot write {at}: {source}", at = .path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// rcgen failed. The checks above should make this impossible.
    #[error("the certificate could not be issued: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A request for a new CA: `ca.crt` in the certificates directory, its key elsewhere.
#[derive(Debug, Clone)]
pub struct MakeCa {
    /// The directory of `ca.crt`; created if it does not exist.
    pub certs_dir: PathBuf,
    /// The file of the key; its directory is created (0700) if it does not exist.
    pub ca_key: PathBuf,
    /// The lifetime of the CA.
    pub lifetime: Duration,
    /// Replace an existing CA.
    pub overwrite: bool,
    /// The algorithm of its key.
    pub algorithm: Algorithm,
    /// Make the CA of the second, post-quantum chain: `ca-pq.crt`.
    pub second: bool,
}

/// The kind of a leaf certificate.
#[derive(Debug, Clone)]
pub enum LeafKind {
    /// `node.crt` and `node.key`.
    Node {
        /// The node id; the holder may act as this node only.
        node_id: NodeId,
        /// The DNS names and IP addresses by which peers and clients dial the node; at least one.
        hosts: Vec<String>,
    },
    /// `client.crt` and `client.key` of an application that reads and writes records.
    Client {
        /// The name, for logs.
        name: String,
    },
    /// `client.crt` and `client.key` of an operator.
    Admin {
        /// The name, for logs and the audit log.
        name: String,
    },
}

/// A request for a leaf certificate, signed by the CA of the certificates directory.
#[derive(Debug, Clone)]
pub struct MakeLeaf {
    /// The directory with `ca.crt`, where the certificate and key are written.
    pub certs_dir: PathBuf,
    /// The CA's key.
    pub ca_key: PathBuf,
    /// The kind of the certificate.
    pub kind: LeafKind,
    /// The domain of its URI, see [`TRUST_DOMAIN_DEFAULT`].
    pub trust_domain: String,
    /// The lifetime; not beyond that of the CA.
    pub lifetime: Duration,
    /// Replace an existing certificate and key.
    pub overwrite: bool,
    /// The algorithm of its key; `None` = that of the CA's.
    pub algorithm: Option<Algorithm>,
    /// Make the second, post-quantum certificate: `node-pq.crt`, `client-pq.crt`.
    pub second: bool,
}

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
    /// When the certificate expires, seconds since the Unix epoch.
    pub not_after_unix_seconds: i64,
}

/// Creates a CA that may sign leaves only (path length 0).
pub fn make_ca(request: &MakeCa) -> Result<Made, MakeError> {
    let MakeCa { certs_dir, ca_key, lifetime, overwrite, algorithm, second } = request;
    install::outside(ca_key, certs_dir)?;
    let certificate = certs_dir.join(format!("ca{}.crt", suffix(*second)));
    install::free(&[&certificate, ca_key], *overwrite)?;
    let key = algorithm.generate()?;
    let serial = random_serial();
    let mut params = params(*lifetime, &serial)?;
    let short_serial: String = serial[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = common_name(&format!("Brock CA {short_serial}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let not_after_unix_seconds = params.not_after.unix_timestamp();
    let signed = params.self_signed(&key)?;
    install::directory(certs_dir, 0o755)?;
    if let Some(parent) = ca_key.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        install::directory(parent, 0o700)?;
    }
    install::file(ca_key, &key.serialize_pem(), 0o400, *overwrite)?;
    install::file(&certificate, &signed.pem(), 0o644, *overwrite)?;
    Ok(Made { certificate, key: ca_key.clone(), not_after_unix_seconds })
}

/// Issues the certificate and key of a node, a client or an admin.
pub fn make_leaf(request: &MakeLeaf) -> Result<Made, MakeError> {
    let MakeLeaf { certs_dir, ca_key, kind, trust_domain, lifetime, overwrite, algorithm, second } = request;
    let subject = Subject::of(kind, trust_domain)?;
    let file = |end: &str| certs_dir.join(format!("{}{}.{end}", subject.stem, suffix(*second)));
    let (certificate, key) = (file("crt"), file("key"));
    install::free(&[&certificate, &key], *overwrite)?;
    let mut params = params(*lifetime, &random_serial())?;
    let ca = Ca::load(certs_dir, ca_key)?;
    let algorithm = algorithm.unwrap_or_else(|| Algorithm::like(ca.kind));
    if algorithm.is_post_quantum() && ca.kind.post_quantum().is_none() {
        return Err(MakeError::ClassicalCa { path: ca.path, algorithm });
    }
    ca.check_outlives(*lifetime, params.not_after.unix_timestamp())?;
    params.distinguished_name = common_name(&subject.common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = subject.usages;
    params.subject_alt_names = subject.names;
    let leaf_key = algorithm.generate()?;
    let not_after_unix_seconds = params.not_after.unix_timestamp();
    let signed = params.signed_by(&leaf_key, &ca.issuer)?;
    install::file(&key, &leaf_key.serialize_pem(), 0o400, *overwrite)?;
    install::file(&certificate, &signed.pem(), 0o644, *overwrite)?;
    Ok(Made { certificate, key, not_after_unix_seconds })
}

/// What the names of the second chain's files end in.
fn suffix(second: bool) -> &'static str {
    if second { "-pq" } else { "" }
}

/// Where the key of the post-quantum CA beside the CA with this key is kept.
pub fn second_ca_key(ca_key: &Path) -> PathBuf {
    let stem = ca_key.file_stem().unwrap_or_default().to_string_lossy();
    let end = ca_key.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    ca_key.with_file_name(format!("{stem}{}{end}", suffix(true)))
}

/// What a leaf states about its holder.
struct Subject {
    stem: &'static str,
    common_name: String,
    usages: Vec<ExtendedKeyUsagePurpose>,
    names: Vec<SanType>,
}

impl Subject {
    fn of(kind: &LeafKind, trust_domain: &str) -> Result<Self, MakeError> {
        let invalid = |value: &str, reason| MakeError::Name { value: value.to_owned(), reason };
        roles::check_trust_domain(trust_domain).map_err(|reason| invalid(trust_domain, reason))?;
        let uri = |role: roles::Role, name: &str| -> Result<SanType, MakeError> {
            Ok(SanType::URI(format!("spiffe://{trust_domain}/{role}/{name}").try_into()?))
        };
        let dialling = |role: roles::Role, name: &str| {
            roles::check_name(name).map_err(|reason| invalid(name, reason))?;
            Ok(Self {
                stem: "client",
                common_name: format!("{role} {name}"),
                usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
                names: vec![uri(role, name)?],
            })
        };
        match kind {
            LeafKind::Client { name } => dialling(roles::Role::Client, name),
            LeafKind::Admin { name } => dialling(roles::Role::Admin, name),
            LeafKind::Node { node_id, hosts } => {
                let mut names = host_names(hosts)?;
                names.push(uri(roles::Role::Node, node_id.as_str())?);
                Ok(Self {
                    stem: "node",
                    common_name: format!("node {node_id}"),
                    usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
                    names,
                })
            }
        }
    }
}

fn host_names(hosts: &[String]) -> Result<Vec<SanType>, MakeError> {
    let mut names = Vec::new();
    for host in hosts {
        // A certificate states a name without the dot of the root, and so does every check of a name.
        let host = host.strip_suffix('.').filter(|host| !host.is_empty()).unwrap_or(host);
        let name = match host.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => {
                // A name that cannot be dialled is refused.
                let address: Result<crate::address::Address, _> = format!("{host}:1").parse();
                if address.is_err() || host.starts_with('[') {
                    return Err(MakeError::Host(host.to_owned()));
                }
                SanType::DnsName(host.try_into()?)
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { Err(MakeError::NoHosts) } else { Ok(names) }
}

/// A CA with its key.
pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, CaKey>,
    pub(crate) validity: Validity,
    /// Its name, DER.
    pub(crate) subject: Vec<u8>,
    /// Its public key (SubjectPublicKeyInfo), DER.
    pub(crate) key: Vec<u8>,
    /// Its certificate.
    path: PathBuf,
    signs_lists: bool,
    /// The kind of its key.
    kind: KeyKind,
}

impl Ca {
    /// The one of the directory's CA certificates that `ca_key` belongs to.
    pub(crate) fn load(certs_dir: &Path, ca_key: &Path) -> Result<Self, MakeError> {
        let roots = Inventory::of(certs_dir)?.roots()?;
        if matches!(ca_key.try_exists(), Ok(false)) {
            return Err(MakeError::NoCaKey { path: ca_key.to_owned() });
        }
        let key = files::private_key(ca_key)?;
        for (path, _, der) in roots {
            if !belongs(&key, &der, ca_key)? {
                continue;
            }
            let validity = Validity::of(&path, &der)?;
            validity.check(&path)?;
            let issuer = Issuer::from_ca_cert_der(&der, CaKey::of(&key)?)?;
            let malformed = |source| TlsError::Role { path: path.clone(), source };
            let parsed = roles::parse(&der).map_err(malformed)?;
            let usage = parsed.key_usage().ok().flatten();
            let signs_lists = usage.is_none_or(|usage| usage.value.crl_sign());
            let (subject, key) = (parsed.subject().as_raw().to_vec(), parsed.public_key().raw.to_vec());
            let kind = KeyKind::of(parsed.public_key());
            return Ok(Self { issuer, validity, subject, key, path, signs_lists, kind });
        }
        Err(MakeError::WrongCaKey { ca_key: ca_key.to_owned(), certs_dir: certs_dir.to_owned() })
    }

    /// Its name, to be shown.
    pub(crate) fn name(&self) -> Result<String, MakeError> {
        let malformed = |_| TlsError::Role {
            path: self.path.clone(),
            source: roles::RoleError::Malformed("its name cannot be read".to_owned()),
        };
        let (_, name) = X509Name::from_der(&self.subject).map_err(malformed)?;
        Ok(name.to_string())
    }

    /// An error if the certificate does not allow its key to sign revocation lists.
    pub(crate) fn check_signs_lists(&self) -> Result<(), MakeError> {
        if self.signs_lists { Ok(()) } else { Err(MakeError::SignsNoLists { path: self.path.clone() }) }
    }

    fn check_outlives(&self, wanted: Duration, leaf_not_after: i64) -> Result<(), MakeError> {
        let ca_not_after = self.validity.not_after_unix_seconds;
        if leaf_not_after <= ca_not_after {
            return Ok(());
        }
        let left = u64::try_from(ca_not_after - keypair::now_unix_seconds()).unwrap_or(0);
        // Rounded down, with some minutes to spare, so that it still fits when the operator has typed it.
        let left = left.saturating_sub(600);
        let unit = if left >= 3600 { 3600 } else { 60 };
        let longest = Duration::from_secs(left / unit * unit);
        Err(MakeError::OutlivesCa {
            wanted: duration::format(wanted),
            ca_not_after: keypair::date(ca_not_after),
            longest: duration::format(longest),
        })
    }
}

fn belongs(
    key: &PrivateKeyDer<'static>,
    ca: &CertificateDer<'static>,
    path: &Path,
) -> Result<bool, MakeError> {
    let signing_key = keypair::signing_key(key, path, ca)?;
    match CertifiedKey::new(vec![ca.clone()], signing_key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(true),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Ok(false),
        Err(error) => Err(TlsError::NotAKey { path: path.to_owned(), reason: error.to_string() }.into()),
    }
}

fn params(lifetime: Duration, serial: &[u8; 16]) -> Result<CertificateParams, MakeError> {
    if lifetime < Duration::from_secs(60) || lifetime > LIFETIME_MAX {
        return Err(MakeError::Lifetime(duration::format(lifetime)));
    }
    let now = keypair::now_unix_seconds();
    let until = now.saturating_add_unsigned(lifetime.as_secs());
    let too_long = |_| MakeError::Lifetime(duration::format(lifetime));
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from_unix_timestamp(now - BACKDATE_SECONDS).map_err(too_long)?;
    params.not_after = OffsetDateTime::from_unix_timestamp(until).map_err(too_long)?;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    Ok(params)
}

/// 126 random bits: positive, and of the same length every time.
fn random_serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
