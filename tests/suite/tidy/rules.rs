//! The rules that the source is held to. Each takes files as (path from the repository's root,
//! text) and returns the violations, so that the rules can be tested on samples.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, Path, Token};

/// The crates besides the root package: the name in paths, and where the source lives.
const MEMBERS: [(&str, &str); 3] =
    [("brock_core", "src/core"), ("brock_net", "src/net"), ("brock_client", "src/client")];

/// What every layer of `brock` stands on.
const CORE: [&str; 7] = [
    "brock_core::base",
    "brock_core::proto",
    "brock_core::domain",
    "brock_net::task",
    "brock_net::crashsafe",
    "brock_net::panics",
    "brock_net::reading",
];

/// A layer and the layers below it that it may import. A layer of `brock` may also import
/// [`CORE`]; inside a member, the crate is one layer unless it is listed here.
pub(super) const LAYERS: [(&str, &[&str]); 22] = [
    ("brock_core::base", &[]),
    ("brock_core::proto", &[]),
    ("brock_core::domain", &["brock_core::base", "brock_core::proto"]),
    ("brock_net::crashsafe", &[]),
    ("brock_net::task", &["brock_core::base"]),
    ("brock_net::panics", &["brock_core::base"]),
    ("brock_net::reading", &["brock_core::base"]),
    (
        "brock_net",
        &[
            "brock_core::base",
            "brock_net::task",
            "brock_net::crashsafe",
            "brock_net::panics",
            "brock_net::reading",
        ],
    ),
    ("brock_client", &["brock_core::base", "brock_core::proto", "brock_core::domain", "brock_net"]),
    ("runtime", &[]),
    ("store", &["runtime"]),
    ("transfer", &["brock_net", "runtime", "store"]),
    ("audit", &["runtime", "store"]),
    ("membership", &["brock_net", "runtime", "store"]),
    ("replication", &["brock_net", "runtime", "store", "transfer", "membership"]),
    ("maintenance", &["runtime", "store", "membership"]),
    ("backup", &["runtime", "store", "transfer"]),
    ("telemetry", &["brock_net", "runtime"]),
    ("config", &["brock_net", "backup", "maintenance", "telemetry"]),
    (
        "app",
        &["brock_net", "runtime", "store", "transfer", "membership", "replication", "maintenance", "backup"],
    ),
    (
        "api",
        &[
            "brock_net",
            "brock_client",
            "runtime",
            "store",
            "transfer",
            "audit",
            "membership",
            "replication",
            "config",
            "telemetry",
            "backup",
            "app",
        ],
    ),
    (
        "node",
        &[
            "brock_net",
            "runtime",
            "store",
            "transfer",
            "audit",
            "membership",
            "replication",
            "maintenance",
            "backup",
            "config",
            "telemetry",
            "app",
            "api",
        ],
    ),
];

/// Outside crates that have a place: the crates' common name, and who may use them.
const CONFINED: [(&str, &[&str]); 7] = [
    ("rocksdb", &["src/store"]),
    ("backoff", &["src/runtime/retry.rs"]),
    ("aws_sdk_s3", &["src/backup/objects"]),
    ("opentelemetry", &["src/runtime/spans.rs", "src/telemetry/traces.rs"]),
    ("tracing_opentelemetry", &["src/runtime/spans.rs", "src/telemetry"]),
    (
        "tonic",
        &[
            "src/core/proto.rs",
            "src/core/build.rs",
            "src/net",
            "src/client",
            "src/membership",
            "src/replication",
            "src/api",
            "src/node",
            "src/bin",
        ],
    ),
    ("aws_config", &["src/backup/objects"]),
];

/// The layer that speaks in domain types, and its files that may name the generated messages: the reports
/// that nodes send each other.
const DOMAIN_TYPED: (&str, [&str; 7]) = (
    "src/app",
    [
        "src/app/cluster.rs",
        "src/app/health.rs",
        "src/app/missing.rs",
        "src/app/trust.rs",
        "src/app/reports.rs",
        "src/app/status.rs",
        "src/app/trace.rs",
    ],
);

/// The crate that knows no I/O, and what would give it some. Its build script may, and its messages know tonic.
const PURE: (&str, [&str; 3], [&str; 2]) =
    ("src/core", ["tokio", "tonic", "rocksdb"], ["src/core/build.rs", "src/core/proto.rs"]);
/// Modules of the standard library that do I/O.
const STD_IO: [&str; 4] = ["fs", "net", "os", "process"];

