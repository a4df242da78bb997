//! Claims about real handshakes over loopback: which peers are accepted, and which error each side gets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rcgen::ExtendedKeyUsagePurpose as Usage;
use rustls::{ClientConfig, NamedGroup};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    transport::{Server, server::Connected as _},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    accept::{Bounds, ConnectionInfo, Room, accept_within},
    errors, handshake,
    roles::{RoleError, RolePolicy},
    testing::{Dates, TestCa, TestKind, TestLeaf, kind_admin, kind_node},
};
use crate::{
    address::Address,
    channel::{lazy_channel, open_channel},
    dial::{DialError, dial},
    task::Tasks,
};

const LENIENT: RolePolicy = RolePolicy { require_uri: false };
const STRICT: RolePolicy = RolePolicy { require_uri: true };
const DAY: Duration = Duration::from_secs(86_400);

/// A gRPC server behind [`accept`], whose only service answers with who the caller is.
struct TestServer {
    tasks: Tasks,
    address: Address,
    socket: SocketAddr,
    _recorder: metrics::LocalRecorderGuard<'static>,
    metrics: PrometheusHandle,
}

impl TestServer {
    async fn start(ca: &TestCa, leaf: &TestLeaf, policy: RolePolicy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, ca, leaf, policy)
    }

    fn start_on(listener: TcpListener, ca: &TestCa, leaf: &TestLeaf, policy: RolePolicy) -> Self {
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let metrics = recorder.handle();
        let guard = metrics::set_default_local_recorder(recorder);
        let tasks = Tasks::default();
        let socket = listener.local_addr().unwrap();
        let incoming = accept_within(Bounds::default(), listener, ca.server(leaf, policy), policy, &tasks);
        let (_, health) = tonic_health::server::health_reporter();
        // The caller's identity travels back as the message of an error.
        let who = |request: Request<()>| {
            let info = request.extensions().get::<ConnectionInfo>().unwrap();
            Err::<Request<()>, _>(Status::aborted(info.identity.to_string()))
        };
        let who = tonic::service::InterceptorLayer::new(who);
        let stop = tasks.stopping().clone();
        tasks.spawn_short(async move {
            let router = Server::builder().layer(who).add_service(health);
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await.unwrap();
        });
        let address = format!("localhost:{}", socket.port()).parse().unwrap();
        Self { tasks, address, socket, _recorder: guard, metrics }
    }

    async fn stop(self) {
        assert!(self.tasks.stop(Duration::from_secs(5)).await);
    }

    fn failures(&self, reason: &str) -> bool {
        let line = format!("brock_handshake_failures_total{{reason=\"{reason}\"}} 1");
        self.metrics.render().contains(&line)
    }
}

/// The caller's identity as the server sees it, or the explained error.
async fn call(address: &Address, config: Arc<ClientConfig>) -> Result<String, String> {
    let (channel, _) = open_channel(address, config).await.map_err(|error| error.to_string())?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    let status = answer.unwrap_err();
    match status.code() {
        tonic::Code::Aborted => Ok(status.message().to_owned()),
        _ => Err(errors::explain(&status).unwrap_or_else(|| format!("unexplained: {status:?}"))),
    }
}

fn node_leaf(ca: &TestCa) -> TestLeaf {
    ca.leaf(&kind_node("eu1-1", &["localhost", "127.0.0.1"]), Dates::now())
}

