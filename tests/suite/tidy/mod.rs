//! Claims about the repository itself.

mod rules;
mod samples;
mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// All that the top level may hold, besides dotfiles.
const TOP_LEVEL: [&str; 17] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "build.rs",
    "certs-example",
    "deploy",
    "docs",
    "proto",
    "rust-toolchain.toml",
    "src",
    "tests",
];

#[test]
fn layers_import_only_downwards() {
    check(&["src"], |files| {
        let mut violations = rules::upward_imports(files);
        violations.extend(rules::misplaced_crates(files));
        violations
    });
}

#[test]
fn every_module_of_the_library_is_a_layer() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: BTreeSet<_> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ").or(line.strip_prefix("mod "))?.strip_suffix(';'))
        .collect();
    assert_eq!(modules, rules::LAYERS.iter().map(|(layer, _)| *layer).collect());
}

#[test]
fn no_file_is_too_long() {
    check(&["src", "tests", "proto", "deploy", "build.rs"], rules::long_files);
}

#[test]
fn no_bare_spawns() {
    check(&["src"], rules::bare_spawns);
}

#[test]
fn no_unbounded_channels() {
    check(&["src"], rules::unbounded_channels);
}

#[test]
fn the_top_level_is_what_contributing_says() {
    let page = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let described: BTreeSet<_> = rules::layout_of(&page).into_iter().collect();
    let present: BTreeSet<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // `target` is where cargo builds when it is not told otherwise; git ignores it.
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    assert_eq!(
        present, described,
        "left: the top level; right: the table under `## Where things live` in CONTRIBUTING.md"
    );
    let foreign: Vec<_> = present.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str())).collect();
    assert!(foreign.is_empty(), "the top level is fixed, these belong elsewhere: {foreign:?}");
}

/// Applies a rule to the text files under `places` and shows all violations at once.
fn check(places: &[&str], rule: impl Fn(&[rules::File<'_>]) -> Vec<String>) {
    let files: Vec<_> = places.iter().flat_map(|place| files_under(&root().join(place))).collect();
    assert!(!files.is_empty(), "nothing to check under {places:?}");
    let borrowed: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let violations = rule(&borrowed);
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// The files as (path from the repository's root, text); what is not text is left out.
fn files_under(place: &Path) -> Vec<(String, String)> {
    if place.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        return entries.iter().flat_map(|entry| files_under(entry)).collect();
    }
    let name = place.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    String::from_utf8(fs::read(place).unwrap()).map(|text| vec![(name, text)]).unwrap_or_default()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