/// The one file that may start tasks.
const SPAWNER: &str = "src/net/task.rs";

const LINES_MAX: usize = 500;
/// Of a comment.
const COMMENT_WIDTH: usize = 120;

/// A file's path from the repository's root, and its text.
pub(super) type File<'a> = (&'a str, &'a str);

/// Imports that do not point downwards.
pub(super) fn upward_imports(files: &[File<'_>]) -> Vec<String> {
    each_path(files, |file, path| {
        let layer = layer_of(&module_path_of(file))?;
        let target = layer_of(&absolute(file, &path.segments))?;
        if layer == target || (CORE.contains(&target) && !layer.starts_with("brock_")) {
            return None;
        }
        let (_, below) = LAYERS.iter().find(|(name, _)| *name == layer)?;
        (!below.contains(&target)).then(|| format!("{layer} must not import {}", path.segments.join("::")))
    })
}

/// Generated messages where domain types belong.
pub(super) fn misplaced_messages(files: &[File<'_>]) -> Vec<String> {
    each_path(files, |file, path| {
        let target = layer_of(&absolute(file, &path.segments))?;
        let is_misplaced = is_in(file, &[DOMAIN_TYPED.0]) && !DOMAIN_TYPED.1.contains(&file);
        (is_misplaced && target == "brock_core::proto")
            .then(|| format!("{} has no place here: use domain types", path.segments.join("::")))
    })
}

/// Folders that import each other, directly or through others.
pub(super) fn circles(files: &[File<'_>]) -> Vec<String> {
    let files: Vec<_> =
        files.iter().copied().filter(|(file, _)| is_source(file) && !is_binary(file)).collect();
    let folders: BTreeSet<_> = files.iter().map(|(file, _)| folder_of(file)).collect();
    let mut edges = Edges::new();
    each_product_path(&files, |file, path| {
        let (from, target) = (folder_of(file), absolute(file, &path.segments));
        let to = (1..=target.len()).rev().map(|end| &target[..end]).find(|to| folders.contains(*to))?;
        let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        // Crates cannot form circles, and a folder and one inside it are one room.
        if (1..from.len().min(to.len())).contains(&shared) {
            let targets = edges.entry(from[..=shared].to_vec());
            targets.or_default().entry(to[..=shared].to_vec()).or_insert(format!("{file}:{}", path.line));
        }
        None
    });
    let found = edges.iter().flat_map(|(from, targets)| targets.iter().map(move |(to, at)| (from, to, at)));
    found
        .filter(|(from, to, _)| from < to && reaches(&edges, to, from))
        .map(|(from, to, at)| format!("{at}: {} and {} import each other", from.join("::"), to.join("::")))
        .collect()
}

/// Which folder imports which, and where.
type Edges = BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>>;

fn reaches(edges: &Edges, from: &[String], to: &[String]) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_vec()]);
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at.clone()) {
            open.extend(edges.get(&at).into_iter().flat_map(BTreeMap::keys).cloned());
        }
    }
    false
}

