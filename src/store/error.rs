//! Why the store does not open, read or write.

use std::path::PathBuf;

use brock_core::{
    base::{
        advice,
        id::{NodeId, Origin},
        limits,
        vector::Clock,
    },
    domain::{bundle::Tip, codec::CodecError},
};

/// Why a storage directory was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is empty, which was not expected.
    #[error(
        "the storage at {} is empty, and node.first-start is false. If this node has run before, its disk has \
         lost everything: find out why first. If it is new (or shall be refilled from its peers), \
         start it once with --node.first-start=true", .0.display()
    )]
    Empty(PathBuf),
    /// A new storage would lie among files of another program.
    #[error(
        "{} is not empty, and no node has made it: it has {file}. Name an empty or new directory in node.path", path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of its files.
        file: String,
    },
    /// The directory belongs to another node.
    #[error(
        "the storage at {} belongs to node {stored}, but node.id is {configured}. Give the node its own \
         directory, or its own id back", path.display()
    )]
    WrongNodeId {
        /// The directory.
        path: PathBuf,
        /// The node that it belongs to.
        stored: NodeId,
        /// The node that opens it.
        configured: NodeId,
    },
    /// The database is empty, but its superblock says that it was not.
    #[error(
        "the storage at {} has lost its database: its superblock names operations that are not there. Restore \
         the directory from where it was moved to, or move all of it away and start once with \
         --node.first-start=true to refill it from the peers", .0.display()
    )]
    DatabaseGone(PathBuf),
    /// This version does not read the format.
    #[error(
        "the storage at {} has format version {found}, and this version of brock reads version {known}. {}", path.display(),
         way_out(*found, *known)
    )]
    FormatVersion {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The version known.
        known: u64,
    },
    /// The superblock is malformed.
    #[error(
        "{} cannot be read: {reason}. It remembers what the database must hold. If the file is damaged and the \
         database is not, remove the file: the node then starts as after a crash", path.display()
    )]
    Superblock {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}{}", path.display(), advice::on_file(source))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The directory was removed, moved or replaced while the store was open.
    #[error("{0}")]
    Lost(String),
    /// Another process has the directory open.
    #[error("the storage at {} is in use by another process: is this node already running?", .0.display())]
    Locked(PathBuf),
    /// RocksDB does not open the database.
    #[error("the database at {} does not open: {}", path.display(), explained(reason))]
    Database {
        /// The directory.
        path: PathBuf,
        /// RocksDB's message.
        reason: String,
    },
    /// A stored value does not decode.
    #[error("the database at {} is damaged: {source}", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Which value.
        source: CodecError,
    },
}

fn way_out(found: u64, known: u64) -> &'static str {
    match found < known {
        true => {
            "A version from before the first release wrote it: back it up with that version and restore the backup \
             with this one, or give the node an empty directory, which its peers fill"
        }
        false => "Use the version that wrote it",
    }
}

/// RocksDB's message, with the guide where a file is damaged. After a message about a table, RocksDB suspects its
/// manifest too, which sends the operator to the wrong file.
fn explained(reason: &str) -> String {
    if !reason.contains("Corruption") {
        return reason.to_owned();
    }
    let told = match reason.rsplit_once(" The file ") {
        Some((told, suspected)) if suspected.contains("may be corrupted") && told.contains(".sst") => {
            told.trim_end().trim_end_matches('.')
        }
        _ => reason.trim_end().trim_end_matches('.'),
    };
    format!("{told}. What to do: docs/guides/repair-a-database.md")
}

