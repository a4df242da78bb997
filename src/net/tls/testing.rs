//! Certificates for tests, including those that [`crate::pki::issue`] refuses to issue.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::{
    handshake::{self, Material},
    level::WireLevel,
    registry::ConnectionRegistry,
    revocation::Revocations,
    roles::{self, RolePolicy},
    trust_store::{CurrentTrustStore, TrustStore},
};

/// A period of validity.
#[derive(Clone, Copy)]
pub(crate) struct Dates(OffsetDateTime, OffsetDateTime);

impl Dates {
    pub(crate) fn now() -> Self {
        let now = OffsetDateTime::now_utc();
        Self(now - Duration::from_secs(3600), now + Duration::from_secs(3600))
    }

    /// It ended `age` ago.
    pub(crate) fn past(age: Duration) -> Self {
        let end = OffsetDateTime::now_utc() - age;
        Self(end - Duration::from_secs(3600), end)
    }

    /// It begins in `delay`.
    pub(crate) fn future(delay: Duration) -> Self {
        let begin = OffsetDateTime::now_utc() + delay;
        Self(begin, begin + Duration::from_secs(3600))
    }
}

/// What a test certificate states.
#[derive(Clone)]
pub(crate) struct TestKind {
    pub(crate) uris: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) usages: Vec<Usage>,
}

impl TestKind {
    pub(crate) fn with_host(mut self, host: &str) -> Self {
        self.hosts.push(host.to_owned());
        self
    }

    pub(crate) fn with_uri(mut self, uri: &str) -> Self {
        self.uris.push(uri.to_owned());
        self
    }

    pub(crate) fn with_usages(mut self, usages: &[Usage]) -> Self {
        self.usages = usages.to_vec();
        self
    }

    pub(crate) fn without_uri(mut self) -> Self {
        self.uris.clear();
        self
    }
}

pub(crate) fn kind_node(id: &str, hosts: &[&str]) -> TestKind {
    TestKind {
        uris: vec![format!("spiffe://brock/node/{id}")],
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        usages: vec![Usage::ServerAuth, Usage::ClientAuth],
    }
}

pub(crate) fn kind_admin(name: &str) -> TestKind {
    let uris = vec![format!("spiffe://brock/admin/{name}")];
    TestKind { uris, hosts: Vec::new(), usages: vec![Usage::ClientAuth] }
}

/// A leaf and its key.
pub(crate) struct TestLeaf {
    pub(crate) der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl TestLeaf {
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

impl TestCa {
    /// All test CAs have the same name, as the CAs of the openssl recipe do.
    pub(crate) fn new() -> Self {
        Self::with_dates(Dates::now())
    }

    pub(crate) fn with_dates(dates: Dates) -> Self {
        Self::make("Test CA", dates)
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::make(name, Dates::now())
    }

    fn make(name: &str, dates: Dates) -> Self {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (dates.0, dates.1);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), der, pem }
    }

    pub(crate) fn leaf(&self, kind: &TestKind, dates: Dates) -> TestLeaf {
        self.numbered_leaf(kind, dates, None)
    }

    /// With this serial number, or a random one.
    pub(crate) fn numbered_leaf(&self, kind: &TestKind, dates: Dates, serial: Option<u64>) -> TestLeaf {
        self.leaf_with_key(kind, dates, serial, KeyPair::generate().unwrap())
    }

    /// With this key.
    pub(crate) fn leaf_with_key(
        &self,
        kind: &TestKind,
        dates: Dates,
        serial: Option<u64>,
        key: KeyPair,
    ) -> TestLeaf {
        let mut params = CertificateParams::new(kind.hosts.clone()).unwrap();
        params.serial_number = serial.map(SerialNumber::from);
        (params.not_before, params.not_after) = (dates.0, dates.1);
        for uri in &kind.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        }
        params.extended_key_usages = kind.usages.clone();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TestLeaf { der: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// A revocation list of this CA.
    pub(crate) fn list(&self, revoked: &[&TestLeaf]) -> CertificateRevocationListDer<'static> {
        let now = OffsetDateTime::now_utc();
        let entry = |leaf: &&TestLeaf| RevokedCertParams {
            serial_number: SerialNumber::from_slice(roles::parse(&leaf.der).unwrap().raw_serial()),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(3600),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().into()
    }

    /// Its certificate.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    pub(crate) fn write_ca(&self, dir: &Path, name: &str) {
        fs::write(dir.join(name), &self.pem).unwrap();
    }

    /// Writes `stem.crt` and `stem.key`, and replaces existing files.
    pub(crate) fn write_leaf(&self, dir: &Path, stem: &str, kind: &TestKind, dates: Dates) {
        let leaf = self.leaf(kind, dates);
        let key = dir.join(format!("{stem}.key"));
        fs::write(dir.join(format!("{stem}.crt")), &leaf.pem).unwrap();
        let _ = fs::remove_file(&key);
        fs::write(&key, leaf.key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }

    /// For accepting as `leaf`, trusting this CA.
    pub(crate) fn server(&self, leaf: &TestLeaf, policy: RolePolicy) -> Arc<ServerConfig> {
        self.registered_server(leaf, policy).1
    }

    /// The same, and the registry whose trust store can be replaced.
    pub(crate) fn registered_server(
        &self,
        leaf: &TestLeaf,
        policy: RolePolicy,
    ) -> (Arc<ConnectionRegistry>, Arc<ServerConfig>) {
        let current = CurrentTrustStore::new(self.trust_store(leaf));
        let config = handshake::server(&current, Path::new("test"), policy, WireLevel::Default).unwrap();
        (ConnectionRegistry::new(current), config)
    }

    /// Showing `leaf`, trusting this CA.
    pub(crate) fn trust_store(&self, leaf: &TestLeaf) -> TrustStore {
        self.with_material(leaf, |material| TrustStore::new(material).unwrap())
    }

    /// The same, with a revocation list.
    pub(crate) fn trust_store_with(&self, leaf: &TestLeaf, revoked: &[&TestLeaf]) -> TrustStore {
        let lists = [("test.crl".into(), self.list(revoked))];
        let revocations = Arc::new(Revocations::new(&lists, &[self.der()]).unwrap().0);
        self.with_material(leaf, |material| {
            TrustStore::new(&Material {
                revocations: Arc::clone(&revocations),
                roots: material.roots.clone(),
                ..*material
            })
            .unwrap()
        })
    }

    /// For dialling as `leaf`, trusting this CA.
    pub(crate) fn client(&self, leaf: &TestLeaf, policy: RolePolicy) -> Arc<ClientConfig> {
        self.with_material(leaf, |material| {
            let current = CurrentTrustStore::new(TrustStore::new(material).unwrap());
            handshake::client(&current, material.dir, policy, WireLevel::Default).unwrap()
        })
    }

    fn with_material<T>(&self, leaf: &TestLeaf, make: impl Fn(&Material<'_>) -> T) -> T {
        make(&Material {
            dir: Path::new("test"),
            chain: std::slice::from_ref(&leaf.der),
            key: &leaf.key_der(),
            roots: self.roots(),
            trusted: std::slice::from_ref(&self.der),
            revocations: Arc::default(),
        })
    }
}
