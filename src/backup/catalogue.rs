//! What backups there are. A manifest is believed only after its signature and its place were
//! checked, and a backup only with every one that it follows on.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Mutex;

use super::{
    job::parse_time_ms,
    manifest::{Kind, Manifest, ManifestError, hex_sha256},
    objects::{ObjectError, Target},
    retention::Retention,
};
use brock_core::base::{duration::milliseconds, id::NodeId, limits};

/// How the keys of manifests end.
pub const MANIFEST_SUFFIX: &str = ".manifest.json";

/// Why backups could not be listed or chosen.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The store did not do it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A manifest is not to be believed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest is larger than any is.
    #[error("{0} is too large for a manifest")]
    Size(String),
    /// Nothing is there.
    #[error("there is no backup{0} at {1}")]
    Nothing(String, String),
    /// Several nodes keep their backups there.
    #[error("the backups of several nodes are there: {0}. Name one with --node-id")]
    SeveralNodes(String),
}

/// A manifest, and the hash by which the next one refers to it.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it says.
    pub manifest: Manifest,
    /// SHA-256 of its file, hex.
    pub sha256: String,
}

/// Which backup is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Whose; `None` = of the only node that has any.
    pub node_id: Option<NodeId>,
    /// The newest that is not younger than this, in milliseconds; `None` = the newest.
    pub at_ms: Option<u64>,
    /// That one: its manifest's key, or the part of it that names it.
    pub id: Option<String>,
    /// The public key that must have signed it, hex.
    pub signer: Option<String>,
}

/// Reads an object into memory, if it is not larger than `limit`.
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

/// The keys of all manifests of a node, oldest first; of all nodes without one.
pub async fn manifest_keys(target: &Target, node_id: Option<&NodeId>) -> Result<Vec<String>, ObjectError> {
    let prefix = node_id.map(|node_id| format!("{node_id}/")).unwrap_or_default();
    let listed = target.list(&prefix).await?;
    Ok(listed.into_iter().map(|listed| listed.key).filter(|key| key.ends_with(MANIFEST_SUFFIX)).collect())
}

