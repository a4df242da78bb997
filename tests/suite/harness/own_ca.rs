//! A CA of the test's own, for certificates that `brock cert` would never make.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, path::PathBuf, sync::Arc};

use brock_net::{
    dial::Dialler,
    tls::{
        credentials::{ClientIdentity, Identity},
        roles::RolePolicy,
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Usage, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// What a leaf says.
#[derive(Clone)]
pub struct Leaf {
    pub uris: Vec<String>,
    pub hosts: Vec<String>,
    pub usages: Vec<Usage>,
    /// Minutes from now.
    pub valid: (i64, i64),
    /// `node` or `client`: what its files are called.
    pub stem: &'static str,
}

impl Leaf {
    pub fn node(id: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://brock/node/{id}")],
            hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            usages: vec![Usage::ServerAuth, Usage::ClientAuth],
            valid: (-60, 60),
            stem: "node",
        }
    }

    pub fn admin(name: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://brock/admin/{name}")],
            hosts: Vec::new(),
            usages: vec![Usage::ClientAuth],
            valid: (-60, 60),
            stem: "client",
        }
    }
}

pub struct OwnCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    directory: TempDir,
}

impl OwnCa {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Test CA {:08x}", rand::random::<u32>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, directory: tempfile::tempdir().unwrap() }
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificates directory with this CA and such a leaf.
    pub fn directory(&self, name: &str, leaf: &Leaf) -> PathBuf {
        let directory = self.directory.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("ca.crt"), &self.pem).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(leaf.hosts.clone()).unwrap();
        let uris = leaf.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.extended_key_usages = leaf.usages.clone();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::minutes(leaf.valid.0);
        params.not_after = now + Duration::minutes(leaf.valid.1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let at = |end: &str| directory.join(format!("{}.{end}", leaf.stem));
        fs::write(at("crt"), certificate.pem()).unwrap();
        fs::write(at("key"), key.serialize_pem()).unwrap();
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o400)).unwrap();
        directory
    }

    /// How a caller with these certificates dials, even if brock would not load them.
    pub fn client_config(directory: &Path) -> Dialler {
        let policy = RolePolicy { require_uri: false };
        let config = match directory.join("client.crt").exists() {
            true => ClientIdentity::load(directory).map(|identity| identity.dialler()),
            false => Identity::load(directory, policy).map(|identity| identity.dialler()),
        };
        config.unwrap_or_else(|_| {
            Self::careless_config(directory, Some(directory), &[&rustls::version::TLS13]).into()
        })
    }

    /// How a caller dials that checks nothing of its own: CA certificates of `trusted`, the pair of
    /// `shown` if any, and these versions.
    pub fn careless_config(
        trusted: &Path,
        shown: Option<&Path>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<rustls::ClientConfig> {
        use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(trusted.join("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(directory) => {
                let stem = if directory.join("client.crt").exists() { "client" } else { "node" };
                let chain =
                    vec![CertificateDer::from_pem_file(directory.join(format!("{stem}.crt"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(directory.join(format!("{stem}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}
