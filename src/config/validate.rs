//! The node's configuration: typed and checked, so that no layer below parses a text again.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use age::x25519;
use clap::ArgMatches;

pub use super::values::FirstStart;
use super::{
    error::{ConfigError, Problem},
    reader::Reader,
    sources::{self, ConfigFile, ShownSetting},
    values::{self, ValueError},
};
use crate::{
    backup::{
        objects::{self, CredentialSettings, Location, LocationError, Secret, Settings},
        retention::Retention,
    },
    maintenance::compact::{Mode, Policy},
    telemetry::{
        logs::{LogFormat, LogOptions},
        traces::TraceOptions,
    },
};
use brock_core::base::{duration, id::NodeId, limits, trust::TrustMode};
use brock_net::{
    join::Join,
    listen::ListenAddress,
    tls::level::{WireLevel, WireLevels},
};

const INTERVAL_MIN: Duration = Duration::from_millis(100);
const BACKUP_INTERVAL_MIN: Duration = Duration::from_secs(60);
const NANOSECOND: Duration = Duration::from_nanos(1);
const CACHE_MIN_BYTES: u64 = 1 << 20;
const SIZE_MAX_BYTES: u64 = 1 << 40;

/// Declares a struct, and how each of its fields is read. This is the one place where a setting gets its
/// type: a line here, a row in `settings.rs`, and its use are all that a new setting needs.
///
/// All fields are read before the first missing one counts, so that all problems are reported.
macro_rules! configuration {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident read by $reader:ident {
            $($(#[$field_attribute:meta])* $field:ident: $type:ty = $read:expr,)*
        }
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $type,)*
        }

        impl $name {
            fn read($reader: &mut Reader<'_>) -> Option<Self> {
                $(let $field = $read;)*
                Some(Self { $($field: $field?,)* })
            }
        }
    };
}

configuration! {
    /// Everything that an operator configures. Each layer gets the part that it needs, never the whole.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Config read by reader {
        /// `node.id`
        node_id: NodeId = reader.required(
            "node.id",
            "Choose a name that is unique in the cluster, such as node-1.",
            |text| Ok(text.parse()?),
        ),
        /// `node.path`; `None` = in RAM
        path: Option<PathBuf> = reader.required(
            "node.path",
            "Name a directory for the data, or write ram: to keep the data in RAM and lose it at a restart.",
            values::data_path,
        ),
        /// `node.first-start`
        first_start: FirstStart = reader.parsed("node.first-start", values::first_start),
        /// `node.address`
        address: ListenAddress = reader.parsed("node.address", |text| Ok(text.parse()?)),
        /// `node.join`: checked, without duplicates
        join: Vec<String> = reader.parsed("node.join", values::peers),
        /// `node.discovery-interval`
        discovery_interval: Duration = reader.duration("node.discovery-interval", INTERVAL_MIN),
        /// `node.dns-server`; `None` = the system's
        dns_server: Option<SocketAddr> = reader.parsed("node.dns-server", values::dns_server),
        /// `node.certs-dir`
        certs_dir: PathBuf = reader.required(
            "node.certs-dir",
            "`brock cert ca` and `brock cert node` make the certificates; `brock dev` starts a cluster that needs no setup.",
            values::path,
        ),
        /// `node.crl-dir`; `None` = only the lists in `node.certs-dir`
        crl_dir: Option<PathBuf> = Some(reader.optional_path("node.crl-dir")),
        /// `node.replication-interval`
        replication_interval: Duration = reader.duration("node.replication-interval", INTERVAL_MIN),
        /// `node.replication-limit`
        replication_limit: usize =
            reader.number("node.replication-limit", 1, limits::BATCH_ENTRIES_MAX as u64),
        /// `node.conflict-backoff.*`
        conflict_backoff: ConflictBackoff = ConflictBackoff::read(reader),
        /// `node.payload-limit`
        payload_limit_bytes: usize = reader.number("node.payload-limit", 1, limits::PAYLOAD_MAX_BYTES as u64),
        /// `node.cache-size`
        cache_size_bytes: usize = reader.number("node.cache-size", CACHE_MIN_BYTES, SIZE_MAX_BYTES),
        /// `node.wire-encryption` and `node.wire-encryption-peers`
        wire_levels: WireLevels = wire_levels(reader),
        /// `node.require-uri-roles`
        require_uri_roles: bool = reader.parsed("node.require-uri-roles", values::boolean),
        /// `node.trust`
        trust: TrustMode = reader.choice("node.trust", |text| match text {
            "distributed" => TrustMode::Distributed,
            _ => TrustMode::Centralized,
        }),
        /// `node.expiry-margin`
        expiry_margin: Duration = reader.duration("node.expiry-margin", Duration::ZERO),
        /// `node.member-retention`
        member_retention: Duration = reader.duration("node.member-retention", Duration::ZERO),
        /// `node.destruction-limit`; `None` = off
        destruction_limit: Option<u64> =
            reader.count_or_off("node.destruction-limit", 1, limits::DESTRUCTION_LIMIT_MAX),
        /// `node.shutdown-timeout`
        shutdown_timeout: Duration = reader.duration("node.shutdown-timeout", NANOSECOND),
        /// `node.backup.*`; `None` = not enabled
        backup: Option<BackupConfig> = backup(reader),
        /// `compact-*` and `tombstone-grace`
        compact: Policy = compaction(reader),
        /// `audit.*`
        audit: AuditConfig = AuditConfig::read(reader),
        /// `http.address`; `None` = off
        http_address: Option<ListenAddress> = reader.parsed("http.address", values::listen_or_off),
        /// `http.tls`
        http_tls: bool = reader.parsed("http.tls", values::boolean),
        /// `http.console-token`
        console_token: Option<Secret> = console_token(reader),
        /// `log.*`
        log: LogOptions = log(reader),
        /// `trace.*`; `None` = traces are not exported
        trace: Option<TraceOptions> = trace(reader),
        /// Every setting with its source, without secrets: to be shown.
        settings: Vec<ShownSetting> = Some(reader.shown()),
    }
}

