//! The superblock: a small file beside the database that remembers what the database must hold.
//!
//! RocksDB loses a truncated write-ahead log or manifest in silence. The heads in this file are
//! written after the operations they name are durable, so a database below them has lost data.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::error::OpenError;
use brock_core::base::{
    id::{Incarnation, NodeId, Origin},
    vector::{Clock, Vector},
};
use brock_net::{crashsafe, reading};

/// The format that this version writes and reads: 1 and 2 were before the first release.
pub(super) const FORMAT_VERSION: u64 = 3;
const FILE_NAME: &str = "superblock.json";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    pub node_id: NodeId,
    pub incarnation: Incarnation,
    /// Whether the node shut down cleanly after this was written.
    pub clean: bool,
    /// The database holds at least this.
    pub heads: Vector,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format_version: u64,
    node_id: String,
    incarnation: u32,
    clean: bool,
    heads: BTreeMap<String, u64>,
}

pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

/// Reads the superblock; `None` if there is none.
pub(super) fn read(directory: &Path) -> Result<Option<Superblock>, OpenError> {
    let path = path(directory);
    let mut text = Vec::new();
    match reading::regular(&path).and_then(|mut file| file.read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { action: "cannot read", path, source }),
    }
    let damaged = |reason: String| OpenError::Superblock { path: path.clone(), reason };
    let version: serde_json::Value = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    match version.get("format_version").and_then(serde_json::Value::as_u64) {
        Some(FORMAT_VERSION) => {}
        Some(found) => {
            let path = directory.to_owned();
            return Err(OpenError::FormatVersion { path, found, known: FORMAT_VERSION });
        }
        None => return Err(damaged("it has no format_version".to_owned())),
    }
    let file: File = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    let head = |(origin, clock): (&String, &u64)| {
        let bytes = HEXLOWER.decode(origin.as_bytes()).ok()?;
        Some((Origin::try_from(bytes.as_slice()).ok()?, Clock(*clock)))
    };
    Ok(Some(Superblock {
        node_id: file.node_id.parse().map_err(|e: brock_core::base::id::IdError| damaged(e.to_string()))?,
        incarnation: Incarnation(file.incarnation),
        clean: file.clean,
        heads: file
            .heads
            .iter()
            .map(head)
            .collect::<Option<_>>()
            .ok_or_else(|| damaged("a head is malformed".into()))?,
    }))
}

/// Replaces the superblock. After a crash at any point the directory has the old superblock or the new
/// one, whole.
pub(super) fn write(directory: &Path, superblock: &Superblock) -> Result<(), OpenError> {
    let file = File {
        format_version: FORMAT_VERSION,
        node_id: superblock.node_id.to_string(),
        incarnation: superblock.incarnation.0,
        clean: superblock.clean,
        heads: superblock.heads.iter().map(|(o, c)| (HEXLOWER.encode(o.as_bytes()), c.0)).collect(),
    };
    let failed = |source| OpenError::Io { action: "cannot replace", path: path(directory), source };
    let text = serde_json::to_vec(&file).map_err(|error| failed(error.into()))?;
    crashsafe::replace(&path(directory), &text, 0o600).map_err(failed)
}
