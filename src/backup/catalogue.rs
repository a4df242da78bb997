//! Which backups exist. A manifest counts only after its signature and its key were checked; an
//! incremental backup counts only with its whole chain.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Mutex;

use super::{
    keys::{MANIFEST_SUFFIX, stem_of},
    manifest::{Kind, Manifest, ManifestError, hex_sha256},
    objects::{ObjectError, Target},
    retention::Retention,
};
use brock_core::base::{duration::milliseconds, id::NodeId, limits};

/// Why backups could not be listed or chosen.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The object store refused or failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A manifest is not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest is too large.
    #[error("{0} is too large for a manifest")]
    Size(String),
    /// There is no such backup.
    #[error("there is no backup{0} at {1}")]
    Nothing(String, String),
    /// The node has no backup there, and others have.
    #[error("there is no backup of {node_id} at {place}; there are backups of {}", .others.join(", "))]
    NoneOfNode {
        /// The node that was named.
        node_id: NodeId,
        /// The nodes that have backups.
        others: Vec<String>,
        /// Where.
        place: String,
    },
    /// Several nodes have backups there.
    #[error("there are backups of several nodes: {0}. Name one with --node-id")]
    SeveralNodes(String),
}

/// A valid manifest, and the hash by which the next one refers to it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its content.
    pub manifest: Manifest,
    /// SHA-256 of its file, hex.
    pub sha256: String,
}

/// Which backup to choose.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The node; `None` = the only node that has backups.
    pub node_id: Option<NodeId>,
    /// The newest backup that was made by then, in milliseconds; `None` = the newest.
    pub at_ms: Option<u64>,
    /// The key of its manifest, or a part of the key that names it.
    pub id: Option<String>,
    /// The public key that must have signed it, hex.
    pub signer: Option<String>,
}

/// Reads an object into memory; an object larger than `limit` bytes is an error.
pub async fn read(target: &Target, key: &str, limit: usize) -> Result<Vec<u8>, CatalogueError> {
    let mut download = target.get(key, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = download.next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            return Err(CatalogueError::Size(key.to_owned()));
        }
    }
    Ok(bytes)
}

/// Reads and checks one manifest.
pub async fn read_manifest(
    target: &Target,
    key: &str,
    signer: Option<&str>,
) -> Result<Known, CatalogueError> {
    let bytes = read(target, key, limits::BACKUP_MANIFEST_BYTES).await?;
    let manifest = Manifest::read(key, &bytes, signer)?;
    Ok(Known { manifest, sha256: hex_sha256(&bytes) })
}

/// The keys of all manifests of a node, or of all nodes, oldest first.
async fn manifest_keys(target: &Target, node_id: Option<&NodeId>) -> Result<Vec<String>, ObjectError> {
    let prefix = node_id.map(|node_id| format!("{node_id}/")).unwrap_or_default();
    let listed = target.list(&prefix).await?;
    Ok(listed.into_iter().map(|listed| listed.key).filter(|key| key.ends_with(MANIFEST_SUFFIX)).collect())
}

/// The nodes to which these keys of manifests belong.
fn nodes_of(keys: &[String]) -> Vec<String> {
    let nodes: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('/').next()).collect();
    nodes.into_iter().map(str::to_owned).collect()
}

/// The error that there is no backup of a node, or of any: it names the nodes that have some.
pub async fn nothing_of(target: &Target, node_id: Option<&NodeId>) -> Result<CatalogueError, ObjectError> {
    let place = target.place();
    let Some(node_id) = node_id else { return Ok(CatalogueError::Nothing(String::new(), place)) };
    let others = nodes_of(&manifest_keys(target, None).await?);
    Ok(match others.is_empty() {
        true => CatalogueError::Nothing(String::new(), place),
        false => CatalogueError::NoneOfNode { node_id: node_id.clone(), others, place },
    })
}

