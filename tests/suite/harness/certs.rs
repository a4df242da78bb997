//! A certificate authority for one test.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use brock_net::{
    dial::Dialler,
    pki::{
        issue::{LeafKind, MakeCa, MakeLeaf, make_ca, make_leaf},
        key::Algorithm,
        revoke::{Revoke, revoke},
    },
    tls::{
        credentials::{ClientIdentity, Identity},
        roles::RolePolicy,
    },
};
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;

const DAY: Duration = Duration::from_secs(86_400);

/// A CA and everything it has signed, in a directory that is deleted with it.
pub struct Certs {
    directory: TempDir,
}

impl Certs {
    pub fn new() -> Self {
        let certs = Self { directory: tempfile::tempdir().unwrap() };
        let ca = MakeCa {
            certs_dir: certs.path("ca"),
            ca_key: certs.ca_key(),
            lifetime: 30 * DAY,
            overwrite: false,
            algorithm: Algorithm::default(),
            second: false,
        };
        make_ca(&ca).unwrap();
        certs
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn ca_key(&self) -> PathBuf {
        self.path("safe").join("ca.key")
    }

    /// A directory with `ca.crt` and a leaf of this kind.
    pub fn leaf(&self, name: &str, kind: LeafKind) -> PathBuf {
        self.leaf_in("brock", name, kind)
    }

    /// The same in another cluster, under this CA.
    fn leaf_in(&self, trust_domain: &str, name: &str, kind: LeafKind) -> PathBuf {
        let certs_dir = self.path(name);
        if !certs_dir.exists() {
            std::fs::create_dir(&certs_dir).unwrap();
            fs::copy(self.path("ca/ca.crt"), certs_dir.join("ca.crt")).unwrap();
            make_leaf(&MakeLeaf {
                certs_dir: certs_dir.clone(),
                ca_key: self.ca_key(),
                kind,
                trust_domain: trust_domain.to_owned(),
                lifetime: DAY,
                overwrite: false,
                algorithm: None,
                second: false,
            })
            .unwrap();
        }
        certs_dir
    }

    /// A directory with `ca.crt` and an operator's certificate that states another cluster.
    pub fn admin_of(&self, trust_domain: &str) -> PathBuf {
        let kind = LeafKind::Admin { name: "ops".to_owned() };
        self.leaf_in(trust_domain, &format!("admin-{trust_domain}"), kind)
    }

    /// The certificates directory of a node of any cluster; of this one, with another certificate than the node's own.
    pub fn node_of(&self, trust_domain: &str, id: &str) -> PathBuf {
        let hosts = vec!["127.0.0.1".to_owned()];
        let kind = LeafKind::Node { node_id: id.parse().unwrap(), hosts };
        self.leaf_in(trust_domain, &format!("node-{id}-{trust_domain}"), kind)
    }

    /// The certificates directory of a node on loopback.
    pub fn node(&self, id: &str) -> PathBuf {
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.leaf(&format!("node-{id}"), LeafKind::Node { node_id: id.parse().unwrap(), hosts })
    }

    pub fn client(&self) -> PathBuf {
        self.leaf("client", LeafKind::Client { name: "app".to_owned() })
    }

    pub fn admin(&self) -> PathBuf {
        self.leaf("admin", LeafKind::Admin { name: "ops".to_owned() })
    }

    /// How a caller with these certificates dials.
    pub fn config(directory: &Path) -> Dialler {
        ClientIdentity::load(directory).unwrap().dialler()
    }

    /// How a node with this id dials: for tests that play a puller.
    pub fn node_identity(&self, id: &str) -> Identity {
        Identity::load(&self.node(id), RolePolicy { require_uri: false }).unwrap()
    }
}

/// The certificate that a node presents.
pub async fn presented(address: &str, certs: &Certs) -> CertificateDer<'static> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let config = Certs::config(&certs.admin()).config_for(&address.parse().unwrap()).1;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// Replaces the certificate of a node by a new one.
pub fn make_node(certs_dir: &Path, ca_key: &Path, id: &str) {
    let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    make_leaf(&MakeLeaf {
        certs_dir: certs_dir.to_owned(),
        ca_key: ca_key.to_owned(),
        kind: LeafKind::Node { node_id: id.parse().unwrap(), hosts },
        trust_domain: "brock".to_owned(),
        lifetime: DAY,
        overwrite: true,
        algorithm: None,
        second: false,
    })
    .unwrap();
}

/// The CA revokes a certificate, and one node hears of it.
pub fn revoke_at(certs: &Certs, certificate: &Path, list: &Path) {
    let request = Revoke {
        certs_dir: certs.path("ca"),
        ca_key: certs.ca_key(),
        certificates: vec![certificate.to_owned()],
    };
    fs::copy(revoke(&request).unwrap().list, list).unwrap();
}
