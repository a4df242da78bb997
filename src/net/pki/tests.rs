//! Claims about making certificates, and about those that openssl makes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;

use super::issue::{
    CA_LIFETIME_DEFAULT, LEAF_LIFETIME_DEFAULT, LeafKind, Made, MakeCa, MakeError, MakeLeaf,
    TRUST_DOMAIN_DEFAULT, make_ca, make_leaf,
};
use super::key::Algorithm;
use super::revoke::{Revoke, revoke};
use crate::{
    dial::dial,
    task::Tasks,
    tls::{
        accept::{Room, accept},
        algorithms::KeyKind,
        credentials::{ClientIdentity, Identity},
        roles::{Role, RolePolicy},
    },
};

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn certs(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    fn ca(&self) -> MakeCa {
        MakeCa {
            certs_dir: self.certs(),
            ca_key: self.dir.path().join("safe/ca.key"),
            lifetime: CA_LIFETIME_DEFAULT,
            overwrite: false,
            algorithm: Algorithm::default(),
            second: false,
        }
    }

    fn leaf(&self, kind: LeafKind) -> MakeLeaf {
        MakeLeaf {
            certs_dir: self.certs(),
            ca_key: self.ca().ca_key,
            kind,
            trust_domain: TRUST_DOMAIN_DEFAULT.to_owned(),
            lifetime: LEAF_LIFETIME_DEFAULT,
            overwrite: false,
            algorithm: None,
            second: false,
        }
    }
}

fn node(hosts: &[&str]) -> LeafKind {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    LeafKind::Node { node_id: "eu1-1".parse().unwrap(), hosts }
}

fn admin(name: &str) -> LeafKind {
    LeafKind::Admin { name: name.to_owned() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn load(dir: &Path) -> Identity {
    Identity::load(dir, RolePolicy { require_uri: false }).unwrap()
}

#[test]
fn what_is_made_loads_with_private_keys_and_the_stated_roles() {
    let fixture = Fixture::new();
    let ca = make_ca(&fixture.ca()).unwrap();
    let made = make_leaf(&fixture.leaf(node(&["localhost", "127.0.0.1", "::1", "localhost"]))).unwrap();
    let Made { certificate, key, not_after_unix_seconds } = made;
    assert_eq!(
        (certificate, key.clone()),
        (fixture.certs().join("node.crt"), fixture.certs().join("node.key"))
    );
    assert_eq!((mode(&key), mode(&ca.key)), (0o400, 0o400));
    let identity = load(&fixture.certs());
    assert_eq!(identity.peer().to_string(), "node eu1-1");
    assert_eq!(identity.peer().not_after_unix_seconds, not_after_unix_seconds);
    assert_eq!(identity.peer().trust_domain.as_deref(), Some("brock"));
    for (kind, role) in
        [(LeafKind::Client { name: "gateway".to_owned() }, Role::Client), (admin("ops"), Role::Admin)]
    {
        make_leaf(&MakeLeaf { overwrite: true, ..fixture.leaf(kind) }).unwrap();
        assert_eq!(ClientIdentity::load(&fixture.certs()).unwrap().peer().role, role);
    }
    let names: Vec<_> = fs::read_dir(fixture.certs()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "no temporary file is left: {names:?}");
}

#[test]
fn nothing_is_overwritten_unasked() {
    let fixture = Fixture::new();
    make_ca(&fixture.ca()).unwrap();
    make_leaf(&fixture.leaf(admin("ops"))).unwrap();
    let read = |name: &str| fs::read(fixture.certs().join(name)).unwrap();
    let before = (read("ca.crt"), read("client.crt"), read("client.key"));
    let error = make_ca(&fixture.ca()).unwrap_err();
    assert!(error.to_string().contains("ca.crt") && error.to_string().contains("--overwrite"), "{error}");
    let error = make_leaf(&fixture.leaf(admin("ops"))).unwrap_err();
    assert!(matches!(error, MakeError::Exists { .. }), "{error}");
    fs::remove_file(fixture.certs().join("client.crt")).unwrap();
    let error = make_leaf(&fixture.leaf(admin("ops"))).unwrap_err();
    assert!(error.to_string().contains("client.key"), "{error}");
    assert_eq!((before.0, before.2), (read("ca.crt"), read("client.key")));
    make_leaf(&MakeLeaf { overwrite: true, ..fixture.leaf(admin("ops")) }).unwrap();
    assert_ne!(before.1, read("client.crt"));
    ClientIdentity::load(&fixture.certs()).unwrap();
}

#[test]
fn the_ca_key_never_goes_where_certificates_are_copied_from() {
    let fixture = Fixture::new();
    let root = fixture.dir.path();
    fs::create_dir(root.join("certs")).unwrap();
    std::os::unix::fs::symlink(root.join("certs"), root.join("link")).unwrap();
    for inside in ["certs/ca.key", "certs/deep/ca.key", "x/../certs/ca.key", "link/ca.key"] {
        let error = make_ca(&MakeCa { ca_key: root.join(inside), ..fixture.ca() }).unwrap_err();
        assert!(matches!(error, MakeError::CaKeyInside { .. }), "{inside}: {error}");
        assert_eq!(fs::read_dir(fixture.certs()).unwrap().count(), 0);
    }
    make_ca(&MakeCa { ca_key: root.join("certs/../certs-safe/ca.key"), ..fixture.ca() }).unwrap();
}

#[test]
fn what_cannot_be_in_a_certificate_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    make_ca(&MakeCa { lifetime: Duration::from_secs(90_000), ..fixture.ca() }).unwrap();
    let day = Duration::from_secs(86_400);
    let error = |request: MakeLeaf| make_leaf(&request).unwrap_err();
    let outlives = error(fixture.leaf(admin("ops")));
    assert!(matches!(&outlives, MakeError::OutlivesCa { longest, .. } if longest == "24h"), "{outlives}");
    let leaf = |kind| MakeLeaf { lifetime: day, ..fixture.leaf(kind) };
    assert!(matches!(error(leaf(node(&[]))), MakeError::NoHosts));
    for host in ["localhost:20004", "[::1]", "a b", "", "1.2.3", "*.example.com", "http://a"] {
        let error = error(leaf(node(&[host])));
        assert!(matches!(&error, MakeError::Host(at) if at == host), "{host}: {error}");
    }
    for name in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
        assert!(matches!(error(leaf(admin(name))), MakeError::Name { .. }), "{name}");
    }
    let domain = MakeLeaf { trust_domain: "a/b".to_owned(), ..leaf(admin("ops")) };
    assert!(matches!(error(domain), MakeError::Name { .. }));
    let nothing = MakeLeaf { lifetime: Duration::ZERO, ..leaf(admin("ops")) };
    assert!(matches!(error(nothing), MakeError::Lifetime(_)));
    let no_key = MakeLeaf { ca_key: fixture.dir.path().join("none"), ..leaf(admin("ops")) };
    assert!(matches!(error(no_key), MakeError::NoCaKey { .. }));
    let other = Fixture::new();
    make_ca(&other.ca()).unwrap();
    let wrong_key = MakeLeaf { ca_key: other.ca().ca_key, ..leaf(admin("ops")) };
    assert!(matches!(error(wrong_key), MakeError::WrongCaKey { .. }));
    let no_ca = MakeLeaf { certs_dir: fixture.dir.path().join("empty"), ..leaf(admin("ops")) };
    assert!(error(no_ca).to_string().contains("brock cert ca"));
    assert_eq!(fs::read_dir(fixture.certs()).unwrap().count(), 1);
}

