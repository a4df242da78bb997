//! Certificates and keys that a node cannot use: the message names the file and what is wrong with it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use brock_net::tls::{TlsError, credentials::Identity, level::WireLevel, roles::RolePolicy};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, GeneralSubtree, IsCa,
    Issuer, KeyPair, NameConstraints, SanType,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// Runs `openssl` in a directory.
fn openssl(directory: &Path, arguments: &str) {
    let run = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(run.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&run.stderr));
}

/// Why the directory cannot be used, with DIR for its path.
fn problem(directory: &Path) -> String {
    let key = directory.join("node.key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o400)).unwrap();
    let error = Identity::load(directory, RolePolicy::default()).expect_err("it is used");
    error.to_string().replace(directory.to_str().unwrap(), "DIR")
}

/// A directory with a CA and a node's certificate by openssl. `ca`, `node`: the options that make their keys.
/// `extensions`: those of the node's certificate; none makes it one of version 1.
fn by_openssl(ca: &str, node: &str, extensions: bool) -> TempDir {
    by_openssl_with("sha256", ca, node, extensions)
}

/// The same with another hash in the signatures.
fn by_openssl_with(hash: &str, ca: &str, node: &str, extensions: bool) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    openssl(path, &format!("genpkey {ca} -out root.key"));
    openssl(path, &format!("req -x509 -new -{hash} -key root.key -subj /CN=root -days 2 -out ca.crt"));
    openssl(path, &format!("genpkey {node} -out node.key"));
    openssl(path, "req -new -key node.key -subj /CN=node -out node.csr");
    let lines =
        "subjectAltName=DNS:localhost,URI:spiffe://brock/node/n1\nextendedKeyUsage=serverAuth,clientAuth\n";
    fs::write(path.join("extensions"), lines).unwrap();
    let more = if extensions { " -extfile extensions" } else { "" };
    let sign = "-in node.csr -CA ca.crt -CAkey root.key -CAcreateserial -days 1 -out node.crt";
    openssl(path, &format!("x509 -req -{hash} {sign}{more}"));
    directory
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const KINDS: &str = "it must be an unencrypted key in PEM (PKCS#8, PKCS#1 or SEC1): RSA (2048 to 8192 bits), ECDSA \
                     (P-256, P-384, P-521), Ed25519 or ML-DSA (44, 65, 87). `openssl pkey -in OLD -out NEW` removes a passphrase";

#[test]
fn a_key_that_needs_a_passphrase_is_called_encrypted_in_every_format() {
    let directory = by_openssl("-algorithm RSA", "-algorithm RSA", true);
    let path = directory.path();
    assert!(problem_free(path));
    fs::rename(path.join("node.key"), path.join("plain")).unwrap();
    for command in [
        "rsa -traditional -aes128 -passout pass:secret -in plain -out node.key",
        "pkey -aes128 -passout pass:secret -in plain -out node.key",
    ] {
        openssl(path, command);
        let expected = format!("DIR/node.key holds no usable private key (it is encrypted): {KINDS}");
        assert_eq!(problem(path), expected, "{command}");
        fs::remove_file(path.join("node.key")).unwrap();
    }
}

fn problem_free(directory: &Path) -> bool {
    Identity::load(directory, RolePolicy::default()).is_ok()
}

#[test]
fn an_unsupported_kind_of_key_is_named() {
    for (key, kind) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "an ECDSA key on the curve 1.3.132.0.10"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "an RSA key of 1024 bits"),
        ("-algorithm ED448", "a key of the algorithm 1.3.101.113"),
    ] {
        let directory = by_openssl(P256, key, true);
        let expected = format!("DIR/node.key holds no usable private key ({kind} is not supported): {KINDS}");
        assert_eq!(problem(directory.path()), expected);
    }
    // The same of the CA: the node's own key is in order.
    for key in ["-algorithm ED448", "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1"] {
        let directory = by_openssl(key, P256, true);
        let expected = "DIR/node.crt cannot be used with the CA certificates in its directory: it or a certificate above \
                        it is signed by a key or in a way that is not supported: use RSA (2048 to 8192 bits), ECDSA \
                        (P-256, P-384, P-521), Ed25519 or ML-DSA (44, 65, 87) and SHA-256 or better for every CA";
        assert_eq!(problem(directory.path()), expected, "{key}");
    }
}

#[test]
fn a_certificate_of_version_1_is_named_and_not_its_key() {
    let directory = by_openssl(P256, P256, false);
    let expected = "DIR/node.crt is an X.509 certificate of version 1, which cannot state names and usages: issue one of \
                    version 3 (`brock cert`; with `openssl x509 -req`, give -extfile)";
    assert_eq!(problem(directory.path()), expected);
}

