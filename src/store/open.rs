//! Opening: what a storage directory is (empty, ours, another node's, damaged), and a new incarnation
//! for this start.

use std::{fs, path::Path, sync::Arc};

use rocksdb::Env;

use super::{
    batch::Batch,
    database::{self, Database},
    error::{OpenError, StoreError},
    handle::Options,
    place::Place,
    schema::Sizes,
    signing::{Identity, Signer},
    superblock::{self, FORMAT_VERSION, Superblock},
};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{ClusterId, Incarnation, Incarnations, NodeId, Origin},
        vector::{Stamp, Vector},
    },
    domain::{
        birth::{Previous, SignedBirth},
        record::UnixSeconds,
    },
};
use brock_net::crashsafe;

const NODE_ID: &[u8] = b"node_id";
const INCARNATION: &[u8] = b"incarnation";
const FORMAT: &[u8] = b"format_version";

/// An opened database and what was found in it.
pub(super) struct Opened {
    pub database: Database,
    pub origin: Origin,
    /// Signs its operations; `None` = they are not signed.
    pub signer: Option<Signer>,
    /// Why its incarnation began.
    pub reason: &'static str,
    /// What the operator must know.
    pub alarms: Vec<String>,
    /// Where it lies; `None` = in RAM.
    pub place: Option<Place>,
    /// Keeps the directory of a RAM store alive.
    pub _ram: Option<tempfile::TempDir>,
}

/// Where the database lies in the storage directory.
pub(super) const DATABASE: &str = "db";

/// Bytes of its write-ahead log; `None` = unknown.
pub(super) fn wal_bytes(directory: &Path) -> Option<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory.join(DATABASE)).ok()? {
        let entry = entry.ok()?;
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            // A file that was removed meanwhile has no bytes.
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Some(bytes)
}

/// Opens the storage and leaves it marked as in use.
///
/// Contract: an (origin, clock) is never used twice. Every start begins a new incarnation, durable
/// before anything is served: even a cleanly closed directory may be an old copy of one that has had
/// further starts. An incarnation that never writes costs nothing, and the others fold away.
pub(super) fn open(options: &Options) -> Result<Opened, OpenError> {
    let Some(directory) = &options.path else { return open_ram(options) };
    let superblock = superblock::read(directory)?;
    if let Some(superblock) = &superblock {
        check_node_id(directory, &superblock.node_id, &options.node_id)?;
    }
    let database_path = directory.join(DATABASE);
    // RocksDB creates a database where it finds no CURRENT, whatever else is there.
    let database_exists = database_path.join("CURRENT").exists();
    if superblock.is_none() && !database_exists {
        check_empty(directory)?;
        if !options.first_start {
            return Err(OpenError::Empty(directory.clone()));
        }
    }
    if superblock.is_some() && !database_exists {
        return Err(OpenError::DatabaseGone(directory.clone()));
    }
    // Payloads and the audit log are for this user only. The directory itself must survive a crash, like what
    // is acknowledged in it.
    let created = crashsafe::create_directories(directory, 0o700);
    created.map_err(|source| OpenError::Io { action: "cannot create", path: directory.clone(), source })?;
    let database = Database::open(&database_path, sizes(options), None).map_err(|error| {
        if database::is_locked(&error) {
            return OpenError::Locked(directory.clone());
        }
        OpenError::Database { path: database_path.clone(), reason: error.to_string() }
    })?;
    let mut alarms = Vec::new();
    let (origin, signer, reason, vector) =
        settle(options, directory, &database, superblock.as_ref(), &mut alarms)?;
    let in_use = Superblock {
        node_id: options.node_id.clone(),
        incarnation: origin.incarnation(),
        clean: false,
        heads: vector,
    };
    superblock::write(directory, &in_use)?;
    let place = Place::of(directory).map_err(|source| OpenError::Io {
        action: "cannot look at",
        path: directory.clone(),
        source,
    })?;
    Ok(Opened { database, origin, signer, reason, alarms, place: Some(place), _ram: None })
}

