//! Reading the certificates directory.
//!
//! The name of a file states its purpose: `ca*.crt` are the roots, and `ca-history*.pem` those of before; `node*.crt`
//! and `client*.crt` come with a key of the same stem, and a second, post-quantum one beside it ends in `-pq`; `*.crl`
//! are revocation lists. Keys that other users may read are refused.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};
use x509_parser::error::X509Error;

use super::{
    TlsError, pem,
    roles::{self, RoleError},
};
use crate::reading;
use brock_core::base::{id::sha256, limits};

/// The blocks that a key's file may have. `openssl ecparam` writes the parameters, and the key names the curve too.
/// An encrypted key gets a message of its own.
const KEY_LABELS: [&str; 5] =
    ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "EC PARAMETERS", "ENCRYPTED PRIVATE KEY"];

/// The files of a certificates directory, by their names.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The directory.
    pub dir: PathBuf,
    /// `ca*.crt`, sorted.
    pub ca: Vec<PathBuf>,
    /// `node*.crt`, sorted.
    pub node: Vec<PathBuf>,
    /// `client*.crt`, sorted.
    pub client: Vec<PathBuf>,
    /// `node*-pq.crt`, beside another one: the node's post-quantum certificate.
    pub node_second: Option<PathBuf>,
    /// `client*-pq.crt`, likewise.
    pub client_second: Option<PathBuf>,
    /// `*.crl`, sorted: the revocation lists.
    pub crl: Vec<PathBuf>,
    /// `ca-history*.pem`, sorted: CAs that are trusted no more, but for what was signed while they were.
    pub ca_history: Vec<PathBuf>,
    /// `ca*.key`, sorted. They do not belong in this directory.
    pub ca_keys: Vec<PathBuf>,
}

impl Inventory {
    /// Lists `dir`. A `.crt` of any other name is an error, because it would be ignored silently.
    pub fn of(dir: &Path) -> Result<Self, TlsError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => TlsError::NoDirectory { dir: dir.to_owned() },
            _ => TlsError::Read { path: dir.to_owned(), source },
        };
        let mut inventory = Self { dir: dir.to_owned(), ..Self::default() };
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if is_history(name) {
                inventory.ca_history.push(path);
                continue;
            }
            if is_misnamed(name) {
                return Err(TlsError::UnexpectedFile { path });
            }
            if name.starts_with("ca") && name.ends_with(".key") {
                inventory.ca_keys.push(path);
                continue;
            }
            let list = match name.strip_suffix(".crt") {
                None if name.ends_with(".crl") => &mut inventory.crl,
                None => continue,
                Some(stem) if stem.starts_with("ca") => &mut inventory.ca,
                Some(stem) if stem.starts_with("node") => &mut inventory.node,
                Some(stem) if stem.starts_with("client") => &mut inventory.client,
                Some(_) => return Err(TlsError::UnexpectedFile { path }),
            };
            list.push(path);
        }
        let Self { ca, node, client, crl, ca_history, ca_keys, .. } = &mut inventory;
        [&mut *ca, &mut *node, &mut *client, crl, ca_history, ca_keys]
            .into_iter()
            .for_each(|list| list.sort());
        let (node_second, client_second) = (take_second(node), take_second(client));
        (inventory.node_second, inventory.client_second) = (node_second, client_second);
        Ok(inventory)
    }

    /// Adds the revocation lists of a directory that holds nothing else.
    pub(crate) fn with_lists(mut self, dir: Option<&Path>) -> Result<Self, TlsError> {
        self.crl.extend(dir.map(lists_in).transpose()?.unwrap_or_default());
        Ok(self)
    }

    /// All certificates of all `ca*.crt`, each with its file and its place there; at least one.
    pub fn roots(&self) -> Result<Vec<(PathBuf, usize, CertificateDer<'static>)>, TlsError> {
        let mut roots = Vec::new();
        for path in &self.ca {
            let certificates = certificates(path)?.into_iter().enumerate();
            roots.extend(certificates.map(|(index, der)| (path.clone(), index, der)));
        }
        if roots.is_empty() {
            return Err(TlsError::NoCa { dir: self.dir.clone() });
        }
        Ok(roots)
    }
}