configuration! {
    /// Where the audit log is, and its size.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditConfig read by reader {
        /// `audit.path`; `None` = `audit` in `node.path`
        path: Option<PathBuf> = Some(reader.optional_path("audit.path")),
        /// `audit.max-size`
        max_bytes: u64 = reader
            .number("audit.max-size", limits::AUDIT_MAX_SIZE_MIN_BYTES, SIZE_MAX_BYTES)
            .map(|bytes| bytes as u64),
    }
}

configuration! {
    /// How a storage write is retried.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ConflictBackoff read by reader {
        /// The total time.
        max: Duration = reader.duration("node.conflict-backoff.max", NANOSECOND),
        /// The minimum between two attempts.
        min: Duration =
            reader.duration_up_to("node.conflict-backoff.min", NANOSECOND, ("node.conflict-backoff.max", max)),
        /// Before the first retry; zero = start at `min`.
        delay: Duration = reader.duration_up_to(
            "node.conflict-backoff.delay",
            Duration::ZERO,
            ("node.conflict-backoff.max", max),
        ),
    }
}

/// How backups are made, and where they go.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupConfig {
    /// Where they go.
    pub location: Location,
    /// How to reach the location.
    pub settings: Settings,
    /// The public keys that encrypt them.
    pub recipients: Vec<x25519::Recipient>,
    /// How often to make a full backup.
    pub interval: Duration,
    /// How often to upload new operations in between; zero = never.
    pub sync_interval: Duration,
    /// How long to keep which backups.
    pub retention: Retention,
}

/// The configuration, and the source of each value; or everything that is wrong with it.
pub fn resolve(
    matches: &ArgMatches,
    env: &[(OsString, OsString)],
    file: Option<&ConfigFile>,
) -> Result<(Config, Vec<ShownSetting>), ConfigError> {
    let (shown, problems) = sources::gather(matches, env, file);
    Ok((checked(&shown, problems)?, shown))
}

/// Turns the texts of all settings into a configuration.
pub fn validate(shown: &[ShownSetting]) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(shown);
    let config = Config::read(&mut reader);
    if let Some(config) = &config {
        check_places(&mut reader, config);
        check_collection(&mut reader, config);
    }
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems),
    }
}

