//! The references that the program writes, and what to do when they differ.

use std::fs;

use super::{api, command_line, read, root};
use crate::harness::process::{BROCK, run};

/// Set, the tests write the references instead of comparing them.
const UPDATE: &str = "UPDATE_REFERENCES";

#[test]
fn the_settings_in_the_reference_are_those_of_the_program() {
    between("docs/reference/configuration.md", "flags", &printed(&["config", "reference"]));
}

#[test]
fn the_metrics_in_the_reference_are_those_of_the_program() {
    between("docs/reference/metrics.md", "metrics", &printed(&["metrics", "reference"]));
}

#[test]
fn the_commands_in_the_reference_are_those_of_the_programs() {
    between("docs/reference/cli.md", "commands", &command_line::reference());
}

#[test]
fn the_calls_in_the_reference_are_those_of_the_protocol() {
    between("docs/reference/api.md", "api", &api::reference());
}

/// What lies between `<!-- NAME:begin -->` and `<!-- NAME:end -->` must be `expected`.
fn between(document: &str, name: &str, expected: &str) {
    let page = read(document);
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let (head, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{document} has no {begin}"));
    let (present, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{document} has no {end}"));
    if std::env::var_os(UPDATE).is_some() {
        let page = format!("{head}{begin}\n{}\n{end}{tail}", expected.trim());
        fs::write(root().join(document), page).unwrap();
        return;
    }
    let mut lines = present.trim().lines().zip(expected.trim().lines());
    let differing = lines.find(|(present, expected)| present != expected);
    assert!(
        present.trim() == expected.trim(),
        "{document} is not what the program says now; `make references` writes it. First difference: {differing:?}"
    );
}

fn printed(arguments: &[&str]) -> String {
    let output = run(BROCK, arguments, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
