//! The rules that the source is held to. Each takes files as (path from the repository's root,
//! text) and returns the violations, so that the rules can be tested on samples.

use super::source::{self, Path, Token};

/// A layer and the layers below it that it may import.
pub(super) const LAYERS: [(&str, &[&str]); 10] = [
    ("ground", &[]),
    ("proto", &[]),
    ("domain", &["ground", "proto"]),
    ("store", &["ground", "proto", "domain"]),
    ("audit", &["ground", "store"]),
    ("tls", &["ground"]),
    ("replication", &["ground", "proto", "domain", "store", "tls"]),
    ("backup", &["ground", "proto", "domain", "store", "replication"]),
    ("service", &["ground", "proto", "domain", "store", "audit", "tls", "replication", "backup"]),
    ("node", &["ground", "proto", "domain", "store", "audit", "tls", "replication", "backup", "service"]),
];

/// Outside crates that have a place: the crates' common name, and who may use them.
const CONFINED: [(&str, &[&str]); 5] = [
    ("rocksdb", &["src/store"]),
    ("backoff", &["src/ground/retry.rs"]),
    ("aws_sdk_s3", &["src/backup/objects"]),
    ("opentelemetry", &["src/ground/spans.rs", "src/node/tracing_export.rs"]),
    (
        "tonic",
        &["src/proto", "src/tls", "src/replication", "src/service", "src/node", "src/main.rs", "src/bin"],
    ),
];

/// The layer that knows no I/O, and what would give it some.
const PURE: (&str, [&str; 3]) = ("domain", ["tokio", "tonic", "rocksdb"]);

/// The one file that may start tasks.
const SPAWNER: &str = "src/ground/task.rs";

const LINES_MAX: usize = 500;

/// A file's path from the repository's root, and its text.
pub(super) type File<'a> = (&'a str, &'a str);

/// Imports that do not point downwards.
pub(super) fn upward_imports(files: &[File<'_>]) -> Vec<String> {
    each_path(files, |file, path| {
        let layer = layer_of(file)?;
        let [root, target, ..] = path.segments.as_slice() else { return None };
        if root != "crate" || target == layer {
            return None;
        }
        let (_, below) = LAYERS.iter().find(|(name, _)| *name == layer)?;
        (!below.contains(&target.as_str()))
            .then(|| format!("{layer} must not import {}", path.segments.join("::")))
    })
}

/// Outside crates used where they have no place.
pub(super) fn misplaced_crates(files: &[File<'_>]) -> Vec<String> {
    let mut violations = each_path(files, |file, path| {
        let outside = path.segments.first().filter(|_| path.imported || path.segments.len() > 1)?;
        let confined =
            CONFINED.iter().find(|(name, places)| is_family(outside, name) && !is_in(file, places));
        let impure = layer_of(file) == Some(PURE.0) && PURE.1.iter().any(|name| is_family(outside, name));
        (confined.is_some() || impure).then(|| format!("{} has no place here", path.segments.join("::")))
    });
    // RocksDB is not even mentioned.
    for (file, text) in files.iter().filter(|(file, _)| is_source(file) && !is_in(file, &["src/store"])) {
        for (token, line) in source::tokens(text) {
            if token == Token::Identifier("rocksdb".to_owned()) {
                violations.push(format!("{file}:{line}: only src/store mentions rocksdb"));
            }
        }
    }
    violations
}

/// Tasks without a name and an owner. Tests may.
pub(super) fn bare_spawns(files: &[File<'_>]) -> Vec<String> {
    each_product_path(files, |file, path| {
        let [.., last] = path.segments.as_slice() else { return None };
        let spawns = path.segments[0] == "tokio" && last.starts_with("spawn")
            || matches!(path.segments.as_slice(), [task, spawn] if task == "task" && spawn.starts_with("spawn"));
        // Blocking work is awaited where it is started.
        (spawns && last != "spawn_blocking" && file != SPAWNER)
            .then(|| format!("{} outside {SPAWNER}: use Tasks::spawn", path.segments.join("::")))
    })
}

/// Channels that a slow reader would let grow without end.
pub(super) fn unbounded_channels(files: &[File<'_>]) -> Vec<String> {
    each_product_path(files, |_, path| {
        let last = path.segments.last()?;
        let named = last.to_ascii_lowercase().starts_with("unbounded");
        // The standard library's `mpsc::channel()` takes no bound, tokio's does.
        let of_std = path.segments.join("::").ends_with("mpsc::channel")
            && (path.called_bare || path.segments[0] == "std" && path.imported);
        (named || of_std).then(|| format!("{} has no bound", path.segments.join("::")))
    })
}

/// Files too long to be read at once. Nobody reads a dashboard's JSON, or what the chart renders.
pub(super) fn long_files(files: &[File<'_>]) -> Vec<String> {
    let is_read =
        |file: &&File<'_>| !file.0.ends_with(".json") && !file.0.starts_with("deploy/kubernetes/plain/");
    let counted = files.iter().filter(is_read).map(|(file, text)| (file, text.lines().count()));
    counted
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines} lines, at most {LINES_MAX}: split it"))
        .collect()
}

/// The entries that `page` names first in the rows of the table under its heading `Where things live`.
pub(super) fn layout_of(page: &str) -> Vec<String> {
    let section = page.lines().skip_while(|line| *line != "## Where things live").skip(1);
    let rows = section.take_while(|line| !line.starts_with("## "));
    rows.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

fn each_path(files: &[File<'_>], check: impl Fn(&str, &Path) -> Option<String>) -> Vec<String> {
    check_paths(files, |tokens| tokens, check)
}

/// Leaves out what is compiled for tests only.
fn each_product_path(files: &[File<'_>], check: impl Fn(&str, &Path) -> Option<String>) -> Vec<String> {
    let product: Vec<_> = files.iter().filter(|(file, _)| !is_test_file(file)).copied().collect();
    check_paths(&product, |tokens| source::without_tests(&tokens), check)
}

fn check_paths(
    files: &[File<'_>],
    select: impl Fn(Vec<source::Located>) -> Vec<source::Located>,
    check: impl Fn(&str, &Path) -> Option<String>,
) -> Vec<String> {
    let mut violations = Vec::new();
    for (file, text) in files.iter().filter(|(file, _)| is_source(file)) {
        for path in source::paths(&select(source::tokens(text)), &module_of(file)) {
            violations.extend(check(file, &path).map(|problem| format!("{file}:{}: {problem}", path.line)));
        }
    }
    violations
}

fn is_source(file: &str) -> bool {
    file.starts_with("src/") && file.ends_with(".rs")
}

fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// Whether `file` is one of `places` or below it; `src/store` is both a directory and `src/store.rs`.
fn is_in(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    })
}

/// `tonic` stands for `tonic_health` too.
fn is_family(crate_name: &str, family: &str) -> bool {
    crate_name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The layer of a file of the library; none for its root and the binaries.
fn layer_of(file: &str) -> Option<&str> {
    let name = file.strip_prefix("src/")?.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    LAYERS.iter().map(|(layer, _)| *layer).find(|layer| *layer == name)
}

/// The module that a file is, below `crate`.
fn module_of(file: &str) -> Vec<&str> {
    let path = file.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")).unwrap_or_default();
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" || path == "main" { Vec::new() } else { path.split('/').collect() }
}
