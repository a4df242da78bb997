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
        violations.extend(rules::misplaced_messages(files));
        violations
    });
}

#[test]
fn the_root_of_the_crate_hides_no_layer() {
    check(&["src"], rules::hidden_layers);
}

#[test]
fn folders_do_not_import_each_other() {
    check(&["src"], rules::circles);
}

#[test]
fn every_module_of_the_library_is_a_layer() {
    let modules = |file: &str| rules::modules_of(&fs::read_to_string(root().join(file)).unwrap());
    let layers = |prefix: &str| -> BTreeSet<String> {
        let names = rules::LAYERS.iter().filter_map(|(layer, _)| layer.strip_prefix(prefix));
        names.filter(|name| !name.contains("::") && !name.starts_with("brock_")).map(str::to_owned).collect()
    };
    assert_eq!(modules("src/lib.rs"), layers(""));
    assert_eq!(modules("src/core/lib.rs"), layers("brock_core::"));
}

#[test]
fn every_module_is_in_the_lists_of_its_crate_and_of_the_architecture() {
    check(&["src"], rules::unlisted_modules);
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let files: Vec<_> = files_under(&root().join("src")).into_iter().map(|(file, _)| file).collect();
    let (listed, present) = (rules::folders_of(&architecture), rules::folders(&files));
    for folder in listed.keys().chain(present.keys()) {
        let block = "the block under `## Layers` in ARCHITECTURE.md (left) and src (right) differ";
        assert_eq!(listed.get(folder), present.get(folder), "{folder}: {block}");
    }
}

#[test]
fn every_crate_forbids_unsafe_code() {
    check(&["src", "tests/suite/main.rs"], rules::crates_that_allow_unsafe_code);
}

#[test]
fn texts_name_the_actor() {
    let files: Vec<_> =
        ["src", "proto", "docs", "deploy", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
            .iter()
            .flat_map(|place| files_under(&root().join(place)))
            .collect();
    let found: Vec<_> = files.iter().flat_map(|(file, text)| rules::vague_words(file, text)).collect();
    assert!(found.is_empty(), "{} vague words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    check(&["src", "tests", "proto", "deploy", "build.rs"], rules::long_files);
}

#[test]
fn no_comment_is_too_wide() {
    check(&["src", "tests", "build.rs"], rules::wide_comments);
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