/// Why a read or a write failed. A failed write changed nothing that is visible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There are too many operators.
    #[error(
        "this node keeps the certificates of {max} operators already, the most that it may: use one of those",
        max = limits::CHAINS_MAX
    )]
    ChainsFull,
    /// Too many writes are waiting.
    #[error("the write queue is full; try again in a moment")]
    QueueFull,
    /// The disk is too full to write safely.
    #[error(
        "the disk is full: {free} bytes are free where the node stores its data and {needed} must stay free. \
         Reads continue; free some space and writes resume by themselves", needed = limits::DISK_RESERVE_BYTES
    )]
    DiskFull {
        /// Bytes that are free.
        free: u64,
    },
    /// The file system can hold no more files.
    #[error(
        "the disk is full: {free} inodes are free where the node stores its data, so it can create no more files, although \
         there is space. Reads continue; remove files there (`df -i`) and writes resume by themselves"
    )]
    NoInodes {
        /// Inodes that are free.
        free: u64,
    },
    /// A write failed for want of space, which the file system does not explain.
    #[error(
        "the disk is full: the operating system refused a write for want of space where the node stores its data, although \
         it counts enough as free: a quota? Reads continue, and writes resume by themselves once there is room; if the \
         storage engine does not recover within {patience} s then, the node stops, and writes resume when it is started \
         again", patience = limits::NO_SPACE_PATIENCE.as_secs()
    )]
    NoSpace,
    /// The file system is mounted read-only.
    #[error(
        "the disk is read-only: the file system where the node stores its data is mounted read-only (the kernel does \
         that when the disk has errors: `dmesg`), or the node's user may not create files there any more. Reads continue; once it can be written again, writes resume by themselves"
    )]
    ReadOnly,
    /// A new incarnation could not be signed.
    #[error("a new incarnation cannot be signed with this node's certificate: {0}")]
    Signing(String),
    /// An earlier write failed, or the directory is gone, and the store has stopped.
    #[error("the store has stopped: {0}")]
    Stopped(String),
    /// A segment begins above what is applied here.
    #[error("a batch of {origin} begins after {after}, but only {applied} is applied here")]
    Gap {
        /// The origin of the log.
        origin: Origin,
        /// Where the batch begins.
        after: Clock,
        /// What this node has applied.
        applied: Clock,
    },
    /// A bundle does not continue the log that is here.
    #[error("{origin} has signed another history than the one that is known here")]
    Forked {
        /// The origin of the log.
        origin: Origin,
        /// The last bundle here and the new one, which no log has both; `None`: what is here is not known well enough
        /// to prove it.
        pair: Option<Box<(Tip, Tip)>>,
    },
    /// The origin has signed two histories, and its log is not followed any further.
    #[error("{0} has signed two histories, so its log is not followed any further")]
    Frozen(Origin),
    /// The requested log entries are compacted away.
    #[error("the log of {origin} is compacted up to {floor}: what lies below is only in the records")]
    BelowFloor {
        /// The origin of the log.
        origin: Origin,
        /// Entries up to this clock are compacted.
        floor: Clock,
    },
    /// This node lists as many origins as it may.
    #[error(
        "this node lists {0} origins, and takes no further ones from peers: its vector must stay readable for them"
    )]
    TooManyOrigins(usize),
    /// Records have changed in a way that the log does not show.
    #[error("records have changed by a repair, a resync or a retry: the log does not show all of it")]
    NotInLog,
    /// A peer has operations of this node's present incarnation that the node itself lacks.
    #[error(
        "a peer has operations of {origin}, this node's own incarnation, up to {theirs}; here it ends at {ours}"
    )]
    RolledBack {
        /// This node's origin.
        origin: Origin,
        /// The peer's clock of that origin.
        theirs: Clock,
        /// This node's.
        ours: Clock,
    },
    /// The quarantine has no room for more entries of that node's origins.
    #[error(
        "the quarantine has no room for more operations of {0} that cannot be applied: nothing more of {0} is taken \
         until some are retried or dropped (`node-admin quarantine list`)"
    )]
    QuarantineFull(NodeId),
    /// A page of a snapshot would drop more records than one may.
    #[error("the page would drop more than {may} records of this node")]
    TooManyDrops {
        /// How many it may.
        may: u64,
    },
    /// RocksDB failed to read.
    #[error("reading from the database failed: {0}")]
    Read(String),
    /// A stored value does not decode.
    #[error("the database is damaged: {0}")]
    Damaged(#[from] CodecError),
}

impl StoreError {
    /// Whether the same request may succeed later, with nothing changed about it.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::QueueFull
            | Self::DiskFull { .. }
            | Self::NoInodes { .. }
            | Self::NoSpace
            | Self::ReadOnly
            | Self::Stopped(_)
            | Self::Gap { .. } => true,
            Self::BelowFloor { .. }
            | Self::Forked { .. }
            | Self::Frozen(_)
            | Self::NotInLog
            | Self::RolledBack { .. }
            | Self::QuarantineFull(_)
            | Self::TooManyDrops { .. }
            | Self::TooManyOrigins(_)
            | Self::Signing(_)
            | Self::ChainsFull
            | Self::Read(_)
            | Self::Damaged(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reason: &str) -> String {
        OpenError::Database { path: "db".into(), reason: reason.to_owned() }.to_string()
    }

    #[test]
    fn a_corruption_names_one_file_and_the_guide() {
        let block = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in db/000010.sst \
                     offset 0 size 9";
        let shown = text(&format!("{block}  The file db/MANIFEST-000005 may be corrupted."));
        assert!(shown.contains("in db/000010.sst offset 0 size 9") && !shown.contains("MANIFEST"), "{shown}");
        assert!(shown.ends_with(": docs/guides/repair-a-database.md"), "{shown}");
        // The manifest itself.
        let shown = text("Corruption: checksum mismatch The file db/MANIFEST-000005 may be corrupted.");
        assert!(shown.contains("MANIFEST-000005"), "{shown}");
        assert!(!text("IO error: No such file").contains("docs/"));
    }
}