/// Outside crates used where they have no place.
pub(super) fn misplaced_crates(files: &[File<'_>]) -> Vec<String> {
    let mut violations = each_path(files, |file, path| {
        let outside = path.segments.first().filter(|_| path.imported || path.segments.len() > 1)?;
        let confined =
            CONFINED.iter().find(|(name, places)| is_family(outside, name) && !is_in(file, places));
        let does_io = PURE.1.iter().any(|name| is_family(outside, name))
            || outside == "std" && path.segments.get(1).is_some_and(|name| STD_IO.contains(&name.as_str()));
        let impure = is_in(file, &[PURE.0]) && !is_in(file, &PURE.2) && does_io;
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

/// Names at the root of the crate that hide the layer behind them.
pub(super) fn hidden_layers(files: &[File<'_>]) -> Vec<String> {
    let is_hidden = |line: &&str| line.trim_start().starts_with("pub use");
    let root = files.iter().filter(|(file, _)| *file == "src/lib.rs");
    let lines = root.flat_map(|(file, text)| text.lines().filter(is_hidden).map(move |line| (file, line)));
    lines.map(|(file, line)| format!("{file}:1: `{line}` hides which layer is imported")).collect()
}

/// The modules that a crate's root or a `mod.rs` declares, tests left out.
pub(super) fn modules_of(text: &str) -> BTreeSet<String> {
    let tokens = source::without_tests(&source::tokens(text));
    let declares = |window: &[source::Located]| match window {
        [(Token::Identifier(word), _), (Token::Identifier(name), _), (Token::Punctuation(';'), _)]
            if word == "mod" =>
        {
            Some(name.clone())
        }
        _ => None,
    };
    tokens.windows(3).filter_map(declares).collect()
}

/// Modules that the documentation at the head of their parent does not mention.
pub(super) fn unlisted_modules(files: &[File<'_>]) -> Vec<String> {
    let parents = files.iter().filter(|(file, _)| {
        (file.ends_with("/lib.rs") || file.ends_with("/mod.rs")) && is_source(file) && !is_binary(file)
    });
    let unlisted = |(file, text): &File<'_>| {
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let missing = modules_of(text).into_iter().filter(|name| !head.contains(&format!("`{name}`")));
        missing.map(|name| format!("{file}:1: the list of modules lacks `{name}`")).collect::<Vec<_>>()
    };
    parents.flat_map(unlisted).collect()
}

/// Each folder of the library crates, and the modules that it holds as files.
pub(super) fn folders(files: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut folders = BTreeMap::<String, BTreeSet<String>>::new();
    for file in files.iter().filter(|file| is_source(file) && !is_binary(file) && !is_test_file(file)) {
        let Some((folder, name)) = file.rsplit_once('/') else { continue };
        let modules = folders.entry(format!("{folder}/")).or_default();
        if name != "mod.rs" && name != "lib.rs" {
            modules.insert(name.trim_end_matches(".rs").to_owned());
        }
    }
    folders.retain(|_, modules| !modules.is_empty());
    folders
}

/// The same as `architecture` has it in the block under its heading `Layers`: a folder and its modules
/// on a line, further modules indented below.
pub(super) fn folders_of(architecture: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut folders = BTreeMap::<String, BTreeSet<String>>::new();
    let section = architecture.lines().skip_while(|line| *line != "## Layers").skip(1);
    let block = section.skip_while(|line| *line != "```").skip(1).take_while(|line| *line != "```");
    let mut folder = String::new();
    for line in block {
        let mut words = line.split_whitespace();
        if !line.starts_with(' ') {
            words.next().unwrap_or_default().clone_into(&mut folder);
        }
        folders.entry(folder.clone()).or_default().extend(words.map(ToOwned::to_owned));
    }
    folders
}

/// Roots of crates without `#![forbid(unsafe_code)]`.
pub(super) fn crates_that_allow_unsafe_code(files: &[File<'_>]) -> Vec<String> {
    let is_root = |file: &str| {
        file.ends_with("/main.rs")
            || file == "src/lib.rs"
            || MEMBERS.iter().any(|(_, place)| file == format!("{place}/lib.rs"))
    };
    let roots = files.iter().filter(|(file, text)| {
        is_root(file) && !text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]")
    });
    roots.map(|(file, _)| format!("{file}:1: lacks #![forbid(unsafe_code)]")).collect()
}

/// Words that hide who does what. Name the actor instead.
const VAGUE_WORDS: [&str; 6] = ["nobody", "somebody", "whoever", "everybody", "whom", "anew"];

/// The vague words in a text, each with its place.
pub(super) fn vague_words(file: &str, text: &str) -> Vec<String> {
    let in_line = |(number, line): (usize, &str)| {
        let lower = line.to_lowercase();
        let words: Vec<_> = lower.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let vague = words.into_iter().filter_map(|word| VAGUE_WORDS.iter().find(|vague| **vague == word));
        vague.map(|word| format!("{file}:{}: {word}", number + 1)).collect::<Vec<_>>()
    };
    text.lines().enumerate().flat_map(in_line).collect()
}

/// Files too long to be read at once. Nobody reads a dashboard's JSON, or what the chart renders.
pub(super) fn long_files(files: &[File<'_>]) -> Vec<String> {
    let is_read = |file: &&File<'_>| {
        !file.0.ends_with(".json") && !file.0.starts_with("deploy/kubernetes/plain/") && !is_test_file(file.0)
    };
    let counted = files.iter().filter(is_read).map(|(file, text)| (file, product_lines(file, text)));
    counted
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines} lines, at most {LINES_MAX}: split it"))
        .collect()
}

/// Comments that go beyond the width of the page: rustfmt does not wrap them.
pub(super) fn wide_comments(files: &[File<'_>]) -> Vec<String> {
    let is_wide = |line: &str| {
        let text = line.trim_start();
        let is_table = text.trim_start_matches(['/', '!', ' ']).starts_with('|');
        text.starts_with("//") && !is_table && line.chars().count() > COMMENT_WIDTH
    };
    let lines = files.iter().flat_map(|(file, text)| text.lines().zip(1..).map(move |line| (file, line)));
    let wide = lines.filter(|(_, (line, _))| is_wide(line));
    wide.map(|(file, (_, number))| format!("{file}:{number}: a comment of more than {COMMENT_WIDTH} columns"))
        .collect()
}

/// The lines of a file without its tests.
fn product_lines(file: &str, text: &str) -> usize {
    let all = text.lines().count();
    if !is_source(file) {
        return all;
    }
    let tokens = source::tokens(text);
    let lines = |tokens: &[source::Located]| tokens.iter().map(|(_, line)| *line).collect::<BTreeSet<_>>();
    let kept = lines(&source::without_tests(&tokens));
    // A test's own lines, comments and blank lines between its tokens included.
    let tests: Vec<_> = lines(&tokens).difference(&kept).copied().collect();
    let spans = tests.windows(2).filter(|pair| kept.range(pair[0]..pair[1]).next().is_none());
    all - tests.len() - spans.map(|pair| pair[1] - pair[0] - 1).sum::<usize>()
}

/// The entries that `page` names first in the rows of the table under its heading `Where things live`.
pub(super) fn layout_of(page: &str) -> Vec<String> {
    let section = page.lines().skip_while(|line| *line != "## Where things live").skip(1);
    let rows = section.take_while(|line| !line.starts_with("## "));
    rows.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

fn each_path(files: &[File<'_>], check: impl FnMut(&str, &Path) -> Option<String>) -> Vec<String> {
    check_paths(files, |tokens| tokens, check)
}

/// Leaves out what is compiled for tests only.
fn each_product_path(files: &[File<'_>], check: impl FnMut(&str, &Path) -> Option<String>) -> Vec<String> {
    let product: Vec<_> = files.iter().filter(|(file, _)| !is_test_file(file)).copied().collect();
    check_paths(&product, |tokens| source::without_tests(&tokens), check)
}

fn check_paths(
    files: &[File<'_>],
    select: impl Fn(Vec<source::Located>) -> Vec<source::Located>,
    mut check: impl FnMut(&str, &Path) -> Option<String>,
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
    file.starts_with("tests/") || file.ends_with("/tests.rs") || file.contains("/tests/")
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

/// The layer that a path from the root of all crates lies in.
fn layer_of(path: &[String]) -> Option<&'static str> {
    let [first, rest @ ..] = path else { return None };
    let name = if first == "brock" {
        rest.first()?.clone()
    } else {
        let inner = format!("{first}::{}", rest.first().map_or("", String::as_str));
        if LAYERS.iter().any(|(layer, _)| *layer == inner) { inner } else { first.clone() }
    };
    LAYERS.iter().map(|(layer, _)| *layer).find(|layer| *layer == name)
}

/// A path as seen from `file`, with the name of its crate in front.
fn absolute(file: &str, segments: &[String]) -> Vec<String> {
    match segments.split_first() {
        Some((first, rest)) if first == "crate" => [&[crate_of(file).to_owned()], rest].concat(),
        _ => segments.to_vec(),
    }
}

fn crate_of(file: &str) -> &'static str {
    MEMBERS.iter().find(|(_, place)| is_in(file, &[place])).map_or("brock", |(name, _)| name)
}

fn is_binary(file: &str) -> bool {
    file.starts_with("src/bin/") || file.contains("/examples/") || file.ends_with("build.rs")
}

/// The module that a file is, with its crate.
fn module_path_of(file: &str) -> Vec<String> {
    [crate_of(file)].into_iter().chain(module_of(file)).map(ToOwned::to_owned).collect()
}

/// The folder of a file, as a path of modules from the crate.
fn folder_of(file: &str) -> Vec<String> {
    let mut module = module_path_of(file);
    if !file.ends_with("/mod.rs") && module.len() > 1 {
        module.pop();
    }
    module
}

/// The module that a file is, below its crate.
fn module_of(file: &str) -> Vec<&str> {
    let root = MEMBERS.iter().map(|(_, place)| *place).find(|place| is_in(file, &[place])).unwrap_or("src");
    let path = file.strip_prefix(root).and_then(|path| path.strip_suffix(".rs")).unwrap_or_default();
    let path = path.trim_start_matches('/').trim_end_matches("/mod");
    if path == "lib" || path == "main" || path.is_empty() { Vec::new() } else { path.split('/').collect() }
}
