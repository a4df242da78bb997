//! Claims about how a configuration comes about.

use super::*;
use crate::node::{problem::Source, settings::SETTINGS};

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
        Some("[node]\nidd = \"a\"\nexpiry-margin = 5\npayload-limit = \"2MiB\"\n[log]\nlevel = \"loud\"\n"),
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
