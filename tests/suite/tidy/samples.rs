//! The rules can fail, and fail on nothing else: small samples of what they find and let pass.

use super::rules;

/// Checks which samples a rule objects to, each a file of its own.
fn check(rule: impl Fn(&[rules::File<'_>]) -> Vec<String>, samples: &[(&str, &str, bool)]) {
    for (file, text, objects) in samples {
        let violations = rule(&[(file, text)]);
        assert_eq!(!violations.is_empty(), *objects, "{file}: {text}\n{violations:?}");
    }
}

#[test]
fn upward_imports_are_found_in_every_form() {
    check(
        rules::upward_imports,
        &[
            ("src/store/mod.rs", "use crate::api::kv;", true),
            ("src/store/mod.rs", "use crate::{runtime::task, app};", true),
            ("src/store/mod.rs", "use {std::fs, crate::{runtime::{self}, node as n}};", true),
            ("src/store/mod.rs", "use super::audit;", true),
            ("src/store/writer.rs", "use super::super::audit::log;", true),
            ("src/store/writer.rs", "fn f() { crate::node::boot() }", true),
            ("src/store/writer.rs", "fn f(x: &'static str) { let c = '\"'; crate::node::boot() }", true),
            ("src/store/writer.rs", "#[cfg(test)] mod tests { use super::super::super::node; }", true),
            ("src/store/writer.rs", "mod inner { fn f() {} }\nuse super::super::node;", true),
            ("src/core/base/id.rs", "use crate::domain::record;", true),
            ("src/core/proto.rs", "use crate::base::id;", true),
            ("src/net/tls/mod.rs", "use brock_core::proto::Record;", true),
            ("src/core/domain/mod.rs", "pub use brock::store::Store;", true),
        ],
    );
}

#[test]
fn downward_imports_pass_and_comments_and_strings_are_no_imports() {
    check(
        rules::upward_imports,
        &[
            (
                "src/store/mod.rs",
                "use brock_core::{domain::record, base::id}; use crate::{runtime::task, store::schema};",
                false,
            ),
            ("src/store/mod.rs", "// use crate::node;\n/* crate::node::x /* nested */ crate::node */", false),
            ("src/store/mod.rs", "//! See [`crate::node::Node`].\nfn f() {}", false),
            (
                "src/store/mod.rs",
                r##"const A: &str = "a \" crate::node::b"; const B: &str = r#"x" crate::node::y"#;"##,
                false,
            ),
            ("src/store/mod.rs", "const A: &[u8] = b\"crate::node::b\"; const Q: char = '\"'; // \"", false),
            ("src/core/base/id.rs", "mod tests { use super::super::vector; use super::*; }", false),
            ("src/core/base/id.rs", "use super::vector; use std::node::x;", false),
            (
                "src/node/mod.rs",
                "use crate::{api, app, replication, store, runtime}; use brock_net::tls; use brock_core::proto;",
                false,
            ),
            ("src/lib.rs", "pub mod node; use crate::node::Node;", false),
            ("src/bin/node-admin/main.rs", "use brock::config::validate; use crate::output;", false),
        ],
    );
}

#[test]
fn outside_crates_are_found_out_of_place_only() {
    check(
        rules::misplaced_crates,
        &[
            ("src/node/mod.rs", "use rocksdb::DB;", true),
            ("src/node/mod.rs", "extern crate rocksdb;", true),
            ("src/replication/puller.rs", "fn f() { backoff::future::retry() }", true),
            ("src/replication/puller.rs", "use backoff as b;", true),
            ("src/store/mod.rs", "use tonic::Status;", true),
            ("src/store/mod.rs", "use tonic_health::server;", true),
            ("src/core/domain/record.rs", "#[cfg(test)] mod tests { #[tokio::test] async fn t() {} }", true),
            ("src/core/domain/record.rs", "use tokio_util::sync::CancellationToken;", true),
            ("src/core/domain/record.rs", "use std::{fmt, fs::File};", true),
            ("src/core/domain/record.rs", "fn f() { std::net::TcpStream::connect(x) }", true),
            ("src/core/domain/record.rs", "use std::{fmt, collections::BTreeMap};", false),
            ("src/core/build.rs", "use std::fs;", false),
            ("src/node/mod.rs", "use tracing_opentelemetry::OpenTelemetryLayer;", true),
            ("src/backup/mod.rs", "use aws_sdk_s3::Client;", true),
            ("src/backup/objects/s3.rs", "use aws_sdk_s3::Client;", false),
            ("src/store/mod.rs", "use rocksdb::{DB, Options};", false),
            ("src/runtime/retry.rs", "use backoff::ExponentialBackoff;", false),
            ("src/core/proto.rs", "tonic::include_proto!(\"brock.v1\");", false),
            ("src/api/grpc/kv.rs", "use tonic::{Request, Status};", false),
            ("src/bin/node-admin/main.rs", "use tonic::transport::Channel;", false),
            ("src/replication/puller.rs", "let delay = backoff.next_delay(); // backoff::x, rocksdb", false),
            ("src/core/base/metrics.rs", "const HELP: &str = \"what rocksdb::DB says\";", false),
            ("src/store/mod.rs", "use tokio::sync::oneshot;", false),
        ],
    );
}

#[test]
fn generated_messages_are_found_where_domain_types_belong() {
    check(
        rules::misplaced_messages,
        &[
            ("src/app/records.rs", "use brock_core::{base::limits, proto};", true),
            ("src/app/tail.rs", "fn f() -> brock_core::proto::LogEntry {}", true),
            ("src/app/records.rs", "use brock_core::base::limits;", false),
            ("src/app/status.rs", "use brock_core::proto;", false),
            ("src/api/grpc/convert.rs", "use brock_core::proto;", false),
        ],
    );
}

#[test]
fn bare_spawns_are_found_outside_tests() {
    check(
        rules::bare_spawns,
        &[
            ("src/node/mod.rs", "fn f() { tokio::spawn(async {}); }", true),
            ("src/node/mod.rs", "use tokio::{sync::mpsc, task::spawn_local};", true),
            ("src/node/mod.rs", "use tokio::task; fn f() { task::spawn(async {}); }", true),
            ("src/node/mod.rs", "#[cfg(test)] use a::{b}; fn f() { tokio::spawn(async {}); }", true),
            (
                "src/node/mod.rs",
                "#[cfg(test)] mod tests { fn g() {} } fn f() { ::tokio::spawn(async {}); }",
                true,
            ),
            ("src/node/mod.rs", "fn f(tasks: &Tasks) { tasks.spawn(\"x\", work); }", false),
            ("src/node/mod.rs", "fn f() { tokio::task::spawn_blocking(g); } // tokio::spawn", false),
            ("src/node/mod.rs", "#[cfg(test)]\nmod tests { fn f() { tokio::spawn(async {}); } }", false),
            ("src/node/mod.rs", "#[cfg(test)]\n#[allow(x)]\nfn f() { tokio::spawn(async {}); }", false),
            ("src/node/tests.rs", "fn f() { tokio::spawn(async {}); }", false),
            ("src/net/task.rs", "fn f() { tokio::spawn(async {}); }", false),
        ],
    );
}

#[test]
fn unbounded_channels_are_found() {
    check(
        rules::unbounded_channels,
        &[
            ("src/node/mod.rs", "let (a, b) = tokio::sync::mpsc::unbounded_channel();", true),
            ("src/node/mod.rs", "use tokio::sync::mpsc::{Receiver, UnboundedSender};", true),
            ("src/node/mod.rs", "let (a, b) = futures::channel::mpsc::unbounded::<u8>();", true),
            ("src/node/mod.rs", "let (a, b) = std::sync::mpsc::channel();", true),
            ("src/node/mod.rs", "let (a, b) = mpsc::channel::<Vec<u8>>();", true),
            ("src/node/mod.rs", "use std::sync::mpsc::channel;", true),
            ("src/node/mod.rs", "let (a, b) = mpsc::channel(16);", false),
            ("src/node/mod.rs", "let (a, b) = mpsc::channel::<Vec<u8>>(limits::QUEUE);", false),
            (
                "src/node/mod.rs",
                "let (a, b) = oneshot::channel(); let (c, d) = mpsc::sync_channel(1);",
                false,
            ),
            ("src/node/mod.rs", "#[cfg(test)] mod tests { use std::sync::mpsc::channel; }", false),
        ],
    );
}

#[test]
fn circles_between_folders_are_found_and_nothing_else_is() {
    let circle = [
        ("src/store/mod.rs", "use crate::runtime::retry;"),
        ("src/runtime/retry.rs", "fn f() { crate::store::open() }"),
    ];
    assert_eq!(
        rules::circles(&circle),
        ["src/runtime/retry.rs:1: brock::runtime and brock::store import each other"]
    );
    let three = [
        ("src/net/tls/accept.rs", "use crate::pki::issue;"),
        ("src/net/pki/issue.rs", "use super::super::dial::direct;"),
        ("src/net/dial/direct.rs", "use crate::tls::roles;"),
    ];
    assert_eq!(
        rules::circles(&three),
        ["src/net/dial/direct.rs:1: brock_net::dial and brock_net::tls import each other"]
    );
    let none = [
        ("src/store/mod.rs", "use crate::runtime::retry; use self::read::records;"),
        ("src/store/read/records.rs", "use super::super::writer; use brock_core::base::id;"),
        ("src/runtime/retry.rs", "#[cfg(test)] mod tests { use crate::store::open; }"),
        ("src/core/base/id.rs", "use super::vector;"),
    ];
    assert_eq!(rules::circles(&none), Vec::<String>::new());
}

#[test]
fn a_layer_that_the_root_hides_is_found() {
    check(
        rules::hidden_layers,
        &[
            ("src/lib.rs", "pub mod app;\npub use app::records;\n", true),
            ("src/lib.rs", "pub mod app;\n", false),
            ("src/store/mod.rs", "pub use change::NewRecord;\n", false),
        ],
    );
}

#[test]
fn a_wide_comment_is_found_and_a_table_is_none() {
    let (fits, wide) = (format!("// {}\n", "x".repeat(117)), format!("    /// {}\n", "x".repeat(113)));
    let table = format!("//! | {} |\n", "x".repeat(120));
    check(
        rules::wide_comments,
        &[("src/a.rs", &fits, false), ("src/a.rs", &wide, true), ("src/a.rs", &table, false)],
    );
}

#[test]
fn a_long_file_is_found() {
    let (short, long) = ("x\n".repeat(500), "x\n".repeat(501));
    check(
        rules::long_files,
        &[
            ("src/a.rs", &short, false),
            ("src/a.rs", &long, true),
            ("deploy/a.sh", &long, true),
            ("tests/suite/a.rs", &long, false),
        ],
    );
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn g() {}\n\n".repeat(300));
    check(rules::long_files, &[("src/a.rs", &tests, false)]);
}

#[test]
fn a_crate_that_allows_unsafe_code_is_found() {
    let forbids = "//! A crate.\n\n#![forbid(unsafe_code)]\n";
    check(
        rules::crates_that_allow_unsafe_code,
        &[
            ("src/lib.rs", forbids, false),
            ("src/lib.rs", "//! A crate.\n// #![forbid(unsafe_code)]\n", true),
            ("src/net/lib.rs", "//! A crate.\n", true),
            ("src/bin/brock/main.rs", "fn main() {}", true),
            ("tests/suite/main.rs", "mod api;", true),
            ("src/store/mod.rs", "//! Not a crate's root.\n", false),
        ],
    );
}

#[test]
fn a_module_that_its_list_lacks_is_found() {
    check(
        rules::unlisted_modules,
        &[
            ("src/store/mod.rs", "//! - `a`: one; `b`: two.\nmod a;\npub mod b;\n", false),
            ("src/store/mod.rs", "//! - `a`: one.\nmod a;\npub mod b;\n", true),
            ("src/net/lib.rs", "//! A list.\npub mod dial; // `dial`\n", true),
            ("src/store/writer.rs", "//! Not a parent.\n", false),
        ],
    );
    let page =
        "# A\n```\nsrc/x/ y\n```\n## Layers\n```\nsrc/a/   one\n         two\nsrc/b/   three\n```\nmore\n";
    let mut files =
        ["src/a/mod.rs", "src/a/one.rs", "src/a/two.rs", "src/b/three.rs"].map(str::to_owned).to_vec();
    assert_eq!(rules::folders_of(page), rules::folders(&files));
    files.push("src/b/four.rs".to_owned());
    assert_ne!(rules::folders_of(page), rules::folders(&files));
}

#[test]
fn vague_words_are_found_as_words() {
    let found = rules::vague_words("README.md", "Whoever asks,\nnobody_knows; for whom, and anewton.\n");
    assert_eq!(found, ["README.md:1: whoever", "README.md:2: whom"]);
}

#[test]
fn violations_name_the_file_and_the_line() {
    let text = "/*\n*/ const A: &str = \"\n\";\nuse crate::{\n    runtime::task,\n    node::boot,\n};\n";
    let violations = rules::upward_imports(&[("src/store/mod.rs", text)]);
    assert_eq!(violations, ["src/store/mod.rs:6: store must not import crate::node::boot"]);
}

#[test]
fn the_layout_is_read_from_its_own_table() {
    let page = "# B\n| `no` | x |\n## Where things live\n| path | what |\n|---|---|\n| `src` | `code` |\n## More\n| `no` | |\n";
    assert_eq!(rules::layout_of(page), ["src"]);
}