/// Whatever lies in the certificates directory counts as a certificate, a key or a list.
fn check_places(reader: &mut Reader<'_>, config: &Config) {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (certs_dir, crl_dir) = (Some(&config.certs_dir), config.crl_dir.as_ref());
    let (path, audit) = (config.path.as_ref(), config.audit.path.as_ref());
    for (key, place, other, taken) in [
        ("node.crl-dir", crl_dir, "node.certs-dir", certs_dir),
        ("node.path", path, "node.certs-dir", certs_dir),
        ("node.path", path, "node.crl-dir", crl_dir),
        ("audit.path", audit, "node.certs-dir", certs_dir),
        ("audit.path", audit, "node.crl-dir", crl_dir),
    ] {
        if place.zip(taken).is_some_and(|(place, taken)| absolute(place) == absolute(taken)) {
            reader.refuse(key, ValueError::SamePlace(other));
        }
    }
}

/// A donor that has forgotten a delete cannot prove it: where only what is proven is believed, no node forgets any.
fn check_collection(reader: &mut Reader<'_>, config: &Config) {
    if config.trust == TrustMode::Distributed && config.compact.tombstone_grace.is_some() {
        reader.refuse("tombstone-grace", ValueError::CollectsUnproven);
    }
}

impl Config {
    /// What is valid, and has no effect: each with what to do about it.
    pub fn warnings(&self) -> Vec<String> {
        let joins: Vec<Join> = self.join.iter().filter_map(|text| text.parse().ok()).collect();
        // Which addresses DNS lists, only the running node learns.
        if joins.iter().any(|join| matches!(join, Join::Listed(_))) {
            return Vec::new();
        }
        let peers = joins.into_iter().filter_map(|join| match join {
            Join::Peer(address) => Some(address),
            Join::Listed(_) => None,
        });
        self.wire_levels.beyond(&peers.collect::<Vec<_>>()).map(|address| {
            format!(
                "node.wire-encryption-peers names {address}, which is not in node.join, so this has no effect: write it there \
                 as node.join does"
            )
        })
        .collect()
    }

    /// The configuration of these settings, as (key, text), and the defaults of all others: for a program
    /// that starts a node without a command line.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let (shown, problems) = sources::gather_pairs(pairs);
        checked(&shown, problems)
    }
}

fn checked(shown: &[ShownSetting], mut problems: Vec<Problem>) -> Result<Config, ConfigError> {
    // Of a file that cannot be read, nothing is missing.
    if problems.iter().any(|problem| matches!(problem, Problem::Syntax { .. })) {
        return Err(ConfigError::Invalid(problems));
    }
    match validate(shown) {
        Ok(config) if problems.is_empty() => Ok(config),
        Ok(_) => Err(ConfigError::Invalid(problems)),
        Err(more) => {
            let empty: Vec<&str> = problems.iter().filter_map(Problem::empty).collect();
            let is_said =
                |problem: &Problem| matches!(problem, Problem::Missing { key, .. } if empty.contains(key));
            let more: Vec<Problem> = more.into_iter().filter(|problem| !is_said(problem)).collect();
            problems.extend(more);
            Err(ConfigError::Invalid(problems))
        }
    }
}

/// Checks everything, even while backups are not enabled.
fn backup(reader: &mut Reader<'_>) -> Option<Option<BackupConfig>> {
    let enabled = reader.parsed("node.backup.enabled", values::boolean);
    let endpoint = reader.optional_text("node.backup.endpoint");
    let bucket = reader.optional_text("node.backup.bucket");
    let prefix = reader.text("node.backup.prefix");
    let interval = reader.duration("node.backup.interval", BACKUP_INTERVAL_MIN);
    let sync_interval = reader.duration("node.backup.sync-interval", Duration::ZERO);
    let recipients = reader.parsed("node.backup.recipient", values::recipients);
    // An empty list must not turn encryption off.
    if reader.is_set_to_nothing("node.backup.recipient") {
        reader.refuse("node.backup.recipient", ValueError::NoRecipient);
    }
    let retention = reader.parsed("node.backup.retention", values::retention);
    let region = reader.optional_text("node.backup.region");
    let path_style = reader.choice("node.backup.path-style", |text| match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    });
    let access_key_id = reader.credential_id("node.backup.access-key-id");
    let secret_access_key = reader.secret("node.backup.secret-access-key");
    let session_token = reader.secret("node.backup.session-token");
    let file = reader.optional_path("node.backup.credentials-file");
    if !enabled? {
        return Some(None);
    }
    let location = location(reader, bucket, &prefix);
    let credentials = CredentialSettings {
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token: session_token?,
        file,
    };
    let settings = Settings { endpoint, region, path_style: path_style?, credentials, ..Settings::default() };
    if matches!(location, Some(Location::S3 { .. })) {
        for (name, error) in objects::problems(&settings) {
            let key = match name {
                "endpoint" => "node.backup.endpoint",
                "region" => "node.backup.region",
                _ => "node.backup.access-key-id",
            };
            reader.refuse(key, ValueError::Backup(error.to_string()));
        }
    }
    let [hourly, daily, weekly] = retention?.map(duration::milliseconds);
    Some(Some(BackupConfig {
        location: location?,
        settings,
        recipients: recipients?,
        interval: interval?,
        sync_interval: sync_interval?,
        retention: Retention { hourly_ms: hourly, daily_ms: daily, weekly_ms: weekly },
    }))
}

