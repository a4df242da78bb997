//! Whose certificate is there already, where a new one is to be written.

use std::path::Path;

use super::issue::LeafKind;
use crate::tls::{
    files,
    roles::{PeerIdentity, RolePolicy},
};

/// The holder of the certificate that a new one of this kind replaces, or stands beside. `None`: there is none that can
/// be read, so it says nothing.
pub fn holder(certs_dir: &Path, kind: &LeafKind) -> Option<PeerIdentity> {
    let stem = match kind {
        LeafKind::Node { .. } => "node",
        LeafKind::Client { .. } | LeafKind::Admin { .. } => "client",
    };
    let read = |name: String| {
        let chain = files::certificates(&certs_dir.join(name)).ok()?;
        PeerIdentity::of_certificate(chain.first()?, RolePolicy::default()).ok()
    };
    read(format!("{stem}.crt")).or_else(|| read(format!("{stem}-pq.crt")))
}
