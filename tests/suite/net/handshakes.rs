//! Who gets no connection, what it is told, and that the node minds none of it.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    harness::own_ca::{Leaf, OwnCa},
    harness::{certs::Certs, client::Client, eventually, free_port, node::config, random_key},
};
use brock::{config::validate::Config, node::Node};
use brock_net::dial;
use rcgen::ExtendedKeyUsagePurpose as Usage;
use rustls::version::TLS13;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A running node and a client that it must always serve.
struct Target {
    ca: OwnCa,
    node: Node,
    good: std::path::PathBuf,
}

impl Target {
    async fn start() -> Self {
        let ca = OwnCa::new();
        let certs_dir = ca.directory("node-1", &Leaf::node("node-1"));
        let good = ca.directory("good", &Leaf::admin("ops"));
        let config = Config { certs_dir, ..config(&Certs::new(), "node-1", 0, &[]) };
        Self { node: Node::start(config, None).await.unwrap(), ca, good }
    }

    fn address(&self) -> String {
        self.node.address().to_string()
    }

    /// Dials with the certificate of a directory (none: without one) and reads what comes first: a
    /// client of TLS 1.3 has finished its handshake before it is refused, so that is where it is told.
    async fn attempt(&self, shown: Option<&Path>) -> Result<(), String> {
        let config = OwnCa::careless_config(&self.good, shown, &[&TLS13]);
        let stream = TcpStream::connect(self.node.address()).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        let answer = async {
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        let answer: std::io::Result<u8> = answer.await;
        answer.map(|_| ()).map_err(|error| {
            brock_net::tls::errors::explain(&error).unwrap_or_else(|| format!("no reason was given: {error}"))
        })
    }

    /// A good client is served, at once.
    async fn serves(&self) {
        let begun = Instant::now();
        let client = Client::connect(&self.address(), &self.good).await;
        client.put(&random_key(), b"g").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "a good client waited {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_good_gets_no_answer_and_the_node_serves_on() {
    let target = Target::start().await;
    let strangers = OwnCa::new();
    let client_auth = &[Usage::ClientAuth][..];
    let leaf = |valid, usages: &[Usage]| Leaf { valid, usages: usages.to_vec(), ..Leaf::admin("mallory") };
    let ours = |name: &str, leaf: &Leaf| target.ca.directory(name, leaf);
    let cases = [
        (
            "wrong CA",
            strangers.directory("stranger", &Leaf::admin("ops")),
            "does not trust the CA that signed it",
        ),
        ("expired", ours("expired", &leaf((-60, -1), client_auth)), "has expired or is not valid yet"),
        ("not yet valid", ours("early", &leaf((30, 60), client_auth)), "has expired or is not valid yet"),
        ("wrong EKU", ours("server", &leaf((-60, 60), &[Usage::ServerAuth])), "clientAuth is needed"),
        ("mail EKU", ours("mail", &leaf((-60, 60), &[Usage::EmailProtection])), "clientAuth is needed"),
    ];
    for (what, directory, part) in &cases {
        let refusal = target.attempt(Some(directory)).await.expect_err(what);
        assert!(refusal.contains(part), "{what}: {refusal}");
        target.serves().await;
    }
    let refusal = target.attempt(None).await.unwrap_err();
    assert!(refusal.contains("requires a certificate and we showed none"), "{refusal}");
    target.serves().await;
    assert!(target.attempt(Some(&target.good)).await.is_ok());
    assert!(target.node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tls_1_2_is_refused() {
    let target = Target::start().await;
    let openssl = |version: &str| {
        let good = |file: &str| target.good.join(file).display().to_string();
        let mut command = Command::new("openssl");
        command.args(["s_client", version, "-connect", &target.address(), "-alpn", "h2", "-brief"]);
        command.args(["-CAfile", &good("ca.crt"), "-cert", &good("client.crt"), "-key", &good("client.key")]);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (connected, told) = openssl("-tls1_2");
    assert!(!connected && told.contains("protocol version"), "{told}");
    // The same with 1.3 works: it was the version.
    let (connected, told) = openssl("-tls1_3");
    assert!(connected && told.contains("Protocol version: TLSv1.3"), "{told}");
    target.serves().await;
    assert!(target.node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_plain_text_harm_nobody() {
    let target = Target::start().await;
    let noise: Vec<u8> = (0..100_000).map(|_| rand::random()).collect();
    let hello_of_no_end = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &vec![0; 0x4000]].concat();
    let http = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n".to_vec();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    for bytes in [noise, hello_of_no_end, http, http2, vec![0], Vec::new()] {
        let mut stream = TcpStream::connect(target.node.address()).await.unwrap();
        // It may be closed before everything is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.len() < 100, "{} bytes were said to a stranger", answer.len());
        target.serves().await;
    }
    assert!(target.node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_served_while_many_connections_say_nothing() {
    let target = Target::start().await;
    let mut silent = Vec::new();
    // More than may be in a handshake at once.
    for _ in 0..600 {
        silent.push(TcpStream::connect(target.node.address()).await.unwrap());
    }
    target.serves().await;
    // And the node stops without waiting for them.
    let begun = Instant::now();
    assert!(target.node.stop().await.closed);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_exchange_is_hybrid_post_quantum() {
    let target = Target::start().await;
    let config = OwnCa::client_config(&target.good);
    let stream = TcpStream::connect(target.node.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let (_, config) = config.config_for(&target.node.address().to_string().parse().unwrap());
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    let (_, connection) = stream.get_ref();
    let group = connection.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    drop(stream);
    assert!(target.node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_under_a_name_its_certificate_lacks_is_not_dialled_and_the_status_says_why() {
    let certs = Certs::new();
    let [named, other] = [free_port(), free_port()];
    // node-b's certificate names localhost and 127.0.0.1; node-c's only elsewhere.example.
    let ca = OwnCa::new();
    let directory = |id: &str, hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        ca.directory(id, &Leaf { hosts, ..Leaf::node(id) })
    };
    let start = async |id: &str, port: u16, join: Vec<String>, hosts: &[&str]| {
        let config = Config { certs_dir: directory(id, hosts), join, ..config(&certs, id, port, &[]) };
        Node::start(config, None).await.unwrap()
    };
    let good = start("node-b", named, Vec::new(), &["localhost", "127.0.0.1"]).await;
    let elsewhere = start("node-c", other, Vec::new(), &["elsewhere.example"]).await;
    let strangers = OwnCa::new();
    let foreign_dir = strangers.directory("node-d", &Leaf::node("node-d"));
    let foreign = Config { certs_dir: foreign_dir, ..config(&certs, "node-d", 0, &[]) };
    let foreign = Node::start(foreign, None).await.unwrap();
    let join =
        vec![format!("localhost:{named}"), format!("localhost:{other}"), foreign.address().to_string()];
    let dialler = start("node-a", 0, join, &["localhost", "127.0.0.1"]).await;
    let client =
        Client::connect(&dialler.address().to_string(), &ca.directory("ops", &Leaf::admin("ops"))).await;
    let status = eventually("node-a has tried everybody", || async {
        let status = client.status().await;
        let told = |peer: &brock_core::proto::Peer| peer.up || !peer.last_error.is_empty();
        status.peers.iter().all(told).then_some(status)
    })
    .await;
    let peer = |port: u16| status.peers.iter().find(|p| p.address.ends_with(&format!(":{port}"))).unwrap();
    assert!(peer(named).up, "{:?}", peer(named));
    assert!(!peer(other).up);
    for part in ["is not for localhost", "elsewhere.example", "--host localhost"] {
        assert!(peer(other).last_error.contains(part), "{:?} lacks {part}", peer(other).last_error);
    }
    let refused = peer(foreign.address().port());
    assert!(refused.last_error.contains("not signed by a CA that we trust"), "{refused:?}");
    client.put(&random_key(), b"g").await.unwrap();
    for node in [dialler, good, elsewhere, foreign] {
        assert!(node.stop().await.closed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_is_no_node_cannot_pose_as_one() {
    let ca = OwnCa::new();
    // A server whose certificate is an admin's, with a host name and serverAuth.
    let leaf = Leaf {
        hosts: vec!["localhost".to_owned()],
        usages: vec![Usage::ServerAuth, Usage::ClientAuth],
        ..Leaf::admin("mallory")
    };
    let directory = ca.directory("mallory", &leaf);
    let chain = {
        use rustls_pki_types::{CertificateDer, pem::PemObject};
        vec![CertificateDer::from_pem_file(directory.join("client.crt")).unwrap()]
    };
    let key = {
        use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
        PrivateKeyDer::from_pem_file(directory.join("client.key")).unwrap()
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(stream).await;
    });
    let node = OwnCa::client_config(&ca.directory("node-1", &Leaf::node("node-1")));
    let error = dial::dial(&address.parse().unwrap(), node).await.unwrap_err().to_string();
    assert!(error.contains("it is not a node") && error.contains("a node certificate is needed"), "{error}");
    task.await.unwrap();
}
