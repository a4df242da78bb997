//! The node's configuration: typed and checked, so that nobody below reads a text twice.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use age::x25519;
use clap::ArgMatches;

pub use super::values::FirstStart;
use super::{
    listen::ListenAddress,
    problem::{ConfigError, Problem, Source},
    settings,
    sources::{self, ConfigFile, ShownSetting},
    values::{self, Kind, ValueError},
};
use crate::{
    backup::{
        objects::{CredentialSettings, Location, LocationError, Secret, Settings},
        retention::Retention,
    },
    ground::{duration, id::NodeId, limits},
    replication::compact::{Mode, Policy},
};

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
#[path = "config_tests.rs"]
mod tests;
