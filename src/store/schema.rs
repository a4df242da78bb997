//! The column families, and the options of RocksDB for each.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    DataBlockIndexType, Env, LogLevel, Options,
};

use brock_core::base::limits;

/// Node id, incarnation, format version, counters.
pub(super) const META: &str = "meta";
/// Origin → highest clock applied.
pub(super) const CLOCK_VALUE: &str = "clock_value";
/// Origin, clock, key hash, state → operation.
pub(super) const REPLICATION_LOG: &str = "replication_log";
/// Key hash → record state, payload included.
pub(super) const RECORD: &str = "record";
/// Expiry, key hash → nothing.
pub(super) const EXPIRY: &str = "expiry";
/// Origin, clock → the entry that could not be applied, and why.
pub(super) const QUARANTINE: &str = "quarantine";
/// Origin → entries at or below this clock are compacted away.
pub(super) const FLOOR: &str = "floor";
/// Finished origin that vectors do not list any more → its last clock.
pub(super) const FOLDED: &str = "folded";
/// Bucket → digests of its records and tombstones.
pub(super) const DIGEST: &str = "digest";
/// Key hash of a record with losers → nothing, or which of them an operator has acknowledged.
pub(super) const CONFLICT: &str = "conflict";
/// Key hash whose payload is deleted but may still be in some file → when it was deleted.
pub(super) const REMOVAL: &str = "removal";
/// Origin → its birth, which states the key of its bundles.
pub(super) const BIRTH: &str = "birth";
/// Origin, clock of the last operation → the bundle that it ends, of the log that is or was here, with the hashes of
/// its operations.
pub(super) const BUNDLE: &str = "bundle";
/// Origin, clock of the last operation, how many, root → the same of a bundle that came without its log, with records
/// that it proves.
pub(super) const KEPT_BUNDLE: &str = "kept_bundle";
/// Frozen origin → the proof that it has signed two histories.
pub(super) const FORK: &str = "fork";
/// Node id or address → what is remembered of that member.
pub(super) const MEMBER: &str = "member";

/// SHA-256 of an operator's certificate → the operator's chain, which orders are verified with.
pub(super) const CERTIFICATE: &str = "certificate";

/// Every column family.
pub(super) const FAMILIES: [&str; 17] = [
    META,
    CLOCK_VALUE,
    REPLICATION_LOG,
    RECORD,
    EXPIRY,
    QUARANTINE,
    FLOOR,
    FOLDED,
    DIGEST,
    CONFLICT,
    REMOVAL,
    BIRTH,
    BUNDLE,
    KEPT_BUNDLE,
    FORK,
    MEMBER,
    CERTIFICATE,
];

/// How much memory the database uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// The block cache.
    pub cache_bytes: usize,
    /// Memtables: what is written but not yet in files.
    pub memtables_bytes: usize,
    /// Files that stay open.
    pub files_open: i32,
}

/// Opens or creates the database. `env` is `None` for the real file system.
pub(super) fn open(path: &Path, sizes: Sizes, env: Option<&Env>) -> Result<DB, rocksdb::Error> {
    let cache = Cache::new_hyper_clock_cache(sizes.cache_bytes, 0);
    let options = |name| {
        let (mut options, memtable_bytes) = match name {
            REPLICATION_LOG => (log(&cache), sizes.memtables_bytes / 2),
            RECORD => (records(&cache), sizes.memtables_bytes / 2),
            _ => (family(&table(&cache)), sizes.memtables_bytes / 16),
        };
        options.set_write_buffer_size(memtable_bytes);
        options
    };
    let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, options(name)));
    DB::open_cf_descriptors(&database(sizes, env), path, families)
}

fn database(sizes: Sizes, env: Option<&Env>) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A damaged write-ahead log must refuse to open rather than lose its tail in silence. The
    // superblock's heads reveal a truncated one.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    // Both bound the memory, and the write-ahead log that a start has to replay.
    options.set_max_total_wal_size(limits::WAL_MAX_BYTES);
    options.set_db_write_buffer_size(sizes.memtables_bytes);
    options.set_max_open_files(sizes.files_open);
    options.set_bytes_per_sync(1024 * 1024);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 * 1024 * 1024);
    options.set_log_level(LogLevel::Warn);
    // The node has metrics of its own.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    if let Some(env) = env {
        options.set_env(env);
    }
    options
}

fn family(table: &BlockBasedOptions) -> Options {
    let mut options = Options::default();
    options.set_max_write_buffer_number(3);
    options.set_level_compaction_dynamic_level_bytes(true);
    // Digests, signatures and encrypted payloads do not shrink: trying hard costs much and gains little.
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(table);
    options
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(6);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}

fn log(cache: &Cache) -> Options {
    let mut table = table(cache);
    // The log is read in order and in bulk.
    table.set_block_size(16 * 1024);
    family(&table)
}

fn records(cache: &Cache) -> Options {
    let mut table = table(cache);
    // The filter alone answers most reads of absent key hashes, and the check of most creates.
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    family(&table)
}
