//! The directories of a development cluster: certificates for each role, data for each node.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use brock_net::pki::{
    issue::{LeafKind, MakeCa, MakeLeaf, TRUST_DOMAIN_DEFAULT, make_ca, make_leaf},
    key::Algorithm,
};

/// Ten years: a directory that is used again should not expire. The CA must outlive the certificates that
/// it signs later, for added nodes.
const LEAF_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
const CA_LIFETIME: Duration = Duration::from_secs(5 * 3650 * 24 * 3600);
/// The file that says that a directory is a development cluster's.
const MARKER: &str = "brock-dev";
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub(super) struct Layout {
    root: PathBuf,
    names: Vec<String>,
}

impl Layout {
    pub(super) fn new(root: PathBuf, nodes: u16) -> Self {
        Self { root, names: (1..=nodes).map(|number| format!("node-{number}")).collect() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn data_dir(&self, name: &str) -> PathBuf {
        self.root.join(name).join("data")
    }

    pub(super) fn node_certs_dir(&self, name: &str) -> PathBuf {
        self.root.join(name).join("certs")
    }

    pub(super) fn client_certs_dir(&self) -> PathBuf {
        self.root.join("client")
    }

    pub(super) fn admin_certs_dir(&self) -> PathBuf {
        self.root.join("admin")
    }

    /// The file from which scripts learn the addresses of the cluster.
    pub(super) fn env_file(&self) -> PathBuf {
        self.root.join("cluster.env")
    }

    /// Whether a node has no data yet.
    pub(super) fn is_first_start(&self, name: &str) -> anyhow::Result<bool> {
        let dir = self.data_dir(name);
        match fs::read_dir(&dir) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", dir.display())),
        }
    }

    /// Makes the missing certificates; all of them, if the CA is missing. Refuses a directory that has other
    /// files, before it writes anything: its CA would sign the certificates of a development cluster.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        self.claim()?;
        let (ca_dir, key_dir) = (self.root.join("ca"), self.root.join("safe"));
        let (ca_crt, ca_key) = (ca_dir.join("ca.crt"), key_dir.join("ca.key"));
        let is_new = !(ca_crt.exists() && ca_key.exists());
        if is_new {
            make_private_dir(&ca_dir)?;
            make_private_dir(&key_dir)?;
            make_ca(&MakeCa {
                certs_dir: ca_dir,
                ca_key: ca_key.clone(),
                lifetime: CA_LIFETIME,
                overwrite: true,
                algorithm: Algorithm::default(),
                second: false,
            })?;
        }
        let leaf = |dir: PathBuf, stem: &str, kind: LeafKind| -> anyhow::Result<()> {
            let files = ["crt", "key"].map(|extension| dir.join(format!("{stem}.{extension}")));
            if !is_new && files.iter().all(|file| file.exists()) {
                return Ok(());
            }
            make_private_dir(&dir)?;
            let copy = dir.join("ca.crt");
            fs::copy(&ca_crt, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
            make_leaf(&MakeLeaf {
                certs_dir: dir,
                ca_key: ca_key.clone(),
                kind,
                trust_domain: TRUST_DOMAIN_DEFAULT.to_owned(),
                lifetime: LEAF_LIFETIME,
                overwrite: true,
                algorithm: None,
                second: false,
            })?;
            Ok(())
        };
        for name in &self.names {
            let hosts = HOSTS.map(ToOwned::to_owned).to_vec();
            leaf(self.node_certs_dir(name), "node", LeafKind::Node { node_id: name.parse()?, hosts })?;
        }
        leaf(self.client_certs_dir(), "client", LeafKind::Client { name: "dev".to_owned() })?;
        leaf(self.admin_certs_dir(), "client", LeafKind::Admin { name: "dev".to_owned() })
    }
}

impl Layout {
    fn claim(&self) -> anyhow::Result<()> {
        let marker = self.root.join(MARKER);
        if marker.exists() {
            return Ok(());
        }
        let is_empty = match fs::read_dir(&self.root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.root.display())),
        };
        // Made before there was a marker.
        let is_ours = self.admin_certs_dir().join("client.crt").exists()
            && self.node_certs_dir("node-1").join("node.crt").exists();
        ensure!(
            is_empty || is_ours,
            "{} is not empty, and no `brock dev` has made it: name a new directory with --dir",
            self.root.display()
        );
        make_private_dir(&self.root)?;
        fs::write(&marker, "A development cluster: `brock dev --dir` uses this directory again.\n")
            .with_context(|| format!("cannot write {}", marker.display()))
    }
}

/// Only this user may read it: it will hold keys.
fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot create the directory {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_starts_for_the_first_time_until_it_has_data() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().to_owned(), 1);
        assert_eq!(layout.names(), ["node-1"]);
        assert!(layout.is_first_start("node-1").unwrap());
        fs::create_dir_all(layout.data_dir("node-1")).unwrap();
        assert!(layout.is_first_start("node-1").unwrap());
        fs::write(layout.data_dir("node-1").join("CURRENT"), "").unwrap();
        assert!(!layout.is_first_start("node-1").unwrap());
    }

    #[test]
    fn a_directory_with_other_files_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("ca")).unwrap();
        let layout = Layout::new(root.path().to_owned(), 1);
        let error = layout.prepare().unwrap_err().to_string();
        assert!(error.contains("name a new directory with --dir"), "{error}");
        let names = || fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["ca"]);
        // A first start that was interrupted continues.
        fs::remove_dir(root.path().join("ca")).unwrap();
        layout.prepare().unwrap();
        fs::remove_dir_all(layout.admin_certs_dir()).unwrap();
        layout.prepare().unwrap();
        fs::remove_file(root.path().join(MARKER)).unwrap();
        layout.prepare().unwrap();
    }

    #[test]
    fn certificates_are_made_once_and_used_again() {
        let root = tempfile::tempdir().unwrap();
        let read = |layout: &Layout| fs::read(layout.node_certs_dir("node-1").join("node.crt")).unwrap();
        let small = Layout::new(root.path().to_owned(), 1);
        small.prepare().unwrap();
        let before = read(&small);
        let large = Layout::new(root.path().to_owned(), 2);
        large.prepare().unwrap();
        assert_eq!(read(&large), before);
        for dir in [large.node_certs_dir("node-2"), large.client_certs_dir(), large.admin_certs_dir()] {
            assert!(dir.join("ca.crt").exists(), "{}", dir.display());
        }
        fs::remove_file(root.path().join("safe/ca.key")).unwrap();
        large.prepare().unwrap();
        assert_ne!(read(&large), before);
    }
}
