use std::collections::HashSet;

use super::*;
use crate::ground::limits;

/// The flag tables of the design that Brock follows, and Brock's own settings.
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
    ("node.expiry-margin", "1h"),
    ("node.member-retention", "168h"),
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
fn every_setting_has_the_default_it_was_specified_with() {
    let actual: Vec<_> = SETTINGS.iter().map(|setting| (setting.key, setting.default)).collect();
    assert_eq!(actual, DEFAULTS);
    let payload = crate::node::values::size_bytes("64KiB").unwrap();
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