/// The chosen backup with its chain, the full one first.
pub async fn choose(target: &Target, wanted: &Wanted) -> Result<Vec<Known>, CatalogueError> {
    let mut keys = manifest_keys(target, wanted.node_id.as_ref()).await?;
    let nothing = |what: &str| CatalogueError::Nothing(what.to_owned(), target.place());
    match &wanted.node_id {
        None => {
            let nodes = nodes_of(&keys);
            if nodes.len() > 1 {
                return Err(CatalogueError::SeveralNodes(nodes.join(", ")));
            }
        }
        Some(node_id) if keys.is_empty() => return Err(nothing_of(target, Some(node_id)).await?),
        Some(_) => {}
    }
    if let Some(id) = &wanted.id {
        keys.retain(|key| key.contains(id.as_str()));
    }
    if let Some(at) = wanted.at_ms {
        // Later ones need not be read. The time in the manifest itself is checked below.
        keys.retain(|key| stem_of(key).is_none_or(|(_, made)| made <= at));
    }
    let signer = wanted.signer.as_deref();
    // Keys contain the time, so the newest is the last.
    while let Some(key) = keys.pop() {
        let known = read_manifest(target, &key, signer).await?;
        if wanted.at_ms.is_some_and(|at| known.manifest.created_at_unix_ms > at) {
            continue;
        }
        return chain(target, known, signer).await;
    }
    Err(nothing(match (&wanted.id, wanted.at_ms) {
        (Some(_), _) => " of that id",
        (None, Some(_)) => " that old",
        (None, None) => "",
    }))
}

/// A backup with its chain, the full one first.
async fn chain(target: &Target, last: Known, signer: Option<&str>) -> Result<Vec<Known>, CatalogueError> {
    let mut chain = vec![last];
    while let Some(newest) = chain.last()
        && newest.manifest.kind == Kind::Incremental
    {
        if chain.len() > limits::BACKUP_CHAIN_MAX {
            let problem = format!("{}: its chain is too long", newest.manifest.key);
            return Err(ManifestError::Chain(problem).into());
        }
        let previous = previous(target, &newest.manifest, signer).await?;
        chain.push(previous);
    }
    chain.reverse();
    Ok(chain)
}

/// The backup that an incremental one is based on.
pub(super) async fn previous(
    target: &Target,
    manifest: &Manifest,
    signer: Option<&str>,
) -> Result<Known, CatalogueError> {
    let broken = |problem: String| ManifestError::Chain(format!("{}: {problem}", manifest.key));
    let Some(reference) = &manifest.previous else {
        return Err(broken("it is incremental and names no previous backup".to_owned()).into());
    };
    let previous = match read_manifest(target, &reference.key, signer).await {
        Err(CatalogueError::Object(error)) if error.is_not_found() => {
            return Err(broken(format!("{}, on which it is based, is missing", reference.key)).into());
        }
        read => read?,
    };
    if previous.sha256 != reference.sha256 {
        return Err(broken(format!("{} is not the one on which it is based", reference.key)).into());
    }
    let that = &previous.manifest;
    if manifest.node_id != that.node_id || manifest.public_key != that.public_key {
        return Err(broken(format!("{} is a backup of another node", reference.key)).into());
    }
    if that.created_at_unix_ms > manifest.created_at_unix_ms {
        return Err(broken(format!("{} was made after it", reference.key)).into());
    }
    Ok(previous)
}

/// The backups of one node, or of all nodes, oldest first, and the keys of invalid manifests, each with the
/// reason.
pub async fn all(
    target: &Target,
    node_id: Option<&NodeId>,
) -> Result<(Vec<Manifest>, Vec<(String, String)>), CatalogueError> {
    let keys = manifest_keys(target, node_id).await?;
    let mut known = BTreeMap::new();
    let invalid = learn(target, &keys, &mut known).await?;
    Ok((known.into_values().collect(), invalid))
}