/// What may lie in the directory of a new storage: what a first start left that did not get far, and what file systems
/// and tools of the platform put there.
const NOT_FOREIGN: [&str; 4] = [DATABASE, "audit", "backup-staging", "lost+found"];

fn check_empty(directory: &Path) -> Result<(), OpenError> {
    // Whether it can be made shows when it is.
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut foreign = names.filter(|name| !name.starts_with('.') && !NOT_FOREIGN.contains(&name.as_str()));
    match foreign.next() {
        Some(file) => Err(OpenError::Foreign { path: directory.to_owned(), file }),
        None => Ok(()),
    }
}

fn sizes(options: &Options) -> Sizes {
    Sizes {
        cache_bytes: options.cache_bytes,
        memtables_bytes: options.memtables_bytes,
        files_open: i32::try_from(options.files_open).unwrap_or(i32::MAX),
    }
}

fn open_ram(options: &Options) -> Result<Opened, OpenError> {
    let io = |source| OpenError::Io {
        action: "cannot create a temporary directory in",
        path: std::env::temp_dir(),
        source,
    };
    // The in-memory file system still creates directories and a lock file on the real one.
    let directory = tempfile::Builder::new().prefix("brock-ram-").tempdir().map_err(io)?;
    let failed = |reason: String| OpenError::Database { path: directory.path().to_owned(), reason };
    let env = Env::mem_env().map_err(|error| failed(error.to_string()))?;
    let database = Database::open(&directory.path().join(DATABASE), sizes(options), Some(&env))
        .map_err(|error| failed(error.to_string()))?;
    let reason = "birth";
    let now = options.wall_clock.now();
    let (origin, signer) = Mint::new(options)
        .mint(&database, &Vector::default(), None, now, reason)
        .map_err(|error| failed(error.to_string()))?;
    Ok(Opened { database, origin, signer, reason, alarms: Vec::new(), place: None, _ram: Some(directory) })
}

/// Checks what the directory holds against what its superblock says, and mints an incarnation.
fn settle(
    options: &Options,
    directory: &Path,
    database: &Database,
    superblock: Option<&Superblock>,
    alarms: &mut Vec<String>,
) -> Result<(Origin, Option<Signer>, &'static str, Vector), OpenError> {
    let damaged = |error: StoreError| match error {
        StoreError::Damaged(source) => OpenError::Damaged { path: directory.to_owned(), source },
        other => OpenError::Database { path: directory.to_owned(), reason: other.to_string() },
    };
    let (mint, now) = (Mint::new(options), options.wall_clock.now());
    let view = database.view();
    let born = view.meta(NODE_ID).map_err(damaged)?;
    let vector = view.vector().map_err(damaged)?;
    let Some(stored_id) = born else {
        if superblock.is_some() || !vector.is_empty() {
            return Err(OpenError::DatabaseGone(directory.to_owned()));
        }
        if !options.first_start {
            return Err(OpenError::Empty(directory.to_owned()));
        }
        let reason = "birth";
        let (origin, signer) = mint.mint(database, &vector, None, now, reason).map_err(damaged)?;
        return Ok((origin, signer, reason, vector));
    };
    let stored_id = String::from_utf8_lossy(&stored_id).into_owned();
    let stored_id = stored_id.parse().map_err(|_| OpenError::Database {
        path: directory.to_owned(),
        reason: "the stored node id is malformed".to_owned(),
    })?;
    check_node_id(directory, &stored_id, &options.node_id)?;
    let number = |key| -> Result<u64, OpenError> {
        let bytes = view.meta(key).map_err(damaged)?.unwrap_or_default();
        let bytes = <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| OpenError::Database {
            path: directory.to_owned(),
            reason: "its format version or incarnation is missing".to_owned(),
        })?;
        Ok(u64::from_be_bytes(bytes))
    };
    let found = number(FORMAT)?;
    if found != FORMAT_VERSION {
        let path = directory.to_owned();
        return Err(OpenError::FormatVersion { path, found, known: FORMAT_VERSION });
    }
    let mut applied = vector.clone();
    applied.join(&view.folds().map_err(damaged)?);
    let incarnation = Incarnation(u32::try_from(number(INCARNATION)?).unwrap_or_default());
    let in_order =
        superblock.is_some_and(|superblock| superblock.clean && superblock.incarnation == incarnation);
    let mut heads = superblock.map_or_else(Vector::default, |superblock| superblock.heads.clone());
    view.forks().map_err(damaged)?.keys().for_each(|frozen| heads.remove(frozen));
    let lost = heads.entries_above(&applied);
    let reason = match (lost, in_order) {
        (0, true) => "start",
        (0, false) => "unclean_stop",
        _ => {
            alarms.push(format!(
                "the storage has lost {lost} operations that were durable when it last ran: check the disk; \
                 what the peers have of them comes back by itself"
            ));
            "heads_lost"
        }
    };
    if planted::is(Bug::KeepIncarnation) {
        return Ok((Origin::new(&options.node_id, incarnation), None, reason, vector));
    }
    let previous = previous(database, Origin::new(&options.node_id, incarnation)).map_err(damaged)?;
    let (origin, signer) = mint.mint(database, &applied, previous, now, reason).map_err(damaged)?;
    Ok((origin, signer, reason, vector))
}