fn run(command: &mut Command) {
    let output = command.output().expect("this test needs openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn recipe(dir: &Path, hosts: &[&str]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../certs-example/make-certs.sh");
    run(Command::new(script).arg(dir).args(hosts));
    dir.join("certs")
}

/// Replaces a key by what openssl makes of it.
fn convert(key: &Path, arguments: &[&str]) {
    let converted = key.with_extension("converted");
    run(Command::new("openssl").args(arguments).arg("-in").arg(key).arg("-out").arg(&converted));
    fs::rename(&converted, key).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o400)).unwrap();
}

#[test]
fn the_recipe_for_openssl_makes_certificates_that_load_as_node_and_admin() {
    let dir = tempfile::tempdir().unwrap();
    let certs = recipe(dir.path(), &[]);
    let identity = load(&certs);
    assert_eq!((identity.peer().role, identity.peer().legacy), (Role::Node, true));
    assert_eq!(identity.peer().node_id(), None);
    let admin = ClientIdentity::load(&certs).unwrap();
    assert_eq!((admin.peer().role, admin.peer().legacy), (Role::Admin, true));
    let error = Identity::load(&certs, RolePolicy { require_uri: true }).unwrap_err();
    assert!(error.to_string().contains("no spiffe URI"), "{error}");
    assert!(!certs.join("ca.key").exists());
    assert_eq!(mode(&certs.join("node.key")), 0o400);

    convert(&certs.join("node.key"), &["rsa", "-traditional"]);
    assert!(fs::read_to_string(certs.join("node.key")).unwrap().contains("BEGIN RSA PRIVATE KEY"));
    load(&certs);

    // With the CA of the recipe, our own leaves can be made as well.
    for name in ["node.crt", "node.key"] {
        fs::remove_file(certs.join(name)).unwrap();
    }
    let mine = MakeLeaf {
        certs_dir: certs.clone(),
        ca_key: dir.path().join("safe-directory/ca.key"),
        kind: node(&["localhost"]),
        trust_domain: TRUST_DOMAIN_DEFAULT.to_owned(),
        lifetime: Duration::from_secs(3600),
        overwrite: false,
        algorithm: None,
        second: false,
    };
    make_leaf(&mine).unwrap();
    assert_eq!(load(&certs).peer().to_string(), "node eu1-1");
}

