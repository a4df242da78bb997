//! Why a node does not start, and what the operator can do about it.

use std::{io, path::PathBuf};

use crate::{
    backup::{objects::ObjectError, signer::SignerError},
    runtime::descriptors::TooFew,
    store::OpenError,
};
use brock_core::base::{advice, id::NodeId};
use brock_net::{join::JoinError, tls::TlsError};

/// Why a node did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates are missing or wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The limit of open files is too low.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The certificate belongs to another node.
    #[error(
        "the certificate in {} is that of node {certified}, but node.id is {configured}: make one with `brock cert \
         node --node-id {configured} …`, or set node.id to {certified}", certs_dir.display()
    )]
    CertificateOfAnother {
        /// The certificates directory.
        certs_dir: PathBuf,
        /// The node id in the certificate.
        certified: NodeId,
        /// The node id in the configuration.
        configured: NodeId,
    },
    /// The certificate does not say which cluster this is.
    #[error(
        "node.trust is distributed, and the node's certificate in {} has no SPIFFE URI: no other node could verify that \
         what this one writes is its own. Make a certificate with `brock cert node --node-id {node_id} --overwrite …`, or \
         add URI:spiffe://DOMAIN/node/{node_id} to subjectAltName in your openssl recipe (docs/guides/certificates.md); \
         operators' certificates need one too. Or set node.trust to centralized", certs_dir.display()
    )]
    NoTrustDomain {
        /// The certificates directory.
        certs_dir: PathBuf,
        /// The node id in the configuration.
        node_id: NodeId,
    },
    /// The certificate is of another cluster than the storage.
    #[error(
        "the node's certificate in {} is of the trust domain {found}, and the other nodes whose logs the storage at {} has are \
         of {expected}: no other node would believe what this one writes, nor this one them. Make a certificate with `brock \
         cert node --node-id {node_id} --trust-domain {expected} --overwrite …` (docs/guides/troubleshooting.md, A certificate \
         of another trust domain)", certs_dir.display(), path.display()
    )]
    OtherDomain {
        /// The certificates directory.
        certs_dir: PathBuf,
        /// The storage.
        path: PathBuf,
        /// This node.
        node_id: NodeId,
        /// The trust domain of the certificate.
        found: String,
        /// That of the other nodes.
        expected: String,
    },
    /// An entry of `node.join` is not valid.
    #[error("node.join: {source}")]
    Join {
        /// The cause.
        source: JoinError,
    },
    /// The storage did not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The storage is empty, and a peer knows this node.
    #[error(
        "the storage at {} is empty, but {peer} knows {node_id} ({}): this \
         node has run before, and its disk was lost or is not mounted. Find out why first; what the others say: \
         {others}. To rebuild it from its peers, or if that answer is wrong, start it once with --node.first-start=true", path.display(), known_by(*operations)
    )]
    LivedBefore {
        /// Where the storage should be.
        path: PathBuf,
        /// This node.
        node_id: NodeId,
        /// The peer that knows it, and its address.
        peer: String,
        /// How many of its operations the peer has.
        operations: u64,
        /// What the other peers say, or why they could not be asked.
        others: String,
    },
    /// The storage is empty, and no peer could be asked whether this node is new.
    #[error(
        "the storage at {} is empty, and no peer in node.join could be asked whether this node has run before \
         ({problems}). Start again when a peer runs. If this is the first node of a new cluster, start it once with \
         --node.first-start=true", path.display()
    )]
    NoAnswer {
        /// Where the storage should be.
        path: PathBuf,
        /// The reasons, one for each peer.
        problems: String,
    },
    /// Another process uses this node's id.
    #[error(
        "another node runs under this node's own id, {node_id}, at {address}: give every node its own node.id, \
         certificate and storage. If there is none, the answer is false: start this node once with \
         --node.first-start=true"
    )]
    Twin {
        /// The id.
        node_id: NodeId,
        /// The address of the other process.
        address: String,
    },
    /// The node cannot listen on an address.
    #[error("cannot listen on {setting} ({address}): {source}{hint}", hint = advice::on_address(source))]
    Listen {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The location for backups cannot be used.
    #[error("node.backup: {0}")]
    Backup(#[from] ObjectError),
    /// There is no usable key to sign backups.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// There is no directory for the parts of backups.
    #[error("cannot create a directory for backups in {}: {source}. Set TMPDIR to a writable directory", path.display())]
    Staging {
        /// The parent directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// gRPC reflection could not be set up.
    #[error("cannot set up gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The start was cancelled, or the runtime is shutting down.
    #[error("the start was interrupted")]
    Interrupted,
}

/// What a peer knows of this node.
fn known_by(operations: u64) -> String {
    match operations {
        0 => "as a member, without an operation of it".to_owned(),
        1 => "1 operation of it".to_owned(),
        operations => format!("{operations} operations of it"),
    }
}