#[tokio::test]
async fn each_role_is_recognised_by_the_server() {
    let ca = TestCa::new();
    let server = TestServer::start(&ca, &node_leaf(&ca), LENIENT).await;
    for (kind, expected) in [
        (kind_node("eu1-2", &[]), "node eu1-2"),
        (kind_admin("ops"), "admin ops"),
        (kind_admin("x").without_uri().with_uri("spiffe://brock/client/gateway"), "client gateway"),
        (kind_admin("x").without_uri(), "admin (no URI; serial "),
        (kind_node("x", &[]).without_uri(), "node (no URI; serial "),
    ] {
        let config = ca.client(&ca.leaf(&kind, Dates::now()), LENIENT);
        let who = call(&server.address, config).await.unwrap();
        assert!(who.starts_with(expected), "{who}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_refused_is_counted_and_told_why() {
    let ca = TestCa::new();
    let admin = || kind_admin("ops");
    let cases: [(&str, &str, RolePolicy, TestLeaf); 8] = [
        ("untrusted", "does not trust the CA", LENIENT, TestCa::new().leaf(&admin(), Dates::now())),
        ("untrusted", "does not trust the CA", LENIENT, TestCa::named("B").leaf(&admin(), Dates::now())),
        ("expired", "expired", LENIENT, ca.leaf(&admin(), Dates::past(DAY))),
        ("expired", "not valid yet", LENIENT, ca.leaf(&admin(), Dates::future(DAY))),
        (
            "untrusted",
            "extended key usage",
            LENIENT,
            ca.leaf(&admin().with_usages(&[Usage::ServerAuth]), Dates::now()),
        ),
        ("role", "states no role", LENIENT, ca.leaf(&admin().with_uri("spiffe://b/admin/x"), Dates::now())),
        ("role", "states no role", LENIENT, ca.leaf(&admin().without_uri().with_usages(&[]), Dates::now())),
        ("role", "states no role", STRICT, ca.leaf(&admin().without_uri(), Dates::now())),
    ];
    for (reason, told, policy, leaf) in cases {
        let server = TestServer::start(&ca, &node_leaf(&ca), policy).await;
        let error = call(&server.address, ca.client(&leaf, LENIENT)).await.unwrap_err();
        assert!(error.contains(told), "{reason}: {error}");
        assert!(server.failures(reason), "{reason}: {}", server.metrics.render());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = TestCa::new();
    let server = TestServer::start(&ca, &node_leaf(&ca), LENIENT).await;
    let mut config = ClientConfig::builder_with_provider(handshake::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = call(&server.address, Arc::new(config)).await.unwrap_err();
    assert!(error.contains("we showed none"), "{error}");
    assert!(server.failures("no_certificate"), "{}", server.metrics.render());
    server.stop().await;
}

/// A ClientHello of TLS 1.2: no supported_versions, ECDHE-ECDSA-AES128-GCM-SHA256.
const TLS12_CLIENT_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x45, 0x01, 0x00, 0x00, 0x41, 0x03, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0x00, 0x00, 0x02, 0xc0,
    0x2b, 0x01, 0x00, 0x00, 0x16, 0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, 0x00, 0x0d, 0x00, 0x04,
    0x00, 0x02, 0x04, 0x03, 0x00, 0x0b, 0x00, 0x02, 0x01, 0x00,
];

#[tokio::test]
async fn tls_1_2_is_refused_with_a_protocol_version_alert() {
    let ca = TestCa::new();
    let server = TestServer::start(&ca, &node_leaf(&ca), LENIENT).await;
    let mut socket = TcpStream::connect(server.socket).await.unwrap();
    socket.write_all(TLS12_CLIENT_HELLO).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 70]);
    assert!(server.failures("protocol_version"), "{}", server.metrics.render());
    server.stop().await;
}

#[tokio::test]
async fn a_port_scanner_and_a_silent_caller_are_let_go() {
    let ca = TestCa::new();
    let server = TestServer::start(&ca, &node_leaf(&ca), LENIENT).await;
    let mut socket = TcpStream::connect(server.socket).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    socket.shutdown().await.unwrap();
    let _ = socket.read_to_end(&mut Vec::new()).await;
    assert!(server.failures("other"), "{}", server.metrics.render());
    let mut socket = TcpStream::connect(server.socket).await.unwrap();
    socket.shutdown().await.unwrap();
    let _ = socket.read_to_end(&mut Vec::new()).await;
    assert!(server.failures("io"), "{}", server.metrics.render());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let bounds = Bounds { handshake_timeout: Duration::from_millis(20), ..Bounds::default() };
    let _incoming =
        accept_within(bounds, listener, ca.server(&node_leaf(&ca), LENIENT), LENIENT, &server.tasks);
    let mut silent = TcpStream::connect(at).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "closed");
    assert!(server.failures("timeout"), "{}", server.metrics.render());
    server.stop().await;
}