/// Reads the unknown manifests among these keys, and forgets the known ones that are not among them.
async fn learn(
    target: &Target,
    keys: &[String],
    known: &mut BTreeMap<String, Manifest>,
) -> Result<Vec<(String, String)>, CatalogueError> {
    known.retain(|key, _| keys.binary_search(key).is_ok());
    let unknown: Vec<String> = keys.iter().filter(|key| !known.contains_key(*key)).cloned().collect();
    let reads = unknown.into_iter().map(|key| {
        let target = target.clone();
        async move { (read_manifest(&target, &key, None).await, key) }.boxed()
    });
    let mut reads = stream::iter(reads).buffered(limits::BACKUP_MANIFESTS_IN_FLIGHT);
    let mut invalid = Vec::new();
    while let Some((read, key)) = reads.next().await {
        match read {
            Ok(read) => {
                known.insert(key, read.manifest);
            }
            Err(error @ (CatalogueError::Manifest(_) | CatalogueError::Size(_))) => {
                invalid.push((key, error.to_string()));
            }
            // It has expired, and was deleted since the listing.
            Err(CatalogueError::Object(error)) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(invalid)
}

/// The backups of one node. Manifests never change, so each is read once. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    target: Target,
    node_id: NodeId,
    known: Arc<Mutex<BTreeMap<String, Manifest>>>,
}

impl Cache {
    /// An empty cache.
    pub fn new(target: Target, node_id: NodeId) -> Self {
        Self { target, node_id, known: Arc::default() }
    }

    /// Adds a backup that was just made. During a listing it is left out; the next listing reads it.
    pub fn add(&self, manifest: Manifest) {
        if let Ok(mut known) = self.known.try_lock() {
            known.insert(manifest.key.clone(), manifest);
        }
    }

    /// See [`all`].
    pub async fn all(&self) -> Result<(Vec<Manifest>, Vec<(String, String)>), CatalogueError> {
        let keys = manifest_keys(&self.target, Some(&self.node_id)).await?;
        let mut known = self.known.lock().await;
        let invalid = learn(&self.target, &keys, &mut known).await?;
        Ok((known.values().cloned().collect(), invalid))
    }

    /// Deletes expired backups, and returns the keys of their manifests.
    ///
    /// Contract: the newest is deleted first, and of each backup the manifest before its parts. So every
    /// listed backup is complete at every moment. Parts without a manifest are deleted when they are old,
    /// and only after a request for that manifest by its key: a listing may be outdated.
    pub async fn expire(&self, retention: &Retention, now_ms: u64) -> Result<Vec<String>, CatalogueError> {
        let prefix = format!("{}/", self.node_id);
        let listed: Vec<String> =
            self.target.list(&prefix).await?.into_iter().map(|listed| listed.key).collect();
        let is_manifest = |key: &&String| key.ends_with(MANIFEST_SUFFIX);
        let keys: Vec<String> = listed.iter().filter(is_manifest).cloned().collect();
        let mut known = self.known.lock().await;
        learn(&self.target, &keys, &mut known).await?;
        let manifests: Vec<Manifest> = known.values().cloned().collect();
        let mut removed = Vec::new();
        for manifest in retention.expired(&manifests, now_ms) {
            self.target.delete(std::slice::from_ref(&manifest.key)).await?;
            known.remove(&manifest.key);
            let parts: Vec<String> = manifest.parts.iter().map(|part| part.key.clone()).collect();
            self.target.delete(&parts).await?;
            removed.push(manifest.key.clone());
        }
        self.remove_orphans(&listed, now_ms).await?;
        Ok(removed)
    }

    async fn remove_orphans(&self, listed: &[String], now_ms: u64) -> Result<(), CatalogueError> {
        let age_ms = milliseconds(limits::BACKUP_ORPHAN_AGE);
        let mut orphans: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for key in listed.iter().filter(|key| !key.ends_with(MANIFEST_SUFFIX)) {
            let Some((stem, at_ms)) = stem_of(key) else { continue };
            let manifest = format!("{stem}{MANIFEST_SUFFIX}");
            if at_ms.saturating_add(age_ms) < now_ms && listed.binary_search(&manifest).is_err() {
                orphans.entry(manifest).or_default().push(key.clone());
            }
        }
        for (manifest, parts) in orphans {
            match self.target.head(&manifest).await {
                Err(error) if error.is_not_found() => self.target.delete(&parts).await?,
                other => drop(other?),
            }
        }
        Ok(())
    }
}