#[tokio::test]
async fn a_node_and_an_admin_with_certificates_of_the_recipe_recognise_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let certs = recipe(dir.path(), &["localhost", "127.0.0.1", "::1", "node1.example.com"]);
    let tasks = Tasks::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let mut incoming = accept(listener, &load(&certs), Room::default(), &tasks);
    let admin = ClientIdentity::load(&certs).unwrap();
    let dialled = dial(&address, admin.dialler()).await.unwrap();
    assert_eq!(dialled.identity().role, Role::Node);
    let accepted = incoming.next().await.unwrap().unwrap();
    assert_eq!(accepted.connect_info().identity.role, Role::Admin);
    assert!(accepted.connect_info().identity.legacy);
    drop((accepted, dialled));
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[test]
fn a_certificate_has_a_key_like_that_of_its_ca_unless_another_one_is_asked_for() {
    let kind = |made: &Made| {
        let pem = fs::read(&made.certificate).unwrap();
        KeyKind::of_certificate(&CertificateDer::from_pem_slice(&pem).unwrap())
    };
    for name in ["ecdsa-p256", "ecdsa-p384", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"] {
        let fixture = Fixture::new();
        make_ca(&MakeCa { algorithm: name.parse().unwrap(), ..fixture.ca() }).unwrap();
        let leaf = fixture.leaf(node(&["localhost"]));
        assert_eq!(kind(&make_leaf(&leaf).unwrap()).as_str(), name);
        let other = MakeLeaf { algorithm: Some(Algorithm::default()), overwrite: true, ..leaf };
        assert_eq!(kind(&make_leaf(&other).unwrap()), KeyKind::EcdsaP256);
    }
}

#[test]
fn an_ec_key_in_the_old_form_loads() {
    let fixture = Fixture::new();
    make_ca(&fixture.ca()).unwrap();
    let made = make_leaf(&fixture.leaf(node(&["localhost"]))).unwrap();
    convert(&made.key, &["ec"]);
    assert!(fs::read_to_string(&made.key).unwrap().contains("BEGIN EC PRIVATE KEY"));
    load(&fixture.certs());
}

#[test]
fn a_ca_whose_certificate_does_not_allow_lists_is_named() {
    let fixture = Fixture::new();
    let MakeCa { certs_dir, ca_key, .. } = fixture.ca();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).unwrap();
    fs::create_dir(&certs_dir).unwrap();
    fs::create_dir(ca_key.parent().unwrap()).unwrap();
    fs::write(certs_dir.join("ca.crt"), certificate.pem()).unwrap();
    fs::write(&ca_key, key.serialize_pem()).unwrap();
    fs::set_permissions(&ca_key, fs::Permissions::from_mode(0o400)).unwrap();
    let revoked = revoke(&Revoke { certs_dir, ca_key, certificates: Vec::new() });
    let text = revoked.unwrap_err().to_string();
    assert!(text.contains("ca.crt") && text.contains("cRLSign"), "{text}");
}

#[test]
fn the_ca_itself_and_what_it_has_not_signed_cannot_be_revoked() {
    let [fixture, other] = [Fixture::new(), Fixture::new()];
    let [ca, _] = [&fixture, &other].map(|fixture| make_ca(&fixture.ca()).unwrap());
    let refused = |path: PathBuf| {
        let MakeCa { certs_dir, ca_key, .. } = fixture.ca();
        revoke(&Revoke { certs_dir, ca_key, certificates: vec![path] }).unwrap_err().to_string()
    };
    let text = refused(ca.certificate);
    assert!(text.contains("is the CA's own certificate") && text.contains("Replace the CA"), "{text}");
    // Both CAs have the same name.
    let text = refused(make_leaf(&other.leaf(admin("ops"))).unwrap().certificate);
    assert!(text.contains("was not made by the CA"), "{text}");
    assert!(!fixture.certs().join("ca.crl").exists());
}

#[test]
fn a_certificate_that_is_given_as_the_key_is_called_one_whatever_its_mode() {
    let fixture = Fixture::new();
    let certificate = make_ca(&fixture.ca()).unwrap().certificate;
    assert_eq!(mode(&certificate) & 0o077, 0o044);
    let made = make_leaf(&MakeLeaf { ca_key: certificate, ..fixture.leaf(admin("ops")) });
    let text = made.unwrap_err().to_string();
    assert!(text.contains("it is a certificate") && !text.contains("chmod"), "{text}");
}