/// The chain of the backup that is wanted, the full one first.
pub async fn choose(target: &Target, wanted: &Wanted) -> Result<Vec<Known>, CatalogueError> {
    let mut keys = manifest_keys(target, wanted.node_id.as_ref()).await?;
    let nothing = |what: &str| CatalogueError::Nothing(what.to_owned(), target.place());
    if wanted.node_id.is_none() {
        let nodes: std::collections::BTreeSet<&str> =
            keys.iter().filter_map(|key| key.split('/').next()).collect();
        if nodes.len() > 1 {
            return Err(CatalogueError::SeveralNodes(nodes.into_iter().collect::<Vec<_>>().join(", ")));
        }
    }
    if let Some(id) = &wanted.id {
        keys.retain(|key| key.contains(id.as_str()));
    }
    if let Some(at) = wanted.at_ms {
        // Years of younger ones need not be read; what is left is held against its manifest.
        keys.retain(|key| stem_of(key).is_none_or(|(_, made)| made <= at));
    }
    let signer = wanted.signer.as_deref();
    // Keys hold the time, so the newest comes last.
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

/// Everything that a backup follows on, down to its full one, which comes first.
async fn chain(target: &Target, last: Known, signer: Option<&str>) -> Result<Vec<Known>, CatalogueError> {
    let mut chain = vec![last];
    while let Some(newest) = chain.last()
        && newest.manifest.kind == Kind::Incremental
    {
        if chain.len() > limits::BACKUP_CHAIN_MAX {
            let problem = format!("{}: too many others come before it", newest.manifest.key);
            return Err(ManifestError::Chain(problem).into());
        }
        let before = before(target, &newest.manifest, signer).await?;
        chain.push(before);
    }
    chain.reverse();
    Ok(chain)
}

/// What an incremental one follows on.
pub(super) async fn before(
    target: &Target,
    manifest: &Manifest,
    signer: Option<&str>,
) -> Result<Known, CatalogueError> {
    let broken = |problem: String| ManifestError::Chain(format!("{}: {problem}", manifest.key));
    let Some(previous) = &manifest.previous else {
        return Err(broken("it is incremental and follows on nothing".to_owned()).into());
    };
    let before = match read_manifest(target, &previous.key, signer).await {
        Err(CatalogueError::Object(error)) if error.is_not_found() => {
            return Err(broken(format!("{} is missing, on which it follows", previous.key)).into());
        }
        before => before?,
    };
    if before.sha256 != previous.sha256 {
        return Err(broken(format!("{} is not the one that it was made after", previous.key)).into());
    }
    let that = &before.manifest;
    if manifest.node_id != that.node_id || manifest.public_key != that.public_key {
        return Err(broken(format!("{} is another node's", previous.key)).into());
    }
    if that.created_at_unix_ms > manifest.created_at_unix_ms {
        return Err(broken(format!("{} is younger than it", previous.key)).into());
    }
    Ok(before)
}

/// All backups whose manifests can be believed, oldest first, and those that cannot, with the reason;
/// of one node, or of all.
pub async fn all(
    target: &Target,
    node_id: Option<&NodeId>,
) -> Result<(Vec<Manifest>, Vec<(String, String)>), CatalogueError> {
    let keys = manifest_keys(target, node_id).await?;
    let mut known = BTreeMap::new();
    let doubtful = learn(target, &keys, &mut known).await?;
    Ok((known.into_values().collect(), doubtful))
}

/// Reads the manifests of these keys that are not known yet, and forgets those that are not among them.
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
    let mut doubtful = Vec::new();
    while let Some((read, key)) = reads.next().await {
        match read {
            Ok(read) => {
                known.insert(key, read.manifest);
            }
            Err(error @ (CatalogueError::Manifest(_) | CatalogueError::Size(_))) => {
                doubtful.push((key, error.to_string()));
            }
            // Removed meanwhile: it had expired.
            Err(CatalogueError::Object(error)) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(doubtful)
}

/// One node's backups. Manifests never change, so each is read once. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    target: Target,
    node_id: NodeId,
    known: Arc<Mutex<BTreeMap<String, Manifest>>>,
}

impl Cache {
    /// Nothing is known yet.
    pub fn new(target: Target, node_id: NodeId) -> Self {
        Self { target, node_id, known: Arc::default() }
    }

    /// One that was just made. While others are being read it is left out, and read the next time.
    pub fn add(&self, manifest: Manifest) {
        if let Ok(mut known) = self.known.try_lock() {
            known.insert(manifest.key.clone(), manifest);
        }
    }

    /// See [`all`].
    pub async fn all(&self) -> Result<(Vec<Manifest>, Vec<(String, String)>), CatalogueError> {
        let keys = manifest_keys(&self.target, Some(&self.node_id)).await?;
        let mut known = self.known.lock().await;
        let doubtful = learn(&self.target, &keys, &mut known).await?;
        Ok((known.values().cloned().collect(), doubtful))
    }

    /// Removes what need not be kept any more, and says what that was.
    ///
    /// Contract: newest first, and of each backup the manifest before its parts, so that whatever is
    /// listed is whole at every moment. Parts without a manifest go when they are old, and only after
    /// the store was asked for that manifest by name: a listing may be of a moment ago.
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

/// What the objects of one backup have in common, and when it was made.
fn stem_of(key: &str) -> Option<(&str, u64)> {
    let name = key.rfind('/').map_or(0, |slash| slash + 1);
    let time_end = key[name..].find('Z')? + name + 1;
    let kind_end = key[time_end..].find('.')? + time_end;
    Some((&key[..kind_end], parse_time_ms(&key[name..time_end])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_backup_share_a_stem_that_has_its_time() {
        let stem = "n/2026/11/22/2026-11-22T07:40:00.123Z-full";
        let expected = Some((stem, 1_795_333_200_123));
        assert_eq!(stem_of(&format!("{stem}.00001.age")), expected);
        assert_eq!(stem_of(&format!("{stem}{MANIFEST_SUFFIX}")), expected);
        for other in ["n/README", "n/Z", "n/Z.", "", "é", "n/2026-13-45T99:99:99Z-full.1"] {
            assert_eq!(stem_of(other), None, "{other}");
        }
    }
}