/// Of 8 places, 2 are for nodes alone and 1 is for them and operators.
#[tokio::test]
async fn clients_leave_places_to_operators_and_both_leave_places_to_nodes() {
    let ca = TestCa::new();
    let server = TestServer::start(&ca, &node_leaf(&ca), LENIENT).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let bounds = Bounds { room: Room { connections: 8, ..Room::default() }, ..Bounds::default() };
    let config = ca.server(&node_leaf(&ca), LENIENT);
    let mut incoming = accept_within(bounds, listener, config, LENIENT, &server.tasks);
    let client = kind_admin("x").without_uri().with_uri("spiffe://brock/client/gateway");
    let [client, admin, node] = [client, kind_admin("ops"), kind_node("eu1-2", &[])]
        .map(|kind| ca.client(&ca.leaf(&kind, Dates::now()), LENIENT));
    let (mut dialled, mut open) = (Vec::new(), Vec::new());
    // One more than there is place for, each time.
    for (config, admitted) in [(&client, 5), (&admin, 1), (&node, 2)] {
        for _ in 0..admitted {
            dialled.push(dial(&address, config.clone()).await.unwrap());
            open.push(incoming.next().await.unwrap().unwrap());
        }
        let mut refused = dial(&address, config.clone()).await.unwrap();
        assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is closed");
    }
    let callers: Vec<_> = open.iter().map(|open| open.connect_info().identity.to_string()).collect();
    let expected = [vec!["client gateway"; 5], vec!["admin ops"], vec!["node eu1-2"; 2]].concat();
    assert_eq!(callers, expected);
    let metrics = server.metrics.render();
    assert!(metrics.contains("brock_handshake_failures_total{reason=\"no_place\"} 3"), "{metrics}");
    open.clear();
    let _again = dial(&address, client).await.unwrap();
    incoming.next().await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn connections_that_say_nothing_delay_no_others() {
    let ca = TestCa::new();
    let server = TestServer::start(&ca, &node_leaf(&ca), LENIENT).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    // Longer than this test may take.
    let bounds = Bounds {
        room: Room { handshakes: 4, ..Room::default() },
        handshake_timeout: Duration::from_secs(600),
        ..Bounds::default()
    };
    let config = ca.server(&node_leaf(&ca), LENIENT);
    let mut incoming = accept_within(bounds, listener, config, LENIENT, &server.tasks);
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(address.to_string()).await.unwrap());
    }
    assert_eq!(silent[0].read(&mut [0; 1]).await.unwrap_or(0), 0, "the oldest is closed");
    let config = ca.client(&ca.leaf(&kind_admin("ops"), Dates::now()), LENIENT);
    let _dialled = dial(&address, config).await.unwrap();
    incoming.next().await.unwrap().unwrap();
    let metrics = server.metrics.render();
    assert!(metrics.contains("brock_handshake_failures_total{reason=\"replaced\"} 2"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_waits_during_a_rotation_is_not_served_and_the_successor_gets_all_others() {
    let (ca, tasks) = (TestCa::new(), Tasks::default());
    let leaf = node_leaf(&ca);
    let (registry, server) = ca.registered_server(&leaf, LENIENT);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let bounds = Bounds { registry: Some(Arc::clone(&registry)), ..Bounds::default() };
    let incoming = accept_within(bounds, listener, server, LENIENT, &tasks);
    let config = ca.client(&ca.leaf(&kind_admin("ops"), Dates::now()), LENIENT);

    let draining = CancellationToken::new();
    let (mut lent, returned) = incoming.lend(draining.clone());
    let _first_dialled = dial(&address, config.clone()).await.unwrap();
    let first = lent.next().await.unwrap().unwrap();
    let _waiting = dial(&address, config.clone()).await.unwrap();
    registry.trust_store().replace(ca.trust_store(&leaf));
    drop(lent);
    draining.cancel();
    assert!(first.connect_info().draining.is_cancelled());

    let (mut lent, _returned) = returned.await.unwrap().lend(CancellationToken::new());
    let _last_dialled = dial(&address, config).await.unwrap();
    let last = lent.next().await.unwrap().unwrap();
    assert!(!last.connect_info().draining.is_cancelled());
    let none = tokio::time::timeout(Duration::from_millis(200), lent.next()).await;
    assert!(
        none.is_err(),
        "a connection from before the rotation was served after it, and would never drain"
    );
    let now = registry.trust_store().load();
    assert_eq!((registry.callers_before(&now), registry.close_clients_before(&now)), (1, 1), "the first");
    drop((first, last));
    assert!(tasks.stop(Duration::from_secs(5)).await);
    while lent.next().await.is_some() {}
}

#[tokio::test]
async fn the_hybrid_group_is_negotiated_and_nothing_can_be_resumed() {
    let ca = TestCa::new();
    let server = TestServer::start(&ca, &node_leaf(&ca), LENIENT).await;
    let config = ca.client(&ca.leaf(&kind_admin("ops"), Dates::now()), LENIENT);
    for _ in 0..2 {
        let dialled = dial(&server.address, config.clone()).await.unwrap();
        let session = dialled.session();
        assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
        assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(dialled.identity().node_id(), Some("eu1-1".parse().unwrap()));
    }
    server.stop().await;
}

async fn dial_error(ca: &TestCa, server_leaf: &TestLeaf, address: &str, policy: RolePolicy) -> DialError {
    let server = TestServer::start(ca, server_leaf, LENIENT).await;
    let address: Address = address.replace("PORT", &server.socket.port().to_string()).parse().unwrap();
    let config = ca.client(&ca.leaf(&kind_admin("ops"), Dates::now()), policy);
    let error = dial(&address, config).await.unwrap_err();
    server.stop().await;
    error
}

#[tokio::test]
async fn a_server_that_is_not_the_dialled_node_is_refused_with_the_reason() {
    let ca = TestCa::new();
    let node = |hosts: &[&str]| kind_node("eu1-1", hosts);
    let here = &["localhost"][..];
    let admin_server =
        kind_admin("ops").with_host("localhost").with_usages(&[Usage::ClientAuth, Usage::ServerAuth]);
    let cases: Vec<(TestLeaf, &str, &[&str])> = vec![
        (TestCa::new().leaf(&node(here), Dates::now()), "localhost:PORT", &["the same ca.crt"]),
        (
            TestCa::named("B").leaf(&node(here), Dates::now()),
            "localhost:PORT",
            &["is signed by CN=B, and we trust CN=", "the same ca.crt"],
        ),
        (ca.leaf(&node(here), Dates::past(DAY)), "localhost:PORT", &["expired on"]),
        (ca.leaf(&node(here), Dates::future(DAY)), "localhost:PORT", &["not valid before"]),
        (
            ca.leaf(&node(&["a.example.com", "10.1.2.3"]), Dates::now()),
            "127.0.0.1:PORT",
            &["not for 127.0.0.1", "names a.example.com, 10.1.2.3", "--host 127.0.0.1"],
        ),
        (
            ca.leaf(&node(here).with_usages(&[Usage::ClientAuth]), Dates::now()),
            "localhost:PORT",
            &["serverAuth"],
        ),
    ];
    for (leaf, address, texts) in cases {
        let error = dial_error(&ca, &leaf, address, LENIENT).await;
        assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
        assert!(!error.retry_can_help());
        for text in texts {
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    let not_a_node: [(TestKind, RolePolicy, &str); 3] = [
        (admin_server, LENIENT, "admin ops"),
        (node(here).without_uri(), STRICT, "no spiffe URI"),
        (node(here).with_uri("spiffe://brock/node/other"), LENIENT, "more than one"),
    ];
    for (kind, policy, text) in not_a_node {
        let error = dial_error(&ca, &ca.leaf(&kind, Dates::now()), "localhost:PORT", policy).await;
        assert!(matches!(error, DialError::NotANode { .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_dial_that_reaches_no_node_says_what_it_reached() {
    let ca = TestCa::new();
    let config = ca.client(&ca.leaf(&kind_admin("ops"), Dates::now()), LENIENT);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let answer_in_clear = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let (error, ()) = tokio::join!(dial(&address, config.clone()), answer_in_clear);
    let error = error.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    drop(listener);
    let error = dial(&address, config.clone()).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { .. }) && error.retry_can_help(), "{error:?}");
    let nowhere: Address = "no-such-host.invalid:1".parse().unwrap();
    let error = dial(&nowhere, config).await.unwrap_err();
    assert!(matches!(error, DialError::Resolve { .. }) && error.retry_can_help(), "{error:?}");
}

#[tokio::test]
async fn an_open_channel_stays_lost_and_a_lazy_one_comes_back() {
    let ca = TestCa::new();
    let (leaf, config) = (node_leaf(&ca), ca.client(&ca.leaf(&kind_admin("ops"), Dates::now()), LENIENT));
    let server = TestServer::start(&ca, &leaf, LENIENT).await;
    let (address, socket) = (server.address.clone(), server.socket);
    let (open, identity) = open_channel(&address, config.clone()).await.unwrap();
    assert_eq!(identity.to_string(), "node eu1-1");
    let lazy = lazy_channel(&address, config);
    let check = async |channel: &tonic::transport::Channel| {
        HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap_err()
    };
    assert_eq!(check(&open).await.message(), "admin ops");
    assert_eq!(check(&lazy).await.message(), "admin ops");
    server.stop().await;
    let status = check(&lazy).await;
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    let listener = TcpListener::bind(socket).await.unwrap();
    let server = TestServer::start_on(listener, &ca, &leaf, LENIENT);
    assert_eq!(check(&lazy).await.message(), "admin ops");
    let status = check(&open).await;
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    server.stop().await;
}

#[test]
fn a_role_error_survives_the_way_through_rustls() {
    let inner = RoleError::NotANode("admin ops".to_owned());
    let error = rustls::Error::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(
        Arc::new(inner.clone()),
    )));
    let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    assert_eq!(errors::rustls_error(&wrapped).and_then(errors::role_error), Some(&inner));
}

/// Root checks the configuration of a node that reads its key by its group.
#[test]
fn whether_a_key_is_safe_with_a_group_is_for_the_nodes_user_to_judge() {
    let is_denied = |mode| super::TlsError::KeyPermissions { path: "node.key".into(), mode }.is_denied();
    assert!(is_denied(0o440) && is_denied(0o640));
    assert!(!is_denied(0o444) && !is_denied(0o441) && !is_denied(0o602));
}
