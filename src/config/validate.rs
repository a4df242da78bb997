//! The node's configuration: typed and checked, so that nobody below reads a text twice.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use age::x25519;
use clap::ArgMatches;

pub use super::values::FirstStart;
use super::{
    error::{ConfigError, Problem, Source},
    settings,
    sources::{self, ConfigFile, ShownSetting},
    values::{self, Kind, ValueError},
};
use crate::{
    backup::{
        objects::{CredentialSettings, Location, LocationError, Secret, Settings},
        retention::Retention,
    },
    maintenance::compact::{Mode, Policy},
    node::listen::ListenAddress,
};
use brock_core::base::{duration, id::NodeId, limits};

/// No duration is longer: ten years, so that a deadline can always be computed.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const NANOSECOND: Duration = Duration::from_nanos(1);
const CACHE_MIN_BYTES: u64 = 1 << 20;
const CACHE_MAX_BYTES: u64 = 1 << 40;

/// Everything a node is told. Each layer gets what it needs of it, never the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `node.id`
    pub node_id: NodeId,
    /// `node.path`; `None` = in RAM
    pub path: Option<PathBuf>,
    /// `node.first-start`
    pub first_start: FirstStart,
    /// `node.address`
    pub address: ListenAddress,
    /// `node.join`: checked, without duplicates
    pub join: Vec<String>,
    /// `node.discovery-interval`
    pub discovery_interval: Duration,
    /// `node.dns-server`; `None` = the machine's
    pub dns_server: Option<SocketAddr>,
    /// `node.certs-dir`
    pub certs_dir: PathBuf,
    /// `node.replication-interval`
    pub replication_interval: Duration,
    /// `node.replication-limit`
    pub replication_limit: usize,
    /// `node.conflict-backoff.*`
    pub conflict_backoff: ConflictBackoff,
    /// `node.payload-limit`
    pub payload_limit_bytes: usize,
    /// `node.cache-size`
    pub cache_size_bytes: usize,
    /// `node.require-uri-roles`
    pub require_uri_roles: bool,
    /// `node.expiry-margin`
    pub expiry_margin: Duration,
    /// `node.member-retention`
    pub member_retention: Duration,
    /// `node.backup.*`; `None` = not enabled
    pub backup: Option<BackupConfig>,
    /// `compact-*` and `tombstone-grace`
    pub compact: Policy,
    /// `node.shutdown-timeout`
    pub shutdown_timeout: Duration,
    /// `audit.*`
    pub audit: AuditConfig,
    /// `http.address`; `None` = off
    pub http_address: Option<ListenAddress>,
    /// `http.tls`
    pub http_tls: bool,
    /// `http.console-token`
    pub console_token: Option<Secret>,
    /// `log.level` and `log.format`
    pub log: LogConfig,
    /// `trace.*`; `None` = traces are not exported
    pub trace: Option<TraceConfig>,
    /// What was said about each setting, and by whom: to be shown, without secrets.
    pub settings: Vec<ShownSetting>,
}

/// Where the audit log lies, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// `audit.path`; `None` = `audit` in `node.path`
    pub path: Option<PathBuf>,
    /// `audit.max-size`
    pub max_bytes: u64,
}

/// How backups are made, and where they go.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupConfig {
    /// Where they go.
    pub location: Location,
    /// How that is reached.
    pub settings: Settings,
    /// Whom they are encrypted to.
    pub recipients: Vec<x25519::Recipient>,
    /// How often a full one is made.
    pub interval: Duration,
    /// How often what was done since is shipped; zero = not.
    pub sync_interval: Duration,
    /// For how long which ones are kept.
    pub retention: Retention,
}

/// How a storage write is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictBackoff {
    /// Before the first retry; zero = start at `min`.
    pub delay: Duration,
    /// In all.
    pub max: Duration,
    /// Between two tries.
    pub min: Duration,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter in the syntax of tracing's `EnvFilter`, checked.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// `http://HOST:PORT` of a collector.
    pub endpoint: String,
    /// The share that is sent, 0 to 1.
    pub sample_ratio: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The configuration, and where each value came from; or everything that is wrong with it.
