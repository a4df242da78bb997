//! The metrics page of a running node: every metric, and no key.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use crate::harness::{
    brock::{assert_succeeds, brock_with},
    certs::Certs,
    client::{all_within, record},
    eventually,
    http::get,
    process::Launch,
    random_key, within,
};
use brock_core::{
    base::{metrics as names, time::unix_now},
    proto,
};

/// Samples of Prometheus' text format: name, labels as written, value. Panics on any other line.
fn parse_metrics(text: &str) -> Vec<(String, String, f64)> {
    let mut samples = Vec::new();
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            assert!(matches!(words.next(), Some("HELP" | "TYPE")), "{line}");
            assert!(is_name(words.next().unwrap()), "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"))),
            None => (series, ""),
        };
        assert!(is_name(name), "{line}");
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (label, _) =
                label.split_once("=\"").unwrap_or_else(|| panic!("a label without value: {line}"));
            assert!(is_name(label), "{line}");
        }
        samples.push((name.to_owned(), labels.to_owned(), value));
    }
    samples
}

/// The metrics on a page that is in order, all of them known, none with a key in it.
fn check_page(page: &str, keys: &[Vec<u8>]) -> BTreeSet<&'static str> {
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for key in keys {
        let hex = data_encoding::HEXLOWER.encode(&key[..4]);
        assert!(!body.to_lowercase().contains(&hex), "a metric shows a key hash");
    }
    let is_seed = |name: &str| names::SEED.iter().any(|seed| seed.name == name);
    let metric_of = |(name, labels, value): (String, String, f64)| {
        assert!(value.is_finite(), "{name}{{{labels}}} {value}");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let metric = names::ALL.iter().find(|metric| metric.name == name || Some(metric.name) == base);
        metric.unwrap_or_else(|| panic!("{name} is not in the list")).name
    };
    parse_metrics(body).into_iter().filter(|(name, ..)| !is_seed(name)).map(metric_of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_cluster_shows_every_metric_and_never_a_key() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launches = ["n1", "n2"].map(|id| Launch::new(&certs, id, &home.path().join(id)));
    launches[0].join = vec![launches[1].port];
    launches[1].join = vec![launches[0].port];
    let bucket = format!("--node.backup.bucket=file://{}", home.path().join("bucket").display());
    launches[0].more.extend(["--node.backup.enabled=true".to_owned(), bucket]);
    let (first, writer) = launches[0].start(&certs).await;
    let (second, reader) = launches[1].start(&certs).await;
    for process in [&first, &second] {
        process.ready().await;
    }
    let mut keys = Vec::new();
    for i in 0..20 {
        let key = random_key();
        let expires_at_unix = if i % 2 == 0 { 0 } else { unix_now() + 3600 };
        let record = proto::Record { expires_at_unix, ..record(b"g") };
        writer.put_record(&key, record).await.unwrap();
        keys.push(key);
    }
    for key in &keys {
        eventually("it is replicated", || reader.has_local(key)).await;
    }
    // Revoked with a receipt, and compacted once both know.
    writer.invalidate(&keys[1], "leaked", all_within(20_000)).await.unwrap();
    eventually("something is compacted", || async {
        let compact = proto::CompactRequest {};
        let outcome = writer.admin.clone().compact(compact).await.unwrap().into_inner();
        (outcome.entries_removed > 0).then_some(())
    })
    .await;
    let compact = proto::CompactRequest {};
    reader.admin.clone().compact(compact).await.unwrap();
    // Both keep up: by their own word, and by that of a health check.
    for process in [&first, &second] {
        eventually("it keeps up", || async {
            let answer = get(process.http_port, "/healthz?max_lag=1000&max_gap=30s").await?;
            answer.starts_with("HTTP/1.1 200 ").then_some(())
        })
        .await;
        let address = format!("0.0.0.0:{}", process.http_port);
        let environment = [("BROCK_HTTP_ADDRESS", address.as_str())];
        assert_succeeds(&brock_with(&["health", "--max-lag=1000", "--max-gap=30s"], &environment));
    }
    // Missing everywhere, existing already, and denied.
    reader.get(&random_key()).await.unwrap_err();
    reader.put(&keys[0], b"other").await.unwrap_err();
    writer.put(&keys[0], b"other").await.unwrap_err();
    writer.replication.clone().ping(proto::PingRequest {}).await.unwrap_err();
    // Faults too: their counters stand at 0 from the start.
    let mut missing: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    // These nodes do not find their peers by DNS: `joining` sees what counts that.
    missing.retain(|name| !name.starts_with("brock_discovery_"));
    let missing = RefCell::new(missing);
    // What was backed up is read again within a quarter of a minute.
    let all = within(Duration::from_secs(30), || async {
        for process in [&first, &second] {
            let page = get(process.http_port, "/metrics").await.unwrap();
            for name in check_page(&page, &keys) {
                missing.borrow_mut().remove(name);
            }
        }
        missing.borrow().is_empty().then_some(())
    });
    assert!(all.await.is_some(), "never seen: {:?}", missing.borrow());
    let page = eventually("20 records and one revocation are the clock", || async {
        let page = get(first.http_port, "/metrics").await?;
        page.contains("as_badgerauth_current_clock{node_id=\"n1\"} 21").then_some(page)
    })
    .await;
    check_seed_names(&page);
    for series in
        ["brock_backup_interval_seconds 3600\n", "brock_certificate_lifetime_seconds{file=\"ca.crt\"} "]
    {
        assert!(page.contains(series), "{series} is not in {page}");
    }
    for process in [first, second] {
        assert!(process.terminate().0.success());
    }
}

/// The page of a node with one peer has every metric that a dashboard for badgerauth reads, with the
/// values of the metrics that replace them.
fn check_seed_names(page: &str) {
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let samples = parse_metrics(body);
    let value = |name: &str, labels: &str| {
        let sample = samples.iter().find(|sample| sample.0 == name && sample.1.contains(labels));
        sample.unwrap_or_else(|| panic!("{name}{{{labels}}} is not in\n{body}")).2
    };
    for seed in names::SEED {
        value(seed.name, "");
    }
    assert_eq!(value("as_badgerauth_insert", ""), 10.0);
    assert_eq!(value("as_badgerauth_expiring_insert", ""), 10.0);
    assert_eq!(value("as_badgerauth_duplicate_key", "values_equal=\"false\""), 1.0);
    value("as_badgerauth_peer_up", "address=\"127.0.0.1:");
    assert_eq!(
        value("as_badgerauth_backup", "successful=\"true\""),
        value("brock_backup_duration_seconds_count", "")
    );
    assert_eq!(value("as_badgerauth_kv_bytes_lsm", ""), value("brock_storage_bytes", "kind=\"sst\""));
}