/// Takes the post-quantum certificate out of a list that has another one too.
fn take_second(certificates: &mut Vec<PathBuf>) -> Option<PathBuf> {
    let is_second = |path: &PathBuf| path.to_string_lossy().ends_with("-pq.crt");
    let index = certificates.iter().position(is_second)?;
    (certificates.len() > 1).then(|| certificates.remove(index))
}

/// Refuses a certificate that is not a CA's: every certificate that the holder of its key issues would be
/// trusted.
pub(crate) fn check_ca(path: &Path, der: &[u8]) -> Result<(), TlsError> {
    let role = |source| TlsError::Role { path: path.to_owned(), source };
    let malformed = |error: X509Error| role(RoleError::Malformed(error.to_string()));
    let certificate = roles::parse(der).map_err(role)?;
    let refused = |reason| Err(TlsError::NotACa { path: path.to_owned(), reason });
    match certificate.basic_constraints().map_err(malformed)? {
        Some(constraints) if constraints.value.ca => {}
        Some(_) => return refused("its basic constraints say CA:FALSE"),
        None => return refused("it has no basic constraints that say CA:TRUE"),
    }
    match certificate.key_usage().map_err(malformed)? {
        Some(usage) if !usage.value.key_cert_sign() => refused("its key usage does not allow keyCertSign"),
        Some(_) | None => Ok(()),
    }
}

/// Whether it holds CAs of before.
fn is_history(name: &str) -> bool {
    name.starts_with("ca-history") && name.ends_with(".pem")
}

/// Whether a file is probably meant to count, and would be ignored because of the end of its name.
fn is_misnamed(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    // As `.crt` its CAs would be trusted for connections too.
    lower.ends_with(".pem")
        || (lower.starts_with("ca-history") && !lower.ends_with(".crl"))
        || [".crt", ".crl"].iter().any(|end| lower.ends_with(end) && !name.ends_with(end))
}

/// The lists in a directory of revocation lists. A file of any other name is an error, because it would be
/// ignored silently.
fn lists_in(dir: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => TlsError::NoListDirectory { dir: dir.to_owned() },
        _ => TlsError::Read { path: dir.to_owned(), source },
    };
    let mut lists = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Kubernetes keeps the versions of a mounted ConfigMap in hidden directories beside the names.
        if name.starts_with('.') {
            continue;
        }
        if !name.ends_with(".crl") {
            return Err(TlsError::UnexpectedList { path });
        }
        lists.push(path);
        if lists.len() > limits::CERTIFICATE_FILES_MAX {
            return Err(TlsError::TooManyFiles { dir: dir.to_owned(), limit: limits::CERTIFICATE_FILES_MAX });
        }
    }
    lists.sort();
    Ok(lists)
}

/// SHA-256 of the files in `dir` that a node uses or refuses, and of those in the directory of further
/// revocation lists, names included. It changes when any of them changes.
pub(crate) fn fingerprint(dir: &Path, lists: Option<&Path>) -> Result<[u8; 32], TlsError> {
    let failed = |source: io::Error| TlsError::Read { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Unexpected certificates count too, so that they are refused when they arrive, not at the next start.
        let is_certificate = name.ends_with(".crt") && !name.starts_with("client") || is_misnamed(&name);
        let is_certificate = is_certificate || is_history(&name);
        let is_key = name.starts_with("node") && name.ends_with(".key");
        if is_certificate || is_key || name.ends_with(".crl") {
            paths.push(path);
        }
        if paths.len() > limits::CERTIFICATE_FILES_MAX {
            return Err(TlsError::TooManyFiles { dir: dir.to_owned(), limit: limits::CERTIFICATE_FILES_MAX });
        }
    }
    paths.sort();
    paths.extend(lists.map(lists_in).transpose()?.unwrap_or_default());
    let mut hashes = Vec::new();
    for path in &paths {
        hashes.extend(sha256(path.as_os_str().as_encoded_bytes()));
        hashes.extend(sha256(&read(path, &mut open(path)?)?));
    }
    Ok(sha256(&hashes))
}

