//! Who may call what: every call with every role, over real TLS.

use std::path::{Path, PathBuf};

use crate::harness::{
    calls::call_any,
    certs::Certs,
    client::Client,
    node::{config, node_with},
    own_ca::{Leaf, OwnCa},
    random_key, raw,
};
use brock::replication::pull::puller::PROTOCOL_VERSION;
use brock::{
    api::grpc::calls::{TABLE, is_allowed},
    config::validate::Config,
};
use brock_core::proto::{self, replicate_request};
use brock_net::{channel::open_channel, tls::roles::Role};
use prost::Message;
use rcgen::ExtendedKeyUsagePurpose as Usage;
use tonic::{Code, transport::Channel};

/// Makes every call of the table and says what is wrong with the outcome for this role.
async fn check_role(channel: &Channel, role: Role) {
    for path in TABLE.iter().map(|call| call.path) {
        match call_any(channel, path).await {
            Err(status) if status.code() == Code::PermissionDenied => {
                assert!(!is_allowed(path, role), "{role} may call {path} and was denied: {status}");
                let told = status.message();
                assert!(told.contains(&format!("not for the role {role}")), "{told}");
            }
            // Allowed to all roles, and the health service does not have it yet.
            Err(status) if path == "/grpc.health.v1.Health/List" => {
                assert_eq!(status.code(), Code::Unimplemented);
            }
            // This node has no place for backups, and none for an audit log.
            Err(status)
                if ["/BackupNow", "/ListBackups", "/AuditHead"].iter().any(|end| path.ends_with(end)) =>
            {
                assert_eq!(status.code(), Code::FailedPrecondition, "{path}: {status}");
                assert!(is_allowed(path, role), "{path}");
            }
            // It needs an operator's signature besides.
            Err(status)
                if ["/Retire", "/VouchOrigin", "/CloseOrigin"].iter().any(|end| path.ends_with(end)) =>
            {
                assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status}");
                assert!(is_allowed(path, role), "{path}");
            }
            // A record that is not there is an answer like any other.
            Err(status) if status.code() == Code::NotFound => assert!(is_allowed(path, role), "{path}"),
            Err(status) => panic!("{role} calling {path}: {status}"),
            Ok(()) => assert!(is_allowed(path, role), "{role} may not call {path} and was answered"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_open_to_the_roles_of_the_table_and_closed_to_all_others() {
    let (certs, node) = node_with(|config| config).await;
    check_role(&node.client.channel, Role::Client).await;
    check_role(&node.admin.channel, Role::Admin).await;
    check_role(&raw::channel_of_node(&node.address(), &certs, "node-9").await, Role::Node).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_put_writes_nothing() {
    let (certs, node) = node_with(|config| config).await;
    let channel = raw::channel_of_node(&node.address(), &certs, "node-9").await;
    for path in ["Put", "BatchPut", "Session"] {
        let path = TABLE.iter().find(|call| call.method() == path).unwrap().path;
        assert_eq!(call_any(&channel, path).await.unwrap_err().code(), Code::PermissionDenied);
    }
    assert_eq!(node.vector(), brock_core::base::vector::Vector::default());
    node.stop().await;
}

/// A node whose CA also signs certificates as the seed's recipe does: without a URI.
struct Legacy {
    ca: OwnCa,
    node: brock::node::Node,
}

impl Legacy {
    async fn start(require_uri_roles: bool) -> Self {
        let ca = OwnCa::new();
        let certs = Certs::new();
        let directory = ca.directory("node-1", &Leaf::node("node-1"));
        let config = Config { certs_dir: directory, require_uri_roles, ..config(&certs, "node-1", 0, &[]) };
        let node = brock::node::Node::start(config, None).await.unwrap();
        Self { ca, node }
    }

    async fn channel(&self, directory: &Path) -> Result<Channel, String> {
        let config = OwnCa::client_config(directory);
        let address = self.node.address().to_string().parse().unwrap();
        open_channel(&address, config).await.map(|(channel, _)| channel).map_err(|error| error.to_string())
    }

    fn without_uri(&self, name: &str, usages: &[Usage]) -> PathBuf {
        let leaf = Leaf { uris: Vec::new(), usages: usages.to_vec(), ..Leaf::node(name) };
        self.ca.directory(name, &leaf)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_uri_is_a_node_or_an_admin_by_its_key_usage() {
    let legacy = Legacy::start(false).await;
    let node_like = legacy.without_uri("old-node", &[Usage::ServerAuth, Usage::ClientAuth]);
    check_role(&legacy.channel(&node_like).await.unwrap(), Role::Node).await;
    let admin_like = legacy.without_uri("old-admin", &[Usage::ClientAuth]);
    check_role(&legacy.channel(&admin_like).await.unwrap(), Role::Admin).await;
    assert!(legacy.node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_uri_is_refused_where_uris_are_required() {
    let legacy = Legacy::start(true).await;
    for usages in [&[Usage::ServerAuth, Usage::ClientAuth][..], &[Usage::ClientAuth]] {
        let directory = legacy.without_uri(&format!("old-{}", usages.len()), usages);
        let outcome = match legacy.channel(&directory).await {
            Ok(channel) => {
                call_any(&channel, "/grpc.health.v1.Health/Check").await.map_err(|s| s.to_string())
            }
            Err(error) => Err(error),
        };
        assert!(outcome.is_err(), "it was let in");
    }
    let modern = legacy.ca.directory("admin", &Leaf::admin("ops"));
    check_role(&legacy.channel(&modern).await.unwrap(), Role::Admin).await;
    assert!(legacy.node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_with_a_strange_identity_gets_nowhere() {
    let legacy = Legacy::start(false).await;
    for (i, uris) in [
        &["spiffe://brock/root/x"][..],
        &["spiffe://brock/admin/"],
        &["spiffe://brock/admin/a", "spiffe://brock/node/b"],
        &["SPIFFE://brock/superuser/a"],
    ]
    .iter()
    .enumerate()
    {
        let uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        let directory = legacy.ca.directory(&format!("strange-{i}"), &Leaf { uris, ..Leaf::admin("x") });
        if let Ok(channel) = legacy.channel(&directory).await {
            let status = call_any(&channel, "/grpc.health.v1.Health/Check").await.unwrap_err();
            assert_ne!(status.code(), Code::NotFound, "it was answered");
        }
    }
    assert!(legacy.node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_only_act_as_the_node_id_of_its_certificate() {
    let (certs, node) = node_with(|config| config).await;
    let channel = raw::channel_of_node(&node.address(), &certs, "node-9").await;
    let hello = |node_id: &str, protocol_version| {
        let hello = proto::Hello { protocol_version, node_id: node_id.to_owned(), ..proto::Hello::default() };
        proto::ReplicateRequest {
            message: Some(replicate_request::Message::Hello(hello)),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let path = "/brock.v1.ReplicationService/Replicate";
    for (node_id, version, code, part) in [
        (
            "node-8",
            PROTOCOL_VERSION,
            Code::PermissionDenied,
            "the certificate is that of node-9 and may not act as node-8",
        ),
        ("node-1", PROTOCOL_VERSION, Code::PermissionDenied, "may not act as node-1"),
        ("", PROTOCOL_VERSION, Code::InvalidArgument, "hello.node_id"),
        ("node-9", 2, Code::FailedPrecondition, "replication protocol 2"),
    ] {
        let status = raw::call_open(&channel, path, &hello(node_id, version)).await.unwrap_err();
        assert_eq!(status.code(), code, "{node_id:?}: {status}");
        assert!(status.message().contains(part), "{status}");
    }
    // A caller with this node's own certificate is this node, or a thief: refused either way.
    let twin = raw::channel_of_node(&node.address(), &certs, "node-1").await;
    let status = raw::call_open(&twin, path, &hello("node-1", PROTOCOL_VERSION)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("this node's own id"), "{status}");
    assert!(raw::call_open(&channel, path, &hello("node-9", PROTOCOL_VERSION)).await.unwrap().is_some());
    let status = raw::call(&channel, path, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let client: &Client = &node.client;
    client.put(&random_key(), b"still serving").await.unwrap();
    node.stop().await;
}
