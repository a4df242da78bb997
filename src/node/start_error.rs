//! Why a node does not start, told to whoever must put it right.

use std::{io, path::PathBuf};

use crate::{
    backup::{objects::ObjectError, signer::SignerError},
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
    /// The certificate is another node's.
    #[error(
        "the certificate in {} is that of node {certified}, but node.id is {configured}: make one with `brock cert \
         node --node-id {configured} …`, or set node.id to {certified}", certs_dir.display()
    )]
    CertificateOfAnother {
        /// Where it lies.
        certs_dir: PathBuf,
        /// Whose it is.
        certified: NodeId,
        /// Who wanted to use it.
        configured: NodeId,
    },
    /// An entry of `node.join` names no peers.
    #[error("node.join: {source}")]
    Join {
        /// What is wrong with it.
        source: JoinError,
    },
    /// The storage did not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The storage is empty, and a peer knows this node.
    #[error(
        "the storage at {} is empty, but {peer} at {address} knows {node_id} ({operations} operations of it): this \
         node has lived before, and its disk was lost or is not mounted. Find out why first. To fill it anew from \
         its peers, start it once with --node.first-start=true", path.display()
    )]
    LivedBefore {
        /// Where the storage should be.
        path: PathBuf,
        /// This node.
        node_id: NodeId,
        /// Who knows it.
        peer: String,
        /// Where that one is.
        address: String,
        /// How many of its operations are there.
        operations: u64,
    },
    /// The storage is empty, and nobody could be asked whether it should be.
    #[error(
        "the storage at {} is empty, and no peer in node.join could be asked whether this node has lived before \
         ({problems}). Start again when a peer runs. If this is the first node of a new cluster, start it once with \
         --node.first-start=true", path.display()
    )]
    NobodyToAsk {
        /// Where the storage should be.
        path: PathBuf,
        /// Why, for each of them.
        problems: String,
    },
    /// Another process has this node's id.
    #[error(
        "another node runs under this node's own id, {node_id}, at {address}: give every node its own node.id, \
         certificate and storage"
    )]
    Twin {
        /// The id.
        node_id: NodeId,
        /// Where the other one is.
        address: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {setting} ({address}): {source}{hint}", hint = advice::on_address(source))]
    Listen {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The place for backups cannot be used.
    #[error("node.backup: {0}")]
    Backup(#[from] ObjectError),
    /// There is no key to sign backups with.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// There is no place for the parts of backups.
    #[error("cannot make a directory for backups in {}: {source}. Set TMPDIR to one where that is possible", path.display())]
    Staging {
        /// Where it was to be made.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// gRPC reflection could not be set up.
    #[error("cannot describe the protocol: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The node was told to stop, or the runtime is going away.
    #[error("the start was interrupted")]
    Interrupted,
}