/// Reads the revocation lists of a PEM file; at least one.
pub(crate) fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read(path, &mut open(path)?)?;
    pem::check(path, &bytes, &["X509 CRL"])?;
    let parsed: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        Ok(_) | Err(_) => Err(TlsError::NotARevocationList { path: path.to_owned() }),
    }
}

/// The file names of `paths`, for a message.
pub(crate) fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Reads the certificates of a PEM file, leaf first; at least one. Text around them is skipped.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, &mut open(path)?)?;
    pem::check(path, &bytes, &["CERTIFICATE"])?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(TlsError::NotACertificate { path: path.to_owned() }),
    }
}

/// Reads a private key (PKCS#8, PKCS#1 or SEC1), and refuses one that other users may read.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let mut file = open(path)?;
    // The permissions of the open file: those of the path could change in between.
    let metadata = file.metadata().map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    let bytes = read(path, &mut file)?;
    // Nothing is wrong with the permissions of a certificate: it is the wrong file.
    if pem::begins(&bytes, &["CERTIFICATE"]) && !pem::begins(&bytes, &KEY_LABELS) {
        return Err(TlsError::NotAKey { path: path.to_owned(), reason: "it is a certificate".to_owned() });
    }
    check_permissions(path, &metadata)?;
    pem::check(path, &bytes, &KEY_LABELS)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| TlsError::NotAKey {
        path: path.to_owned(),
        reason: match error {
            _ if pem::is_encrypted(&bytes) => "it is encrypted".to_owned(),
            rustls_pki_types::pem::Error::NoItemsFound => "there is none in it".to_owned(),
            _ => "its PEM is damaged".to_owned(),
        },
    })
}

fn check_permissions(path: &Path, metadata: &Metadata) -> Result<(), TlsError> {
    // Without the list of groups, only a key without group permissions is accepted.
    let mut groups: Vec<u32> =
        rustix::process::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect();
    groups.push(rustix::process::getegid().as_raw());
    let mode = metadata.mode() & 0o7777;
    if is_private(metadata.uid(), metadata.gid(), mode, &groups) || (mode & 0o037 == 0 && is_credential(path))
    {
        return Ok(());
    }
    Err(TlsError::KeyPermissions { path: path.to_owned(), mode })
}

/// Whether other users cannot read a key file. Kubernetes mounts a secret with root as its owner and the
/// pod's group (a 0400 key becomes 0440), so group-read is accepted if root owns the file and the process is
/// in the group.
fn is_private(owner: u32, group: u32, mode: u32, our_groups: &[u32]) -> bool {
    mode & 0o077 == 0 || (owner == 0 && mode & 0o037 == 0 && our_groups.contains(&group))
}

/// Whether systemd provided the file as a credential of this service. The access list of a credential looks
/// like a permission of root's group (0440).
fn is_credential(path: &Path) -> bool {
    let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return false };
    match (fs::canonicalize(directory), fs::canonicalize(path)) {
        (Ok(directory), Ok(path)) => path.starts_with(directory),
        _ => false,
    }
}

fn open(path: &Path) -> Result<File, TlsError> {
    reading::regular(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn read(path: &Path, file: &mut File) -> Result<Vec<u8>, TlsError> {
    let limit = limits::CERTIFICATE_FILE_MAX_BYTES;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(TlsError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_refused_unless_root_lends_it_to_our_group() {
        let (us, root, our_group, other_group) = (1000, 0, 50, 60);
        for (owner, group, mode, private) in [
            (us, our_group, 0o400, true),
            (us, our_group, 0o600, true),
            (us, our_group, 0o700, true),
            (us, our_group, 0o440, false),
            (us, our_group, 0o604, false),
            (root, our_group, 0o440, true),
            (root, our_group, 0o640, true),
            (root, our_group, 0o660, false),
            (root, our_group, 0o450, false),
            (root, our_group, 0o444, false),
            (root, other_group, 0o440, false),
            (root, other_group, 0o400, true),
        ] {
            assert_eq!(is_private(owner, group, mode, &[our_group]), private, "{owner} {group} {mode:o}");
        }
    }
}
