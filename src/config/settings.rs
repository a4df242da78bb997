//! The table of all settings. Flags, environment variables, keys of the TOML file, `config show` and
//! the reference all come from it. `config/validate.rs` reads each setting into its typed field.

use super::{flags::setting, values::Kind};

pub use super::flags::{CONFIG_ENV, CONFIG_FLAG, Setting, args, find, nearest, reference_markdown};

/// All settings, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    setting(
        "node.id",
        "",
        "ID",
        Kind::NodeId,
        "Unique name of this node in the cluster: 1 to 28 letters, digits, '.', '_' or '-'. Required",
    ),
    setting(
        "node.path",
        "",
        "DIR",
        Kind::Path,
        "Directory for the data, or the word ram: to keep the data in RAM and lose it at a restart. \
         Required",
    ),
    setting(
        "node.first-start",
        "false",
        "MODE",
        Kind::BoolOrAuto,
        "Whether the node may start with empty storage, which otherwise means a lost or unmounted \
         disk: true (for the very first start only), false, or auto (only if no peer in node.join \
         knows this node)",
    ),
    setting(
        "node.address",
        ":20004",
        "HOST:PORT",
        Kind::Listen,
        "Address on which the node serves clients, peers and operators. Without a host, all \
         interfaces",
    ),
    setting(
        "node.join",
        "",
        "PEER,...",
        Kind::Peers,
        "The other nodes, separated by commas; may be repeated: HOST:PORT, dns+NAME:PORT (every \
         address of NAME) or dnssrv+_SERVICE._tcp.NAME (every SRV record). May include this node. At \
         most 64",
    ),
    setting(
        "node.discovery-interval",
        "10s",
        "DURATION",
        Kind::Duration,
        "How often the node resolves the dns+ and dnssrv+ names in node.join again. At least 100ms",
    ),
    setting(
        "node.dns-server",
        "",
        "IP:PORT",
        Kind::Socket,
        "DNS server that resolves the names in node.join. When empty, the system's resolver \
         configuration",
    ),
    setting(
        "node.certs-dir",
        "",
        "DIR",
        Kind::Path,
        "Directory with ca.crt, node.crt and node.key for mutual TLS. Required",
    ),
    setting(
        "node.crl-dir",
        "",
        "DIR",
        Kind::Path,
        "Directory with further revocation lists, *.crl and nothing else, in addition to those in \
         node.certs-dir: for certificates in a volume to which no list can be added. When empty, none",
    ),
    setting(
        "node.replication-interval",
        "30s",
        "DURATION",
        Kind::Duration,
        "How often a replication round restarts; within a round, operations arrive as they commit. At \
         least 100ms",
    ),
    setting(
        "node.replication-limit",
        "1000",
        "COUNT",
        Kind::Count,
        "Maximum number of entries in a replication batch, 1 to 10000",
    ),
    setting(
        "node.conflict-backoff.delay",
        "0s",
        "DURATION",
        Kind::Duration,
        "Delay before the first retry of a storage write; 0s starts at the minimum. Rarely needed",
    ),
    setting(
        "node.conflict-backoff.max",
        "5m",
        "DURATION",
        Kind::Duration,
        "Maximum total time to retry a storage write",
    ),
    setting(
        "node.conflict-backoff.min",
        "100ms",
        "DURATION",
        Kind::Duration,
        "Minimum delay between retries of a storage write",
    ),
    setting(
        "node.payload-limit",
        "64KiB",
        "SIZE",
        Kind::Size,
        "Maximum payload of a record: bytes, KiB or MiB. At most 1MiB",
    ),
    setting(
        "node.cache-size",
        "64MiB",
        "SIZE",
        Kind::Size,
        "Memory for the storage engine's block cache: bytes, KiB, MiB or GiB. At least 1MiB",
    ),
    setting(
        "node.wire-encryption",
        "default",
        "LEVEL",
        Kind::Choice(&["default", "128", "192", "256"]),
        "Strength of the encryption that node.address and peers must have: 128, 192 (always \
         post-quantum) or 256 (post-quantum, and certificates of ECDSA P-384 or ML-DSA-87); default: \
         the strongest that both ends have",
    ),
    setting(
        "node.wire-encryption-peers",
        "",
        "PEER=LEVEL,...",
        Kind::Text,
        "Other levels of encryption for dialling single peers, separated by commas, as in \
         node-2:20004=256. A peer behind dns+NAME:PORT is written NAME:PORT. At most 64",
    ),
    setting(
        "node.require-uri-roles",
        "false",
        "BOOL",
        Kind::Bool,
        "Reject certificates that do not state their role as a SPIFFE URI",
    ),
    setting(
        "node.trust",
        "centralized",
        "MODE",
        Kind::Choice(&["centralized", "distributed"]),
        "What the node believes other nodes: centralized (what a certified node says), or distributed (only \
         what its origin has signed, and what destroys only with an operator's signature; every certificate needs a SPIFFE \
         URI, and tombstone-grace stays never)",
    ),
    setting(
        "node.expiry-margin",
        "1h",
        "DURATION",
        Kind::Duration,
        "How long an expired record stays on disk. Reads do not return it from the moment it expires",
    ),
    setting(
        "node.member-retention",
        "168h",
        "DURATION",
        Kind::Duration,
        "How long a node that pulls from this one, but is not in node.join, stays a member after its \
         last contact. Log compaction waits for all members",
    ),
    setting(
        "node.destruction-limit",
        "1000",
        "COUNT",
        Kind::CountOrOff,
        "How many operations that invalidate, unpublish or delete this node takes of one other node within a \
         minute. A node that brings more is paused here until `node-admin origin resume`. off: no limit",
    ),
    setting(
        "node.shutdown-timeout",
        "10s",
        "DURATION",
        Kind::Duration,
        "Maximum time for calls in progress to finish when the node stops",
    ),
    setting(
        "node.backup.enabled",
        "false",
        "BOOL",
        Kind::Bool,
        "Make backups: at startup if the last one is too old, then at every interval",
    ),
    setting(
        "node.backup.endpoint",
        "",
        "URL",
        Kind::Text,
        "URL of an S3-compatible store, such as https://minio.example.com:9000. When empty, AWS",
    ),
    setting(
        "node.backup.bucket",
        "",
        "BUCKET",
        Kind::Text,
        "Bucket for backups, or file:///DIRECTORY for a local directory",
    ),
    setting("node.backup.prefix", "", "PREFIX", Kind::Text, "Prefix of all keys in the bucket"),
    setting(
        "node.backup.interval",
        "1h",
        "DURATION",
        Kind::Duration,
        "How often the node makes a full backup. At least 1m",
    ),
    setting(
        "node.backup.sync-interval",
        "10s",
        "DURATION",
        Kind::Duration,
        "How often the node uploads new operations between full backups; 0s = never",
    ),
    setting(
        "node.backup.recipient",
        "",
        "AGE1...",
        Kind::Recipients,
        "Public key that encrypts backups; may be repeated. `brock backup keygen` makes one. When \
         empty, backups are not encrypted",
    ),
    setting(
        "node.backup.retention",
        "24h,168h,744h",
        "H,D,W",
        Kind::Retention,
        "How long the node keeps all backups, then one a day, then one a week",
    ),
    setting("node.backup.region", "us-east-1", "REGION", Kind::Text, "Region of the bucket"),
    setting(
        "node.backup.path-style",
        "auto",
        "MODE",
        Kind::Choice(&["auto", "true", "false"]),
        "Whether requests name the bucket in the path rather than in the host name; auto = true if an \
         endpoint is set",
    ),
    setting("node.backup.access-key-id", "", "ID", Kind::Text, "Access key id for the store"),
    setting(
        "node.backup.secret-access-key",
        "",
        "@FILE",
        Kind::Secret,
        "Secret access key for the store: @FILE, or in the environment; never on the command line",
    ),
    setting(
        "node.backup.session-token",
        "",
        "@FILE",
        Kind::Secret,
        "Session token for temporary credentials of the store: @FILE, or in the environment",
    ),
    setting(
        "node.backup.credentials-file",
        "",
        "FILE",
        Kind::Path,
        "AWS shared credentials file, reloaded when it changes. When empty, the AWS_* environment \
         variables",
    ),
    setting(
        "compact-mode",
        "factor-or-timer",
        "MODE",
        Kind::Choice(&["never", "modified", "timer", "factor", "size", "factor-or-timer", "size-or-timer"]),
        "When to compact the replication log: never, modified (after every change), timer, factor, size, \
         factor-or-timer, size-or-timer (whichever comes first). Compaction removes only what every member has applied",
    ),
    setting(
        "compact-threshold-factor",
        "0.4",
        "FACTOR",
        Kind::Factor,
        "Growth of the log that starts a compaction, as a fraction of its size after the last one; \
         for the modes with factor",
    ),
    setting(
        "compact-threshold-size",
        "104857600",
        "SIZE",
        Kind::Size,
        "Growth of the log that starts a compaction: bytes, KiB, MiB or GiB; for the modes with size",
    ),
    setting(
        "compact-timer",
        "3600",
        "SECONDS",
        Kind::Seconds,
        "Time between compactions: seconds, or a duration such as 30m; for the modes with timer",
    ),
    setting(
        "tombstone-grace",
        "never",
        "DURATION",
        Kind::DurationOrNever,
        "Minimum time to keep the tombstone of a deleted record; after it, the tombstone goes once \
         every member has applied the delete. never = keep all tombstones, which is always safe. \
         Otherwise use the same value on all nodes, let every node join every other, and never reuse \
         a deleted key. Refused with node.trust=distributed: no node can prove what it has forgotten",
    ),
    setting(
        "audit.path",
        "",
        "DIR",
        Kind::Path,
        "Directory for this node's audit log. When empty, audit in node.path; with node.path=ram:, there \
         is then no audit log",
    ),
    setting(
        "audit.max-size",
        "1GiB",
        "SIZE",
        Kind::Size,
        "Maximum size of the audit log; the oldest files are removed first: bytes, KiB, MiB or GiB. \
         At least 1MiB",
    ),
    setting(
        "http.address",
        "127.0.0.1:20005",
        "HOST:PORT",
        Kind::ListenOrOff,
        "Address for /console/, /metrics, /livez, /readyz and /healthz, or off",
    ),
    setting(
        "http.tls",
        "false",
        "BOOL",
        Kind::Bool,
        "Serve HTTP over TLS with this node's certificate. A client certificate with the role admin \
         then opens the console",
    ),
    setting(
        "http.console-token",
        "",
        "TOKEN",
        Kind::Secret,
        "Password for the console. Required for the console if http.address is not on loopback, \
         unless a certificate opens it. A secret: @FILE, or in the environment",
    ),
    setting(
        "log.level",
        "info",
        "FILTER",
        Kind::LogLevel,
        "What to log: error, warn, info, debug or trace, also by module: \
         info,brock::replication=debug",
    ),
    setting(
        "log.format",
        "auto",
        "FORMAT",
        Kind::Choice(&["auto", "text", "json"]),
        "Format of log lines: text, json, or auto (text on a terminal, json elsewhere)",
    ),
    setting(
        "trace.otlp-endpoint",
        "",
        "URL",
        Kind::Text,
        "Collector that receives traces by OTLP over gRPC, unencrypted: http://HOST:PORT. When empty, \
         off",
    ),
    setting(
        "trace.sample-ratio",
        "0.01",
        "RATIO",
        Kind::Factor,
        "Fraction of the traces started by this node that it sends, 0 to 1. For calls with a \
         traceparent header, the caller decides",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use brock_core::base::limits;

    /// The defaults that are specified: those of the design that Brock follows, and Brock's own.
    const DEFAULTS: &[(&str, &str)] = &[
        ("node.id", ""),
        ("node.path", ""),
        ("node.first-start", "false"),
        ("node.address", ":20004"),
        ("node.join", ""),
        ("node.discovery-interval", "10s"),
        ("node.dns-server", ""),
        ("node.certs-dir", ""),
        ("node.replication-interval", "30s"),
        ("node.replication-limit", "1000"),
        ("node.conflict-backoff.delay", "0s"),
        ("node.conflict-backoff.max", "5m"),
        ("node.conflict-backoff.min", "100ms"),
        ("node.payload-limit", "64KiB"),
        ("node.cache-size", "64MiB"),
        ("node.require-uri-roles", "false"),
        ("node.trust", "centralized"),
        ("node.expiry-margin", "1h"),
        ("node.member-retention", "168h"),
        ("node.destruction-limit", "1000"),
        ("node.shutdown-timeout", "10s"),
        ("node.backup.enabled", "false"),
        ("node.backup.endpoint", ""),
        ("node.backup.bucket", ""),
        ("node.backup.prefix", ""),
        ("node.backup.interval", "1h"),
        ("node.backup.sync-interval", "10s"),
        ("node.backup.recipient", ""),
        ("node.backup.retention", "24h,168h,744h"),
        ("node.backup.region", "us-east-1"),
        ("node.backup.path-style", "auto"),
        ("node.backup.access-key-id", ""),
        ("node.backup.secret-access-key", ""),
        ("node.backup.session-token", ""),
        ("node.backup.credentials-file", ""),
        ("compact-mode", "factor-or-timer"),
        ("compact-threshold-factor", "0.4"),
        ("compact-threshold-size", "104857600"),
        ("compact-timer", "3600"),
        ("tombstone-grace", "never"),
        ("audit.path", ""),
        ("audit.max-size", "1GiB"),
        ("http.address", "127.0.0.1:20005"),
        ("http.tls", "false"),
        ("http.console-token", ""),
        ("log.level", "info"),
        ("log.format", "auto"),
        ("trace.otlp-endpoint", ""),
        ("trace.sample-ratio", "0.01"),
    ];

    #[test]
    fn the_defaults_that_were_specified_stay() {
        for (key, default) in DEFAULTS {
            assert_eq!(find(key).map(|setting| setting.default), Some(*default), "{key}");
        }
        let payload = crate::config::values::size_bytes("64KiB").unwrap();
        assert_eq!(payload, limits::PAYLOAD_DEFAULT_BYTES as u64);
    }

    #[test]
    fn environment_names_are_unique_and_have_no_dots() {
        let names: HashSet<String> = SETTINGS.iter().map(Setting::env).collect();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(names.contains("BROCK_NODE_CONFLICT_BACKOFF_MAX"));
        assert!(!names.contains(CONFIG_ENV));
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{name}");
        }
    }

    #[test]
    fn the_help_states_the_bounds_that_are_enforced() {
        let help = |key| find(key).unwrap().help;
        assert!(help("node.replication-limit").contains(&limits::BATCH_ENTRIES_MAX.to_string()));
        assert!(help("node.join").contains(&limits::PEERS_MAX.to_string()));
        assert_eq!(limits::PAYLOAD_MAX_BYTES, 1024 * 1024);
    }

    #[test]
    fn the_reference_lists_every_setting_in_a_well_formed_table() {
        let reference = reference_markdown();
        for setting in SETTINGS {
            let flag = format!("| `--{} ", setting.key);
            let line = reference.lines().find(|line| line.starts_with(&flag)).unwrap();
            assert!(line.contains(&setting.env()) && line.contains(setting.help), "{line}");
        }
        assert!(reference.lines().all(|line| line.matches('|').count() == 5), "{reference}");
        assert!(SETTINGS.iter().all(|setting| !setting.help.contains('|') && !setting.help.contains("  ")));
    }

    #[test]
    fn a_misspelt_key_suggests_the_one_that_was_meant() {
        for (wrong, meant) in [
            ("node.idd", "node.id"),
            ("node.certs_dir", "node.certs-dir"),
            ("nodes.path", "node.path"),
            ("id", "node.id"),
            ("replication-interval", "node.replication-interval"),
            ("node.conflict_backoff.maximum", "node.conflict-backoff.max"),
            ("log.lvl", "log.level"),
            ("http.addr", "http.address"),
        ] {
            assert_eq!(nearest(wrong), meant, "{wrong}");
        }
    }
}