fn location(reader: &mut Reader<'_>, bucket: Option<String>, prefix: &str) -> Option<Location> {
    let Some(bucket) = bucket else {
        reader.missing("node.backup.bucket", "Name a bucket, or file:///DIRECTORY.");
        return None;
    };
    let location = match bucket.starts_with("file:") {
        true => bucket.parse().and_then(|directory: Location| directory.within(prefix)),
        false => Location::s3(&bucket, prefix),
    };
    let refused = |error: LocationError| {
        let key = match error {
            LocationError::Prefix(_) => "node.backup.prefix",
            _ => "node.backup.bucket",
        };
        reader.refuse(key, ValueError::Backup(error.to_string()));
    };
    location.map_err(refused).ok()
}

fn wire_levels(reader: &mut Reader<'_>) -> Option<WireLevels> {
    let node = reader.choice("node.wire-encryption", |level| level.parse().unwrap_or(WireLevel::Default));
    let peers = reader.parsed("node.wire-encryption-peers", values::peer_levels);
    Some(WireLevels { node: node?, peers: peers? })
}

/// The token must be too long to be guessed: the number of attempts is not limited.
fn console_token(reader: &mut Reader<'_>) -> Option<Option<Secret>> {
    let token = reader.secret("http.console-token")?;
    match &token {
        Some(secret) if secret.reveal().len() < limits::CONSOLE_TOKEN_MIN_BYTES => {
            reader.refuse("http.console-token", ValueError::TokenTooShort);
            None
        }
        _ => Some(token),
    }
}

fn compaction(reader: &mut Reader<'_>) -> Option<Policy> {
    let mode = reader.choice("compact-mode", |text| match text {
        "never" => Mode::Never,
        "modified" => Mode::Modified,
        "timer" => Mode::Timer,
        "factor" => Mode::Factor,
        "size" => Mode::Size,
        "size-or-timer" => Mode::SizeOrTimer,
        _ => Mode::FactorOrTimer,
    });
    let factor = reader.parsed("compact-threshold-factor", values::factor);
    let size_bytes = reader.number("compact-threshold-size", 1, SIZE_MAX_BYTES);
    let timer = reader.seconds("compact-timer");
    let tombstone_grace = reader.duration_or_never("tombstone-grace");
    Some(Policy {
        mode: mode?,
        factor: factor?,
        size_bytes: size_bytes? as u64,
        timer: timer?,
        tombstone_grace: tombstone_grace?,
    })
}

fn log(reader: &mut Reader<'_>) -> Option<LogOptions> {
    let filter = reader.parsed("log.level", values::log_level);
    let format = reader.choice("log.format", |text| match text {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
    });
    Some(LogOptions { filter: filter?, format: format? })
}