/// Where the incarnation that ran last ended; if it wrote nothing, the one before it.
fn previous(database: &Database, last: Origin) -> Result<Option<Previous>, StoreError> {
    let view = database.view();
    let (vector, tips) = view.heads()?;
    if let Some(tip) = tips.get(&last) {
        let last = Stamp { origin: last, clock: vector.get(&last) };
        return Ok(Some(Previous { last, chain: tip.chain() }));
    }
    let birth = view.birth(&last)?.map(SignedBirth::from_proto).transpose()?;
    Ok(birth.and_then(|signed| signed.birth.previous))
}

fn check_node_id(path: &Path, stored: &NodeId, configured: &NodeId) -> Result<(), OpenError> {
    if stored == configured {
        return Ok(());
    }
    Err(OpenError::WrongNodeId {
        path: path.to_owned(),
        stored: stored.clone(),
        configured: configured.clone(),
    })
}

/// What a new incarnation is made with.
#[derive(Debug)]
pub(super) struct Mint {
    node_id: NodeId,
    incarnations: Incarnations,
    identity: Option<Arc<dyn Identity>>,
}

impl Mint {
    pub(super) fn new(options: &Options) -> Self {
        let Options { node_id, incarnations, identity, .. } = options;
        Self { node_id: node_id.clone(), incarnations: incarnations.clone(), identity: identity.clone() }
    }

    pub(super) fn identity(&self) -> Option<Arc<dyn Identity>> {
        self.identity.clone()
    }

    /// The cluster that this node's certificate is for.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.identity.as_ref().and_then(|identity| identity.cluster())
    }

    /// Makes a new incarnation durable, with its birth: random, and unlike any known one.
    pub(super) fn mint(
        &self,
        database: &Database,
        known: &Vector,
        previous: Option<Previous>,
        now: UnixSeconds,
        reason: &'static str,
    ) -> Result<(Origin, Option<Signer>), StoreError> {
        let origin = loop {
            let origin = Origin::new(&self.node_id, self.incarnations.mint());
            if known.iter().all(|(other, _)| other != origin) {
                break origin;
            }
        };
        let mut batch = Batch::new(database);
        batch.put_meta(NODE_ID, self.node_id.as_str().as_bytes());
        batch.put_meta(FORMAT, &FORMAT_VERSION.to_be_bytes());
        batch.put_meta(INCARNATION, &u64::from(origin.incarnation().0).to_be_bytes());
        let born = Signer::born(self.identity.as_deref(), origin, now, previous)?;
        let signer = born.map(|(signer, birth)| {
            batch.put_birth(&birth);
            signer
        });
        database.write(&batch.into_writes())?;
        metrics::counter!(brock_core::base::metrics::INCARNATIONS, "reason" => reason).increment(1);
        tracing::info!(incarnation = %origin.incarnation(), reason, "this node has a new incarnation");
        Ok((origin, signer))
    }
}
