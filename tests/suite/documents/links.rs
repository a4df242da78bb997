//! Links between documents, and mentions of documents in code, lead to something that exists.

use std::{collections::HashMap, fs, path::Path};

use super::{documents, normal, read, root};

#[test]
fn links_between_documents_lead_somewhere() {
    let broken: Vec<String> = documents().iter().flat_map(|document| broken_links(document)).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn documents_that_code_mentions_exist() {
    let mut broken = Vec::new();
    for place in ["src", "tests", "deploy", "proto", "Makefile", "Cargo.toml", "build.rs"] {
        each_text(&root().join(place), &mut |file, text| {
            for (number, line) in text.lines().enumerate() {
                for target in mentions(line) {
                    if let Some(problem) = problem_with(&target, "") {
                        broken.push(format!("{}:{}: {problem}", file.display(), number + 1));
                    }
                }
            }
        });
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_document_can_be_found_from_the_index() {
    let index = read("docs/README.md");
    let missing: Vec<_> = documents()
        .into_iter()
        .filter_map(|document| document.strip_prefix("docs/").map(str::to_owned))
        .filter(|document| document != "README.md" && !index.contains(&format!("]({document}")))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not link to {missing:?}");
}

#[test]
fn headings_become_the_anchors_that_forges_make() {
    let page = "# A `b` c!\n## A b c\n```\n# no\n```\n## Don't: x-y_z (1)\n";
    assert_eq!(anchors(page), ["a-b-c", "a-b-c-1", "dont-x-y_z-1"]);
    let text = "[a](b.md) `[no](c.md)` [d](e.md#f) ![g](h.png)\n```\n[no](i.md)\n```\n[j](https://k)";
    assert_eq!(targets(text), ["b.md", "e.md#f", "h.png", "https://k"]);
    assert_eq!(mentions("see docs/a/b-c.md#d-e, docs/README.md."), ["docs/a/b-c.md#d-e", "docs/README.md"]);
}

fn broken_links(document: &str) -> Vec<String> {
    let page = read(document);
    let local =
        targets(&page).into_iter().filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    local.filter_map(|target| Some(format!("{document}: {}", problem_with(&target, document)?))).collect()
}

/// What is wrong with a link in `from`; a mention outside of documents is relative to the root.
fn problem_with(target: &str, from: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let path = if file.is_empty() { from.into() } else { normal(&folder.join(file)) };
    if !root().join(&path).exists() {
        return Some(format!("{target}: there is no {}", path.display()));
    }
    let anchor = anchor?;
    let known = anchors(&read(path.to_str()?));
    (!known.contains(&anchor.to_owned())).then(|| format!("{target}: {} has no such heading", path.display()))
}

/// The targets of the links of a page, outside of code.
fn targets(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        let outside: String = line.split('`').step_by(2).collect();
        let mut rest = outside.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            found.push(target.to_owned());
            rest = after;
        }
    }
    found
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &str) -> Vec<String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    let headings =
        prose(page).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
            let seen = times.entry(anchor.clone()).or_default();
            *seen += 1;
            if *seen == 1 { anchor } else { format!("{anchor}-{}", *seen - 1) }
        })
        .collect()
}

/// Lines outside of fenced blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What a line of code or configuration names as `docs/….md`, with an anchor if there is one.
fn mentions(line: &str) -> Vec<String> {
    let starts = line.match_indices("docs/").map(|(start, _)| start);
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-#".contains(c);
    starts
        .filter(|start| !line[..*start].ends_with(|c: char| c.is_ascii_alphanumeric() || "/.".contains(c)))
        .filter_map(|start| {
            let text = line[start..].split(|c| !is_part(c)).next()?;
            let end = text.find(".md")? + 3;
            let rest = &text[end..];
            let anchor = if rest.starts_with('#') { rest.trim_end_matches(['.', '/']) } else { "" };
            Some(format!("{}{anchor}", &text[..end]))
        })
        .collect()
}

fn each_text(place: &Path, with: &mut impl FnMut(&Path, &str)) {
    if place.is_dir() {
        for entry in fs::read_dir(place).unwrap() {
            each_text(&entry.unwrap().path(), with);
        }
    } else if place.ends_with("documents/links.rs") {
        // Its samples are not mentions.
    } else if let Ok(text) = fs::read_to_string(place) {
        with(place.strip_prefix(root()).unwrap(), &text);
    }
}