fn trace(reader: &mut Reader<'_>) -> Option<Option<TraceOptions>> {
    let endpoint = reader.parsed("trace.otlp-endpoint", values::collector);
    let sample_ratio = reader.parsed("trace.sample-ratio", values::ratio)?;
    Some(endpoint?.map(|endpoint| TraceOptions { endpoint, sample_ratio }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        error::Source,
        settings::{self, SETTINGS},
    };

    const REQUIRED: [&str; 3] = ["--node.id=a", "--node.path=ram:", "--node.certs-dir=certs"];

    fn matches(flags: &[&str]) -> ArgMatches {
        let command = clap::Command::new("run").no_binary_name(true).args(settings::args());
        command.try_get_matches_from(flags).unwrap()
    }

    fn try_resolve(
        flags: &[&str],
        env: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<(Config, Vec<ShownSetting>), ConfigError> {
        let env: Vec<_> = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let file = file.map(|text| ConfigFile { path: "brock.toml".into(), text: text.to_owned() });
        resolve(&matches(flags), &env, file.as_ref())
    }

    /// Resolves with the required settings given as flags.
    fn resolved(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> (Config, Vec<ShownSetting>) {
        try_resolve(&[&REQUIRED, flags].concat(), env, file).unwrap()
    }

    fn error(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> String {
        try_resolve(&[&REQUIRED, flags].concat(), env, file).unwrap_err().to_string()
    }

    fn source(shown: &[ShownSetting], key: &str) -> String {
        shown.iter().find(|shown| shown.key == key).unwrap().source.to_string()
    }

    #[test]
    fn the_defaults_are_a_valid_configuration_once_the_required_settings_are_given() {
        let (config, shown) = resolved(&[], &[], None);
        assert_eq!(config.node_id.as_str(), "a");
        assert_eq!((config.path, config.first_start), (None, FirstStart::No));
        assert_eq!((config.address, config.join), (":20004".parse().unwrap(), Vec::new()));
        assert_eq!((config.discovery_interval, config.dns_server), (Duration::from_secs(10), None));
        assert_eq!(config.certs_dir, PathBuf::from("certs"));
        assert_eq!((config.replication_interval, config.replication_limit), (Duration::from_secs(30), 1000));
        let (max, min) = (Duration::from_secs(300), Duration::from_millis(100));
        assert_eq!(config.conflict_backoff, ConflictBackoff { delay: Duration::ZERO, max, min });
        assert_eq!(config.payload_limit_bytes, limits::PAYLOAD_DEFAULT_BYTES);
        assert_eq!((config.cache_size_bytes, config.require_uri_roles), (64 << 20, false));
        assert_eq!(config.expiry_margin, Duration::from_secs(3600));
        assert_eq!(config.member_retention, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(config.backup, None);
        let compact = Policy {
            mode: Mode::FactorOrTimer,
            factor: 0.4,
            size_bytes: 104_857_600,
            timer: Duration::from_secs(3600),
            tombstone_grace: None,
        };
        assert_eq!(config.compact, compact);
        assert_eq!(config.shutdown_timeout, Duration::from_secs(10));
        assert_eq!(config.audit, AuditConfig { path: None, max_bytes: 1024 * 1024 * 1024 });
        assert_eq!(config.http_address, Some("127.0.0.1:20005".parse().unwrap()));
        assert_eq!((config.http_tls, config.console_token), (false, None));
        assert_eq!(config.log, LogOptions { filter: "info".to_owned(), format: LogFormat::Auto });
        assert_eq!((&config.settings, config.trace), (&shown, None));
        assert_eq!(shown.len(), SETTINGS.len());
        assert_eq!(source(&shown, "node.address"), "default");
    }

    #[test]
    fn every_setting_of_the_table_is_read() {
        let (_, shown) = resolved(&[], &[], None);
        let mut reader = Reader::new(&shown);
        Config::read(&mut reader).unwrap();
        for settings::Setting { key, .. } in SETTINGS {
            let times = reader.read.iter().filter(|read| *read == key).count();
            assert_eq!(times, 1, "{key} is read {times} times: give it one line in `configuration!`");
        }
        assert_eq!(reader.read.len(), SETTINGS.len());
    }

    #[test]
    fn a_program_without_a_command_line_configures_a_node_by_pairs() {
        let required = [("node.id", "a"), ("node.path", "ram:"), ("node.certs-dir", "certs")];
        let config = Config::from_pairs(&[&required[..], &[("node.replication-limit", "7")]].concat());
        let config = config.unwrap();
        assert_eq!((config.replication_limit, config.cache_size_bytes), (7, 64 << 20));
        assert_eq!(source(&config.settings, "node.replication-limit"), "program");
        let wrong = [&required[..], &[("node.replication_limit", "7"), ("node.address", "20004")]].concat();
        let text = Config::from_pairs(&wrong).unwrap_err().to_string();
        for part in ["program: there is no setting 'node.replication_limit'", "'20004' (program)"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let file = "[node]\nreplication-interval = \"1s\"\n";
        let env = [("BROCK_NODE_REPLICATION_INTERVAL", "2s")];
        let flag = ["--node.replication-interval=3s"];
        let cases: [(&[&str], &[_], _, _, _); 4] = [
            (&[], &[], None, 30, "default"),
            (&[], &[], Some(file), 1, "brock.toml:2"),
            (&[], &env, Some(file), 2, "environment BROCK_NODE_REPLICATION_INTERVAL"),
            (&flag, &env, Some(file), 3, "flag"),
        ];
        for (flags, env, file, seconds, from) in cases {
            let (config, shown) = resolved(flags, env, file);
            assert_eq!(config.replication_interval, Duration::from_secs(seconds));
            assert_eq!(source(&shown, "node.replication-interval"), from);
        }
    }

    #[test]
    fn the_file_takes_tables_native_types_and_arrays() {
        let file = r#"
log.level = "debug"
[node]
first-start = true
join = ["b:1", "c:2"]
replication-limit = 5_00
payload-limit = 1024
cache-size = "1GiB"
[node.conflict-backoff]
max = "1m"
[http]
address = "off"
"#;
        let (config, shown) = resolved(&[], &[], Some(file));
        assert_eq!(config.first_start, FirstStart::Yes);
        assert_eq!(config.join, ["b:1", "c:2"]);
        assert_eq!((config.replication_limit, config.payload_limit_bytes), (500, 1024));
        assert_eq!(config.cache_size_bytes, 1 << 30);
        assert_eq!(config.conflict_backoff.max, Duration::from_secs(60));
        assert_eq!(config.http_address, None);
        assert_eq!(config.log.filter, "debug");
        assert_eq!(source(&shown, "node.conflict-backoff.max"), "brock.toml:10");
    }

    #[test]
    fn flags_are_booleans_with_and_without_a_value_and_lists_with_commas_and_repetition() {
        let first_start = |flag| resolved(&[flag], &[("BROCK_NODE_FIRST_START", "true")], None).0.first_start;
        assert_eq!(first_start("--node.first-start"), FirstStart::Yes);
        assert_eq!(first_start("--node.first-start=true"), FirstStart::Yes);
        assert_eq!(first_start("--node.first-start=false"), FirstStart::No);
        assert_eq!(first_start("--node.first-start=auto"), FirstStart::Auto);
        let (config, _) = resolved(&["--node.join", "b:1,c:2", "--node.join", "d:3"], &[], None);
        assert_eq!(config.join, ["b:1", "c:2", "d:3"]);
        assert_eq!(resolved(&["--http.address=off"], &[], None).0.http_address, None);
    }

    #[test]
    fn everything_that_is_wrong_is_reported_at_once_with_its_place_and_its_cure() {
        let text = try_resolve(
            &["--node.id=a b", "--node.join=b"],
            &[("BROCK_NODE_REPLICATION_LIMIT", "0"), ("BROCK_NODE_PAHT", "/data")],
            Some(
                "[node]\nidd = \"a\"\nexpiry-margin = 5\npayload-limit = \"2MiB\"\n[log]\nlevel = \"loud\"\n",
            ),
        )
        .unwrap_err()
        .to_string();
        for part in [
            "brock.toml:2: there is no setting 'node.idd'; did you mean 'node.id'?",
            "brock.toml:3: node.expiry-margin must not be a number; write a text with a number and a unit",
            "environment BROCK_NODE_PAHT: there is no such setting; did you mean BROCK_NODE_PATH?",
            "node.path is required: pass --node.path or set BROCK_NODE_PATH. Name a directory",
            "node.certs-dir is required: pass --node.certs-dir or set BROCK_NODE_CERTS_DIR. `brock cert ca`",
            "node.id: the value 'a b' (flag) is not a node id",
            "node.join: the value 'b' (flag) has a peer, 'b', that is not HOST:PORT",
            "node.replication-limit: the value '0' (environment BROCK_NODE_REPLICATION_LIMIT) is out of bounds; write a value from 1 to 10000",
            "node.payload-limit: the value '2MiB' (brock.toml:4) is out of bounds",
            "log.level: the value 'loud' (brock.toml:6) is not a log filter",
        ] {
            assert!(text.contains(part), "{part}\n is not in\n{text}");
        }
        assert_eq!(text.lines().count(), 11, "{text}");
    }

    #[test]
    fn an_empty_variable_counts_as_one_that_is_not_set() {
        let file = "[node]\npath = \"/data\"\njoin = [\"b:1\"]\n[http]\naddress = \"off\"\n";
        let flags = ["--node.id=a", "--node.certs-dir=certs"];
        let variables: Vec<String> = SETTINGS.iter().map(settings::Setting::env).collect();
        let (_, unset) = try_resolve(&flags, &[], Some(file)).unwrap();
        let with = |value| {
            let env: Vec<(&str, &str)> = variables.iter().map(|name| (name.as_str(), value)).collect();
            try_resolve(&flags, &env, Some(file)).unwrap()
        };
        let (config, shown) = with("");
        assert_eq!(with(" \t").1, unset);
        assert_eq!(config.path, Some("/data".into()));
        assert_eq!((config.join, config.http_address), (vec!["b:1".to_owned()], None));
        assert_eq!(source(&shown, "node.path"), "brock.toml:2");
        assert_eq!(shown, unset);
    }

    #[test]
    fn an_empty_flag_or_key_is_refused() {
        for settings::Setting { key, .. } in SETTINGS {
            let flag = format!("--{key}=");
            let refused =
                |flags: &[&str], file: Option<&str>| try_resolve(flags, &[], file).unwrap_err().to_string();
            let blank = format!("--{key}= ");
            for text in [
                refused(&[&flag], None),
                refused(&[&blank], None),
                refused(&[], Some(&format!("{key} = \"\"\n"))),
            ] {
                let part = format!("{key}: the value is empty");
                assert!(text.contains(&part), "{part} is not in\n{text}");
            }
        }
        assert_eq!(resolved(&[], &[], Some("node.join = []")).0.join, Vec::<String>::new());
        let text = error(&[], &[], Some("node.backup.recipient = []"));
        assert!(text.contains("backups would not be encrypted"), "{text}");
    }

    #[test]
    fn a_line_break_in_a_credential_is_refused_wherever_it_comes_from() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "s3cr3t\nsecond line\n").unwrap();
        let in_file = format!("@{}", file.path().display());
        for key in [
            "node.backup.access-key-id",
            "node.backup.secret-access-key",
            "node.backup.session-token",
            "http.console-token",
        ] {
            let name = settings::find(key).unwrap().env();
            let long = "s3cr3t".repeat(10);
            for text in ["AK\n", "AK\r\n", "\tAK", "A K", &format!("{long}\n"), &in_file] {
                let is_id = key.ends_with("key-id");
                // Only a secret may be in a file of its own.
                if is_id && text == in_file {
                    continue;
                }
                let refused = error(&[], &[(&name, text)], None);
                assert!(refused.contains(&format!("{key}: the value")), "{text:?}: {refused}");
                if !is_id {
                    assert!(
                        refused.contains("no credential has") && !refused.contains("s3cr3t"),
                        "{refused}"
                    );
                }
            }
        }
        std::fs::write(&file, "\n").unwrap();
        let empty = error(&[], &[("BROCK_NODE_BACKUP_SECRET_ACCESS_KEY", &in_file)], None);
        assert!(empty.contains("it is empty"), "{empty}");
        // The line break at the end of a file is not part of the secret.
        std::fs::write(&file, "s3cr3t\n").unwrap();
        resolved(&[], &[("BROCK_NODE_BACKUP_SECRET_ACCESS_KEY", &in_file)], None);
        let token = "3f".repeat(32);
        resolved(&[], &[("BROCK_HTTP_CONSOLE_TOKEN", &token)], None);
    }

    #[test]
    fn data_is_kept_in_ram_only_by_that_word() {
        let path = |text: &str| {
            let flags = ["--node.id=a", "--node.certs-dir=certs", text];
            try_resolve(&flags, &[], None).map(|(config, _)| config.path)
        };
        assert_eq!(path("--node.path=ram:").unwrap(), None);
        assert_eq!(path("--node.path=./ram:").unwrap(), Some("./ram:".into()));
        for almost in ["ram", "RAM:", "ram: ", "ram:/x", "data\n"] {
            let refused = path(&format!("--node.path={almost}")).unwrap_err().to_string();
            assert!(refused.contains("node.path: the value"), "{refused}");
        }
        assert!(path("--log.level=info").unwrap_err().to_string().contains("ram: to keep the data in RAM"));
    }

    #[test]
    fn no_tombstones_are_collected_where_only_what_is_proven_is_believed() {
        let distributed = "--node.trust=distributed";
        for grace in ["0s", "720h"] {
            let refused = error(&[distributed, &format!("--tombstone-grace={grace}")], &[], None);
            let said = format!(
                "tombstone-grace: the value '{grace}' (flag) cannot be used with node.trust=distributed"
            );
            assert!(refused.contains(&said) && refused.contains("Leave tombstone-grace out"), "{refused}");
            assert_eq!(refused.lines().count(), 2, "{refused}");
        }
        let in_file = error(&[], &[("BROCK_NODE_TRUST", "distributed")], Some("tombstone-grace = \"1h\"\n"));
        assert!(in_file.contains("tombstone-grace: the value '1h' (brock.toml:1)"), "{in_file}");
        assert_eq!(resolved(&[distributed], &[], None).0.compact.tombstone_grace, None);
        resolved(&[distributed, "--tombstone-grace=never"], &[], None);
        let grace = resolved(&["--tombstone-grace=1h"], &[], None).0.compact.tombstone_grace;
        assert_eq!(grace, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn limits_are_checked() {
        for (flag, part) in [
            ("--node.replication-interval=99ms", "from 100ms to 87600h"),
            ("--node.replication-interval=99999999h", "from 100ms to 87600h"),
            ("--node.replication-limit=10001", "from 1 to 10000"),
            ("--node.payload-limit=0", "from 1 to 1048576"),
            ("--node.cache-size=1KiB", "from 1048576 to 1099511627776"),
            ("--node.conflict-backoff.min=0s", "from 1ns"),
            ("--node.conflict-backoff.min=6m", "is above node.conflict-backoff.max = 5m"),
            ("--node.conflict-backoff.delay=6m", "is above node.conflict-backoff.max = 5m"),
            ("--node.shutdown-timeout=0s", "from 1ns"),
            ("--node.replication-interval=30", "is not a duration; write a duration as a number and a unit"),
            ("--node.replication-limit=-5", "is not a whole number"),
            ("--node.first-start=yes", "write true, false or auto"),
            ("--node.address=20004", "it has no port"),
            ("--log.format=xml", "write one of auto, text, json"),
            ("--trace.otlp-endpoint=https://otel:4317", "write http://HOST:PORT"),
            ("--trace.sample-ratio=1.5", "write a value from 0 to 1"),
        ] {
            let text = error(&[flag], &[], None);
            assert!(text.contains(part), "{flag}: {text}");
            assert_eq!(text.lines().count(), 2, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_toml_is_reported_by_line() {
        let text = error(&[], &[], Some("[node]\nid = a b\n"));
        assert!(text.contains("brock.toml:2: this is not TOML"), "{text}");
        let alone = try_resolve(&[], &[], Some("[node]\nid = a b\n")).unwrap_err().to_string();
        assert!(!alone.contains("is required"), "{alone}");
        let once = try_resolve(&["--node.id="], &[], None).unwrap_err().to_string();
        assert!(!once.contains("node.id is required"), "{once}");
    }

    #[test]
    fn a_key_where_a_table_belongs_and_an_unknown_table_are_refused() {
        for (file, key) in [
            ("node = 5", "'node'"),
            ("[nodes]\nid = \"a\"", "'nodes.id'"),
            ("[extra]", "'extra'"),
            ("node.id.x = 1", "node.id must not be a table"),
        ] {
            let text = error(&[], &[], Some(file));
            assert!(text.contains(key), "{file}: {text}");
        }
    }

    #[test]
    fn variables_that_kubernetes_sets_for_a_service_are_no_settings() {
        let env = [
            ("BROCK_NODE_SERVICE_HOST", "10.0.0.1"),
            ("BROCK_NODE_PORT", "tcp://10.0.0.1:20004"),
            ("BROCK_PORT_20004_TCP_ADDR", "10.0.0.1"),
            ("BROCK_CONFIG", ""),
            ("PATH", "/bin"),
        ];
        let (_, shown) = resolved(&[], &env, None);
        assert!(shown.iter().all(|shown| !matches!(shown.source, Source::Environment(_))));
    }

    #[test]
    fn a_configuration_file_that_cannot_be_read_is_named() {
        let env = [("BROCK_CONFIG".into(), "/does/not/exist.toml".into())];
        let error = ConfigFile::read_named(&matches(&[]), &env).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist.toml"), "{error}");
        let flag = matches(&["--config=/nor/this.toml"]);
        let error = ConfigFile::read_named(&flag, &env).unwrap_err().to_string();
        assert!(error.contains("/nor/this.toml"), "{error}");
        assert!(ConfigFile::read_named(&matches(&[]), &[]).unwrap().is_none());
    }
}