pub fn resolve(
    matches: &ArgMatches,
    env: &[(OsString, OsString)],
    file: Option<&ConfigFile>,
) -> Result<(Config, Vec<ShownSetting>), ConfigError> {
    let (shown, mut problems) = sources::gather(matches, env, file);
    match validate(&shown) {
        Ok(config) if problems.is_empty() => Ok((config, shown)),
        Ok(_) => Err(ConfigError::Invalid(problems)),
        Err(more) => {
            problems.extend(more);
            Err(ConfigError::Invalid(problems))
        }
    }
}

/// Turns the texts of all settings into a configuration.
pub fn validate(shown: &[ShownSetting]) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { shown, problems: Vec::new(), read: Vec::new() };
    let config = reader.config();
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems),
    }
}

/// Reads settings one by one and remembers every problem instead of stopping at the first.
struct Reader<'a> {
    shown: &'a [ShownSetting],
    problems: Vec<Problem>,
    read: Vec<&'static str>,
}

impl Reader<'_> {
    /// `None` only together with a problem. All settings are read before the first `?`.
    fn config(&mut self) -> Option<Config> {
        let node_id =
            self.required("node.id", "Choose a name that is unique in the cluster, such as node-1.");
        let certs_dir = self.required(
            "node.certs-dir",
            "`brock cert ca` and `brock cert node` make the certificates; `brock dev` starts a cluster that needs no setup.",
        );
        let node_id = node_id.and_then(|text| self.value("node.id", &text, |text| Ok(text.parse()?)));
        let path = self.optional_path("node.path");
        let first_start = self.parsed("node.first-start", values::first_start);
        let address = self.parsed("node.address", |text| Ok(text.parse()?));
        let join = self.parsed("node.join", values::peers);
        let discovery_interval = self.duration("node.discovery-interval", INTERVAL_MIN);
        let dns_server = self.parsed("node.dns-server", values::dns_server);
        let replication_interval = self.duration("node.replication-interval", INTERVAL_MIN);
        let replication_limit = self.number("node.replication-limit", 1, limits::BATCH_ENTRIES_MAX as u64);
        let conflict_backoff = self.conflict_backoff();
        let payload_limit_bytes = self.number("node.payload-limit", 1, limits::PAYLOAD_MAX_BYTES as u64);
        let cache_size_bytes = self.number("node.cache-size", CACHE_MIN_BYTES, CACHE_MAX_BYTES);
        let require_uri_roles = self.parsed("node.require-uri-roles", values::boolean);
        let expiry_margin = self.duration("node.expiry-margin", Duration::ZERO);
        let member_retention = self.duration("node.member-retention", Duration::ZERO);
        let backup = self.backup();
        let compact = self.compact();
        let audit = self.audit();
        let shutdown_timeout = self.duration("node.shutdown-timeout", NANOSECOND);
        let http_address = self.parsed("http.address", values::listen_or_off);
        let http_tls = self.parsed("http.tls", values::boolean);
        let console_token = self.console_token();
        let level = self.parsed("log.level", values::log_level);
        let format = self.log_format();
        let endpoint = self.parsed("trace.otlp-endpoint", values::collector);
        let sample_ratio = self.parsed("trace.sample-ratio", values::ratio);
        Some(Config {
            node_id: node_id?,
            path: path?,
            first_start: first_start?,
            address: address?,
            join: join?,
            discovery_interval: discovery_interval?,
            dns_server: dns_server?,
            certs_dir: PathBuf::from(certs_dir?),
            replication_interval: replication_interval?,
            replication_limit: replication_limit?,
            conflict_backoff: conflict_backoff?,
            payload_limit_bytes: payload_limit_bytes?,
            cache_size_bytes: cache_size_bytes?,
            require_uri_roles: require_uri_roles?,
            expiry_margin: expiry_margin?,
            member_retention: member_retention?,
            backup: backup?,
            compact: compact?,
            shutdown_timeout: shutdown_timeout?,
            audit: audit?,
            http_address: http_address?,
            http_tls: http_tls?,
            console_token: console_token?,
            log: LogConfig { level: level?, format: format? },
            trace: match (endpoint?, sample_ratio?) {
                (Some(endpoint), sample_ratio) => Some(TraceConfig { endpoint, sample_ratio }),
                (None, _) => None,
            },
            settings: self.shown.iter().map(ShownSetting::without_secret).collect(),
        })
    }

    fn text(&mut self, key: &'static str) -> String {
        self.read.push(key);
        let shown = self.shown.iter().find(|shown| shown.key == key);
        shown.map(|shown| shown.value.clone()).unwrap_or_default()
    }

    fn required(&mut self, key: &'static str, hint: &'static str) -> Option<String> {
        let text = self.text(key);
        if text.is_empty() {
            let env = settings::find(key).map(settings::Setting::env).unwrap_or_default();
            self.problems.push(Problem::Missing { key, env, hint });
            return None;
        }
        Some(text)
    }

    fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        let text = self.text(key);
        self.value(key, &text, parse)
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        parse(text).map_err(|error| self.refuse(key, error)).ok()
    }

    fn refuse(&mut self, key: &'static str, error: ValueError) {
        if let Some(shown) = self.shown.iter().find(|shown| shown.key == key) {
            let (value, place) = (shown.redacted().to_owned(), shown.source.clone());
            self.problems.push(Problem::Value { key, value, place, error });
        }
    }

    fn duration(&mut self, key: &'static str, low: Duration) -> Option<Duration> {
        self.parsed(key, |text| {
            let value = values::duration(text)?;
            let bounds = || ValueError::Bounds(duration::format(low), duration::format(DURATION_MAX));
            if (low..=DURATION_MAX).contains(&value) { Ok(value) } else { Err(bounds()) }
        })
    }

    /// A count, or a size in bytes.
    fn number(&mut self, key: &'static str, low: u64, high: u64) -> Option<usize> {
        let is_size = settings::find(key).is_some_and(|setting| setting.kind == Kind::Size);
        self.parsed(key, |text| {
            let value = if is_size { values::size_bytes(text)? } else { values::count(text)? };
            let bounds = || ValueError::Bounds(low.to_string(), high.to_string());
            if !(low..=high).contains(&value) {
                return Err(bounds());
            }
            usize::try_from(value).map_err(|_| bounds())
        })
    }

    fn conflict_backoff(&mut self) -> Option<ConflictBackoff> {
        let max = self.duration("node.conflict-backoff.max", NANOSECOND);
        let below_max = |reader: &mut Self, key, low| {
            let value = reader.duration(key, low)?;
            if let Some(max) = max.filter(|max| value > *max) {
                reader.refuse(key, ValueError::Above("node.conflict-backoff.max", duration::format(max)));
                return None;
            }
            Some(value)
        };
        let min = below_max(self, "node.conflict-backoff.min", NANOSECOND);
        let delay = below_max(self, "node.conflict-backoff.delay", Duration::ZERO);
        Some(ConflictBackoff { delay: delay?, max: max?, min: min? })
    }

    /// Everything is checked, also while backups are not enabled.
    fn backup(&mut self) -> Option<Option<BackupConfig>> {
        let enabled = self.parsed("node.backup.enabled", values::boolean);
        let optional = |text: String| Some(text).filter(|text| !text.is_empty());
        let endpoint = optional(self.text("node.backup.endpoint"));
        let bucket = self.text("node.backup.bucket");
        let prefix = self.text("node.backup.prefix");
        let interval = self.duration("node.backup.interval", Duration::from_secs(60));
        let sync_interval = self.duration("node.backup.sync-interval", Duration::ZERO);
        let recipients = self.parsed("node.backup.recipient", values::recipients);
        // A template that was not filled in must not turn encryption off.
        let is_given = |shown: &ShownSetting| {
            let is_filled_in = matches!(shown.source, Source::Flag | Source::Environment(_));
            shown.key == "node.backup.recipient" && is_filled_in
        };
        if recipients.as_ref().is_some_and(Vec::is_empty) && self.shown.iter().any(is_given) {
            self.refuse("node.backup.recipient", ValueError::NoRecipient);
        }
        let retention = self.parsed("node.backup.retention", values::retention);
        let region = optional(self.text("node.backup.region"));
        let path_style = self.choice("node.backup.path-style", |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
        let access_key_id = optional(self.text("node.backup.access-key-id"));
        let secret_access_key = self.secret("node.backup.secret-access-key");
        let session_token = self.secret("node.backup.session-token");
        let file = optional(self.text("node.backup.credentials-file")).map(PathBuf::from);
        if !enabled? {
            return Some(None);
        }
        let location = match bucket.as_str() {
            "" => {
                self.required("node.backup.bucket", "Name a bucket, or file:///DIRECTORY.")?;
                return None;
            }
            url if url.starts_with("file:") => {
                url.parse().and_then(|directory: Location| directory.within(&prefix))
            }
            bucket => Location::s3(bucket, &prefix),
        };
        let location: Location = match location {
            Ok(location) => location,
            Err(error) => {
                let key = match error {
                    LocationError::Prefix(_) => "node.backup.prefix",
                    _ => "node.backup.bucket",
                };
                self.refuse(key, ValueError::Backup(error.to_string()));
                return None;
            }
        };
        let [hourly, daily, weekly] = retention?;
        let credentials = CredentialSettings {
            access_key_id,
            secret_access_key: secret_access_key?,
            session_token: session_token?,
            file,
        };
        Some(Some(BackupConfig {
            location,
            settings: Settings {
                endpoint,
                region,
                path_style: path_style?,
                credentials,
                ..Settings::default()
            },
            recipients: recipients?,
            interval: interval?,
            sync_interval: sync_interval?,
            retention: Retention {
                hourly_ms: duration::milliseconds(hourly),
                daily_ms: duration::milliseconds(daily),
                weekly_ms: duration::milliseconds(weekly),
            },
        }))
    }

    /// A secret may stand in the environment, in the configuration file, or in a file of its own, but
    /// not on the command line, where everybody sees it.
    fn secret(&mut self, key: &'static str) -> Option<Option<Secret>> {
        let text = self.text(key);
        if text.is_empty() {
            return Some(None);
        }
        let on_command_line =
            self.shown.iter().any(|shown| shown.key == key && matches!(shown.source, Source::Flag));
        if on_command_line && !text.starts_with('@') {
            self.refuse(key, ValueError::SecretOnCommandLine);
            return None;
        }
        self.parsed(key, values::secret).map(|secret| Some(Secret::new(secret)))
    }

    /// Who may try as often as he likes must not find it.
    fn console_token(&mut self) -> Option<Option<Secret>> {
        let token = self.secret("http.console-token")?;
        match &token {
            Some(secret) if secret.reveal().len() < limits::CONSOLE_TOKEN_MIN_BYTES => {
                self.refuse("http.console-token", ValueError::TokenTooShort);
                None
            }
            _ => Some(token),
        }
    }

    fn optional_path(&mut self, key: &'static str) -> Option<Option<PathBuf>> {
        self.parsed(key, |text| Ok(Some(PathBuf::from(text)).filter(|_| !text.is_empty())))
    }

    fn audit(&mut self) -> Option<AuditConfig> {
        let path = self.optional_path("audit.path");
        let max_bytes = self.number("audit.max-size", limits::AUDIT_MAX_SIZE_MIN_BYTES, CACHE_MAX_BYTES);
        Some(AuditConfig { path: path?, max_bytes: max_bytes? as u64 })
    }

    fn compact(&mut self) -> Option<Policy> {
        let bounded = |value: Duration| {
            let bounds =
                || ValueError::Bounds(duration::format(Duration::ZERO), duration::format(DURATION_MAX));
            if value <= DURATION_MAX { Ok(value) } else { Err(bounds()) }
        };
        let mode = self.choice("compact-mode", |text| match text {
            "never" => Mode::Never,
            "modified" => Mode::Modified,
            "timer" => Mode::Timer,
            "factor" => Mode::Factor,
            "size" => Mode::Size,
            "size-or-timer" => Mode::SizeOrTimer,
            _ => Mode::FactorOrTimer,
        });
        let factor = self.parsed("compact-threshold-factor", values::factor);
        let size_bytes = self.number("compact-threshold-size", 1, CACHE_MAX_BYTES);
        let timer = self.parsed("compact-timer", |text| bounded(values::seconds(text)?));
        let tombstone_grace =
            self.parsed("tombstone-grace", |text| values::duration_or_never(text)?.map(bounded).transpose());
        Some(Policy {
            mode: mode?,
            factor: factor?,
            size_bytes: size_bytes? as u64,
            timer: timer?,
            tombstone_grace: tombstone_grace?,
        })
    }

    /// One of the words that the setting lists.
    fn choice<T>(&mut self, key: &'static str, read: impl Fn(&str) -> T) -> Option<T> {
        let Some(Kind::Choice(options)) = settings::find(key).map(|setting| setting.kind) else {
            return None;
        };
        self.parsed(key, |text| Ok(read(values::choice(text, options)?)))
    }

    fn log_format(&mut self) -> Option<LogFormat> {
        self.choice("log.format", |text| match text {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{error::Source, settings::SETTINGS};

    const REQUIRED: [&str; 2] = ["--node.id=a", "--node.certs-dir=certs"];

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
        let expected = Config {
            node_id: "a".parse().unwrap(),
            path: None,
            first_start: FirstStart::No,
            address: ":20004".parse().unwrap(),
            join: Vec::new(),
            discovery_interval: Duration::from_secs(10),
            dns_server: None,
            certs_dir: "certs".into(),
            replication_interval: Duration::from_secs(30),
            replication_limit: 1000,
            conflict_backoff: ConflictBackoff {
                delay: Duration::ZERO,
                max: Duration::from_secs(300),
                min: Duration::from_millis(100),
            },
            payload_limit_bytes: limits::PAYLOAD_DEFAULT_BYTES,
            cache_size_bytes: 64 << 20,
            require_uri_roles: false,
            expiry_margin: Duration::from_secs(3600),
            member_retention: Duration::from_secs(7 * 24 * 3600),
            backup: None,
            compact: Policy {
                mode: Mode::FactorOrTimer,
                factor: 0.4,
                size_bytes: 104_857_600,
                timer: Duration::from_secs(3600),
                tombstone_grace: None,
            },
            shutdown_timeout: Duration::from_secs(10),
            audit: AuditConfig { path: None, max_bytes: 1024 * 1024 * 1024 },
            http_address: Some("127.0.0.1:20005".parse().unwrap()),
            log: LogConfig { level: "info".to_owned(), format: LogFormat::Auto },
            http_tls: false,
            console_token: None,
            settings: shown.clone(),
            trace: None,
        };
        assert_eq!(config, expected);
        assert_eq!(shown.len(), SETTINGS.len());
        assert_eq!(source(&shown, "node.address"), "default");
    }

    #[test]
    fn every_setting_of_the_table_is_read() {
        let (_, shown) = resolved(&[], &[], None);
        let mut reader = Reader { shown: &shown, problems: Vec::new(), read: Vec::new() };
        reader.config().unwrap();
        let mut expected: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        expected.sort_unstable();
        reader.read.sort_unstable();
        assert_eq!(reader.read, expected);
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
address = ""
"#;
        let (config, shown) = resolved(&[], &[], Some(file));
        assert_eq!(config.first_start, FirstStart::Yes);
        assert_eq!(config.join, ["b:1", "c:2"]);
        assert_eq!((config.replication_limit, config.payload_limit_bytes), (500, 1024));
        assert_eq!(config.cache_size_bytes, 1 << 30);
        assert_eq!(config.conflict_backoff.max, Duration::from_secs(60));
        assert_eq!(config.http_address, None);
        assert_eq!(config.log.level, "debug");
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
        assert_eq!(resolved(&["--http.address="], &[], None).0.http_address, None);
        assert_eq!(resolved(&["--http.address", ""], &[], None).0.http_address, None);
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
            "brock.toml:3: node.expiry-margin is a number, which it cannot be; write a text with a number and a unit",
            "environment BROCK_NODE_PAHT: there is no such setting; did you mean BROCK_NODE_PATH?",
            "node.certs-dir is required: pass --node.certs-dir or set BROCK_NODE_CERTS_DIR. `brock cert ca`",
            "node.id: the value 'a b' (flag) is not a node id",
            "node.join: the value 'b' (flag) has a peer, 'b', that is not HOST:PORT",
            "node.replication-limit: the value '0' (environment BROCK_NODE_REPLICATION_LIMIT) is out of bounds; write a value from 1 to 10000",
            "node.payload-limit: the value '2MiB' (brock.toml:4) is out of bounds",
            "log.level: the value 'loud' (brock.toml:6) is not a log filter",
        ] {
            assert!(text.contains(part), "{part}\n is not in\n{text}");
        }
        assert_eq!(text.lines().count(), 10, "{text}");
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
    }

    #[test]
    fn a_key_where_a_table_belongs_and_an_unknown_table_are_refused() {
        for (file, key) in [
            ("node = 5", "'node'"),
            ("[nodes]\nid = \"a\"", "'nodes.id'"),
            ("[extra]", "'extra'"),
            ("node.id.x = 1", "node.id is a table"),
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