/// Of the keys that `brock cert` does not make; those that it makes are in `wire_levels`.
#[test]
fn a_level_takes_the_keys_of_other_tools_that_are_strong_enough_for_it() {
    const P521: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-521";
    for (hash, key, is_strong) in
        [("sha512", P521, true), ("sha256", P521, false), ("sha512", "-algorithm RSA", false)]
    {
        let directory = by_openssl_with(hash, key, key, true);
        for level in WireLevel::ALL {
            let loaded = Identity::load_at(directory.path(), None, RolePolicy::default(), level.into());
            let is_taken = is_strong || level != WireLevel::Bits256;
            assert_eq!(loaded.is_ok(), is_taken, "{key} with {hash} at {level}");
            let is_named = |error| matches!(error, TlsError::TooWeak { .. });
            assert!(loaded.err().is_none_or(is_named), "{key} with {hash} at {level}");
        }
    }
}

/// A root, an intermediate CA and a node's certificate.
struct Chain {
    root: CertificateParams,
    intermediate: CertificateParams,
    leaf: CertificateParams,
}

impl Chain {
    fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        let params = |name: &str, hosts: &[&str]| {
            let mut params =
                CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            (params.not_before, params.not_after) = (now - Duration::hours(2), now + Duration::hours(1));
            params
        };
        let (mut root, mut intermediate) = (params("root", &[]), params("intermediate", &[]));
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        intermediate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut leaf = params("node", &["localhost"]);
        leaf.subject_alt_names.push(SanType::URI("spiffe://brock/node/n1".try_into().unwrap()));
        leaf.extended_key_usages = vec![Usage::ServerAuth, Usage::ClientAuth];
        Self { root, intermediate, leaf }
    }

    /// A certificates directory; `order` makes `node.crt` of the leaf and the intermediate.
    fn directory(self, order: fn(String, String) -> String) -> TempDir {
        let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
        let root = self.root.self_signed(&keys[0]).unwrap();
        let issuer = Issuer::from_params(&self.root, &keys[0]);
        let intermediate = self.intermediate.signed_by(&keys[1], &issuer).unwrap();
        let issuer = Issuer::from_params(&self.intermediate, &keys[1]);
        let leaf = self.leaf.signed_by(&keys[2], &issuer).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
        write("ca.crt", root.pem());
        write("node.crt", order(leaf.pem(), intermediate.pem()));
        write("node.key", keys[2].serialize_pem());
        let key = directory.path().join("node.key");
        fs::set_permissions(key, fs::Permissions::from_mode(0o400)).unwrap();
        directory
    }
}

fn in_order(leaf: String, intermediate: String) -> String {
    leaf + &intermediate
}

/// A chain with a change, the order of its file, and what must be said.
type Row = (fn(&mut Chain), fn(String, String) -> String, &'static str);

#[test]
fn of_a_chain_the_file_and_the_fault_are_named() {
    assert!(problem_free(Chain::new().directory(in_order).path()));
    let rows: [Row; 6] = [
        (
            |_| {},
            |leaf, intermediate| intermediate + &leaf,
            "DIR/node.crt begins with another certificate: that of DIR/node.key is number 2 in the file. Put it first, \
             and behind it the certificates of the CAs between it and the root",
        ),
        (
            |_| {},
            |leaf, _| leaf,
            "DIR/node.crt cannot be used with the CA certificates in its directory: none of them has signed it. It comes \
             from another CA, the wrong ca.crt was copied, or the certificate of an intermediate CA is missing behind it \
             in its file",
        ),
        (
            |chain| {
                let permitted = vec![GeneralSubtree::DnsName("example.com".to_owned())];
                chain.root.name_constraints =
                    Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
            },
            in_order,
            "DIR/node.crt cannot be used with the CA certificates in its directory: it or a certificate above it has a \
             name that the name constraints of its CA do not permit: issue one for permitted names, or use a CA without \
             such constraints",
        ),
        (
            |chain| chain.intermediate.is_ca = IsCa::ExplicitNoCa,
            in_order,
            "DIR/node.crt cannot be used with the CA certificates in its directory: it was issued by a certificate that \
             may not issue it (CA:FALSE, or too short a path length)",
        ),
        (
            |chain| chain.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            in_order,
            "DIR/node.crt cannot be used with the CA certificates in its directory: it is the certificate of a CA \
             (CA:TRUE), which nodes and clients must not use",
        ),
        (
            |chain| chain.leaf.extended_key_usages = vec![Usage::ClientAuth],
            in_order,
            "DIR/node.crt cannot be used with the CA certificates in its directory: it may not be used this way: a \
             node's needs the extended key usages serverAuth and clientAuth, a client's needs clientAuth",
        ),
    ];
    for (change, order, expected) in rows {
        let mut chain = Chain::new();
        change(&mut chain);
        let problem = problem(chain.directory(order).path());
        // rustls's own words may follow in parentheses.
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
        assert!(!problem.contains("other end"), "{problem}");
    }
    let mut chain = Chain::new();
    chain.intermediate.not_after = OffsetDateTime::now_utc() - Duration::hours(1);
    let problem = problem(chain.directory(in_order).path());
    assert!(problem.starts_with("DIR/node.crt#2 is valid from "), "{problem}");
}
