//! `node-admin` as a process.

use std::{path::Path, process::Output};

use super::{
    cluster::Cluster,
    process::{NODE_ADMIN, run},
    random_key,
};
use data_encoding::HEXLOWER;
use serde_json::Value;

/// A record for `record put`.
pub const GRANT: &str = r#"{"encrypted_access_grant":"Z3JhbnQ="}"#;

/// `node-admin` for some nodes, with the certificates of one caller.
pub struct Admin {
    certs_dir: String,
    addresses: String,
}

impl Admin {
    pub fn new(certs_dir: &Path, addresses: &[String]) -> Self {
        Self { certs_dir: certs_dir.display().to_string(), addresses: addresses.join(",") }
    }

    /// For node `i` of a cluster, with the certificates of an operator.
    pub fn of(cluster: &Cluster, i: usize) -> Self {
        Self::new(&cluster.certs.admin(), &[cluster.node(i).address()])
    }

    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        let access = ["--certs-dir", &self.certs_dir, "--node-addresses", &self.addresses];
        let access = if self.addresses.is_empty() { &access[..2] } else { &access };
        // Off this thread: the nodes run in this process.
        tokio::task::block_in_place(|| run(NODE_ADMIN, &[access, arguments].concat(), input))
    }

    /// The JSON on stdout. Asserts exit code 0 and nothing on stderr.
    pub fn json(&self, arguments: &[&str], input: &str) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat(), input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*told), (Some(0), ""), "{arguments:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Asserts this exit code, nothing on stdout, and `part` on stderr.
    pub fn fails(&self, code: i32, part: &str, arguments: &[&str], input: &str) {
        let output = self.run(arguments, input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "a failure printed data");
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}

/// A random key hash, as an argument of `node-admin`.
pub fn hex_key() -> String {
    HEXLOWER.encode(&random_key())
}
