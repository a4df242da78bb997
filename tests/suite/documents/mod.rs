//! Claims about the documents: links lead somewhere, references match the program, commands run.

mod api;
mod command_line;
mod commands;
mod links;
mod references;
mod script;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every Markdown file that people read, by its path from the repository's root.
fn documents() -> Vec<String> {
    let mut found: Vec<String> =
        ["", "docs", "docs/guides", "docs/reference", "docs/explanation", "certs-example"]
            .iter()
            .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned())
            .collect();
    found.sort();
    assert!(found.len() > 20, "documents are missing: {found:?}");
    found
}

fn read(document: &str) -> String {
    let path = root().join(document);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A path with `.` and `..` resolved by name alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                assert!(normal.pop(), "{} leaves the repository", path.display());
            }
            other => normal.push(other),
        }
    }
    normal
}
