//! Nodes with an audit log, and reading it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    certs::Certs,
    node::{TestNode, config},
    process::{NODE_ADMIN, run},
};
use brock::config::validate::Config;
use serde_json::Value;
use tempfile::TempDir;

/// A node on disk, with its audit log.
pub struct Audited {
    pub certs: Certs,
    pub node: TestNode,
    pub directory: TempDir,
}

impl Audited {
    pub async fn start() -> Self {
        let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
        let node = start(&certs, directory.path()).await;
        Self { certs, node, directory }
    }

    pub fn log(&self) -> PathBuf {
        log_of(self.directory.path())
    }

    /// Stops the node. Returns all lines of its log, and the directory.
    pub async fn stop(self) -> (Vec<Value>, TempDir) {
        self.node.stop().await;
        (lines(&log_of(self.directory.path())), self.directory)
    }
}

/// The configuration of a node on disk.
pub fn on_disk(certs: &Certs, directory: &Path) -> Config {
    Config { path: Some(directory.join("data")), ..config(certs, "node-1", 0, &[]) }
}

pub async fn start(certs: &Certs, directory: &Path) -> TestNode {
    TestNode::start(certs, on_disk(certs, directory)).await
}

pub fn log_of(directory: &Path) -> PathBuf {
    directory.join("data/audit")
}

/// All complete lines of a log.
pub fn lines(log: &Path) -> Vec<Value> {
    let mut paths: Vec<_> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let text: String = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    // The node may be writing the next line.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of one method.
pub fn of<'a>(lines: &'a [Value], method: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["method"] == method).collect()
}

pub fn kinds(lines: &[&Value]) -> Vec<String> {
    lines.iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect()
}

/// `node-admin audit …` on files, without certificates or nodes: the exit code, stdout and stderr.
pub fn audit(arguments: &[&str]) -> (i32, String, String) {
    let output = run(NODE_ADMIN, &[&["audit"], arguments].concat(), "");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The report of `node-admin audit verify`, which must succeed.
pub fn verify(log: &Path) -> Value {
    let (code, stdout, stderr) = audit(&["verify", log.to_str().unwrap(), "-o", "json"]);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}
