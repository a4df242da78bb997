//! Claims about the lines that are accepted.

use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn good_lines_are_read_and_nonsense_is_refused() {
    let hash = "ab".repeat(32);
    for (line, good) in [
        (format!("record show {hash} --local"), true),
        (format!("--certs-dir d --node-addresses a:1,b:2 -o json record put {hash} --file -"), true),
        ("status --certs-dir d --node-addresses a:1 --timeout 100ms".to_owned(), true),
        ("bench put --clients 256 --duration 2s --size 512 --batch 100".to_owned(), true),
        ("bench get --session --depth 16 --keys 5 --rate 1000".to_owned(), true),
        ("bench mixed --reads 0.5".to_owned(), true),
        ("bench visible --rate 1000 --readers a:1,b:2".to_owned(), true),
        (format!("record put {hash} --wait all"), true),
        (format!("record invalidate {hash} leaked --ahead --wait 2 --timeout 30s"), true),
        (format!("record unpublish {hash} --wait 0"), true),
        (format!("record delete {hash} --wait all"), true),
        (format!("record trace {hash} -o json"), true),
        ("verify --timeout 5m".to_owned(), true),
        ("repair".to_owned(), true),
        ("members".to_owned(), true),
        ("member retire node-3 --yes".to_owned(), true),
        ("member retire node3.example.com:20004".to_owned(), true),
        ("compact".to_owned(), true),
        ("conflicts list".to_owned(), true),
        (format!("conflicts ack {hash}"), true),
        ("conflicts ack --all".to_owned(), true),
        ("record show -".to_owned(), true),
        ("record show --key-file f".to_owned(), true),
        ("record invalidate --key-file f leaked".to_owned(), true),
        ("record put - --file f".to_owned(), true),
        (format!("record delete {hash} --yes"), true),
        ("conflicts ack".to_owned(), false),
        (format!("conflicts ack {hash} --all"), false),
        ("record show".to_owned(), false),
        (format!("record show {hash} --key-file f"), false),
        (format!("record invalidate --key-file f {hash} leaked"), false),
        ("quarantine list".to_owned(), true),
        ("quarantine show node-1/9f3c2a10:42".to_owned(), true),
        ("quarantine retry node-1/9f3c2a10:42".to_owned(), true),
        ("quarantine drop --all --yes".to_owned(), true),
        ("bench revoke --readers a:1,b:2".to_owned(), true),
        ("bench revoke --readers a:1 --keys 10 --rate 5".to_owned(), true),
        ("audit head".to_owned(), true),
        (format!("audit list log --since 24h --who ops --method Delete --denied --key {hash}"), true),
        ("audit list log --since 2026-05-01T12:00:00Z --until 1h -o json".to_owned(), true),
        (format!("audit verify log other/audit-00000001.jsonl --head 7:{hash}"), true),
        ("audit list log --method acknowledgeconflicts".to_owned(), true),
        ("audit list log --method unknown".to_owned(), true),
        ("audit list log --method Foo".to_owned(), false),
        ("audit list log --key-file f".to_owned(), true),
        (format!("audit list log --key {hash} --key-file f"), false),
        ("audit list".to_owned(), false),
        ("audit list log --since yesterday".to_owned(), false),
        ("audit verify log --head 7".to_owned(), false),
        ("status --cluster -o yaml --color never".to_owned(), true),
        ("lag --watch".to_owned(), true),
        ("lag --watch=5s --context prod".to_owned(), true),
        ("peers --matrix".to_owned(), true),
        ("top --once --interval 1s".to_owned(), true),
        ("log tail -n 0 -f -o json".to_owned(), true),
        ("doctor --config f --node.path d --node.address a:1 --node.certs-dir d".to_owned(), true),
        ("debug bundle -f x.tar --http.address a:1,b:2".to_owned(), true),
        ("context set prod --node-addresses a:1 --certs-dir d".to_owned(), true),
        ("completion elvish".to_owned(), true),
        ("man --dir d".to_owned(), true),
        ("lag --watch 5s".to_owned(), true),
        ("lag --watch soon".to_owned(), false),
        ("log tail -n 10001".to_owned(), false),
        ("debug bundle".to_owned(), false),
        ("context set a/b --certs-dir d".to_owned(), false),
        ("completion dos".to_owned(), false),
        ("status -o toml".to_owned(), false),
        (format!("record invalidate {hash}"), false),
        (format!("record delete {hash} --wait most"), false),
        (format!("record show {hash} --wait 1"), false),
        ("member retire a/b".to_owned(), false),
        ("member retire node3:no".to_owned(), false),
        ("quarantine show node-1:42".to_owned(), false),
        ("quarantine retry".to_owned(), false),
        ("quarantine drop node-1/9f3c2a10:42 --all".to_owned(), false),
        ("quarantine retry --all --yes".to_owned(), false),
        ("bench revoke".to_owned(), false),
        ("bench revoke --readers a:1 --count 0".to_owned(), false),
        ("bench put --batch 1001".to_owned(), false),
        ("bench put --batch 10 --session".to_owned(), false),
        ("bench put --depth 10".to_owned(), false),
        ("bench mixed --reads 1.5".to_owned(), false),
        ("bench put --duration 0s".to_owned(), false),
        ("bench visible".to_owned(), false),
        ("status --timeout soon".to_owned(), false),
    ] {
        let words = std::iter::once("node-admin").chain(line.split(' '));
        assert_eq!(Cli::try_parse_from(words).is_ok(), good, "{line}");
    }
}

#[test]
fn the_argument_that_is_missing_is_named() {
    let missing = |line: &str| {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        clarified(error).to_string().lines().nth(1).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(missing("node-admin record invalidate key"), "<REASON>");
    assert_eq!(missing("node-admin record invalidate --key-file f"), "<REASON>");
    assert_eq!(missing("node-admin record show"), "<KEY>");
}

#[test]
fn whether_a_time_out_was_given_can_be_told() {
    let timeout = |line: &str| {
        let words = std::iter::once("node-admin").chain(line.split(' '));
        Cli::try_parse_from(words).unwrap().global.timeout
    };
    assert_eq!(timeout("status"), None);
    assert_eq!(timeout("status --timeout 5s"), Some(Duration::from_secs(5)));
}

#[test]
fn a_wait_is_a_number_or_all() {
    assert_eq!(values::wait("0"), Ok(Wait::Nodes(0)));
    assert_eq!(values::wait("2"), Ok(Wait::Nodes(2)));
    assert_eq!(values::wait("all"), Ok(Wait::All));
    for text in ["", "-1", "ALL", "1.5", "4294967296"] {
        assert!(values::wait(text).is_err(), "{text:?}");
    }
}
