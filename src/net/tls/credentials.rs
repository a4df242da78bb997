//! What a node and an admin tool load from the certificates directory.
//!
//! Loading refuses everything that would fail later, and names the file and the remedy: a key of another
//! pair, an expired certificate, one that our own CA did not sign, one without a host name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::{
    LOG_TARGET, TlsError, errors,
    files::{self, Inventory},
    handshake,
    history::{self, History},
    keypair::{Purpose, Validity},
    level::{Negotiated, WireLevel, WireLevels},
    pairs::Pairs,
    registry::{ConnectionRegistry, OpenPeer},
    revocation::{Authority, ListFile, Revocations},
    roles::{PeerIdentity, RolePolicy},
    statement::{Signer, StatementVerifier},
    trust_store::{CurrentTrustStore, TrustStore},
};
use crate::address::Address;
use brock_core::base::id::NodeId;

/// A node's own certificate and its trust store, ready for accepting and dialling. Cheap to clone; a
/// [`Identity::refresh`] affects all clones.
#[derive(Debug, Clone)]
pub struct Identity {
    dir: PathBuf,
    /// Holds further revocation lists.
    crl_dir: Option<PathBuf>,
    policy: RolePolicy,
    loaded: Arc<ArcSwap<Loaded>>,
    registry: Arc<ConnectionRegistry>,
    server: Arc<ServerConfig>,
    clients: Arc<ClientConfigs>,
}

/// The TLS configurations for dialling, one for each level.
#[derive(Debug)]
pub(crate) struct ClientConfigs {
    levels: WireLevels,
    by_level: [Arc<ClientConfig>; WireLevel::ALL.len()],
}

impl ClientConfigs {
    /// For dialling this address, and its level.
    pub(crate) fn to(&self, address: &Address) -> (WireLevel, Arc<ClientConfig>) {
        let level = self.levels.of(address);
        (level, self.at(level))
    }

    /// For dialling at one level.
    pub(crate) fn at(&self, level: WireLevel) -> Arc<ClientConfig> {
        Arc::clone(&self.by_level[level as usize])
    }
}

/// What the directory held.
#[derive(Debug)]
struct Loaded {
    peer: PeerIdentity,
    expiries: Vec<Expiry>,
    authorities: Vec<Authority>,
    fingerprint: [u8; 32],
    /// Problems that do not prevent the use.
    warnings: Vec<String>,
}

impl Loaded {
    /// Logs the warnings that are not in `before`.
    fn warn(&self, before: &[String]) {
        self.warnings
            .iter()
            .filter(|warning| !before.contains(warning))
            .for_each(|text| tracing::warn!(target: LOG_TARGET, "{text}"));
    }
}

/// When a certificate of the directory expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its file's name; for the second certificate of a file and each further one, with `#` and its place.
    pub file: String,
    /// Its last second of validity, seconds since the Unix epoch.
    pub not_after_unix_seconds: i64,
    /// Its whole period of validity, in seconds.
    pub lifetime_seconds: i64,
}

impl Expiry {
    /// `index` counts the certificates of the file from 0.
    fn of(path: &Path, index: usize, validity: Validity) -> Self {
        let not_after_unix_seconds = validity.not_after_unix_seconds;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            file: if index == 0 { name.into_owned() } else { format!("{name}#{}", index + 1) },
            not_after_unix_seconds,
            lifetime_seconds: not_after_unix_seconds.saturating_sub(validity.not_before_unix_seconds),
        }
    }
}

/// The result of [`Identity::refresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The directory has not changed.
    Unchanged,
    /// The files were loaded and are used now.
    Reloaded,
}

impl Identity {
    /// Loads the one `node*.crt` of `dir` with its key, and a post-quantum one beside it (`node*-pq.crt`), every
    /// `ca*.crt`, and every `*.crl`. Client certificates are ignored: a machine may have both.
    pub fn load(dir: &Path, policy: RolePolicy) -> Result<Self, TlsError> {
        Self::load_at(dir, None, policy, WireLevels::default())
    }

    /// As [`Identity::load`], with the revocation lists of a second directory in addition, and for these levels
    /// of wire encryption.
    pub fn load_at(
        dir: &Path,
        crl_dir: Option<&Path>,
        policy: RolePolicy,
        levels: WireLevels,
    ) -> Result<Self, TlsError> {
        let (loaded, store) = read_node(dir, crl_dir, policy, &levels)?;
        loaded.warn(&[]);
        let current = CurrentTrustStore::new(store);
        let [default, bits_128, bits_192, bits_256] =
            WireLevel::ALL.map(|level| handshake::client(&current, dir, policy, level));
        let by_level = [default?, bits_128?, bits_192?, bits_256?];
        let clients = ClientConfigs { by_level, levels: levels.clone() };
        Ok(Self {
            dir: dir.to_owned(),
            crl_dir: crl_dir.map(Path::to_owned),
            policy,
            loaded: Arc::new(ArcSwap::from_pointee(loaded)),
            server: handshake::server(&current, dir, policy, levels.node)?,
            clients: Arc::new(clients),
            registry: ConnectionRegistry::new(current),
        })
    }

    /// Reloads the directories if they have changed.
    ///
    /// Contract: all or nothing. The files are checked as at the start, and the certificate must be that of
    /// `expected`; after an error the previous ones stay in use. Blocks.
    pub fn refresh(&self, expected: &NodeId) -> Result<Refreshed, TlsError> {
        if files::fingerprint(&self.dir, self.crl_dir.as_deref())? == self.loaded.load().fingerprint {
            return Ok(Refreshed::Unchanged);
        }
        let levels = self.levels();
        let (loaded, store) = read_node(&self.dir, self.crl_dir.as_deref(), self.policy, levels)?;
        if let Some(found) = loaded.peer.node_id().filter(|found| found != expected) {
            let (found, expected) = (found.to_string(), expected.to_string());
            return Err(TlsError::OtherNode { dir: self.dir.clone(), found, expected });
        }
        // With it, the next incarnation could not be born: peers that believe only what is proven would take nothing
        // of it.
        if loaded.peer.node_id().is_none() && self.peer().node_id().is_some() {
            return Err(TlsError::LosesUri { dir: self.dir.clone(), expected: expected.to_string() });
        }
        // Nor with one of another cluster: what this node has signed, and what it signs, is for the one it began in.
        if let (Some(found), Some(in_use)) = (loaded.peer.trust_domain.clone(), self.peer().trust_domain)
            && found != in_use
        {
            let (dir, node_id) = (self.dir.clone(), expected.to_string());
            return Err(TlsError::OtherDomain { dir, node_id, found, in_use });
        }
        // Only now: refused files are read again every few seconds, and would be logged each time.
        loaded.warn(&self.loaded.load().warnings);
        self.registry.trust_store().replace(store);
        self.loaded.store(Arc::new(loaded));
        Ok(Refreshed::Reloaded)
    }

    /// Closes the connections whose certificates are no longer trusted: revoked, expired, or signed by a CA
    /// that was removed. Returns how many.
    pub fn close_untrusted(&self) -> usize {
        self.registry.close_untrusted()
    }

    /// Reports reloads from now on, for a server that drains its connections then.
    pub fn reloads(&self) -> Reloads {
        Reloads { registry: Arc::clone(&self.registry), changes: self.registry.trust_store().subscribe() }
    }

    /// The identity that the node's own certificate states. `legacy` deserves a warning at start.
    pub fn peer(&self) -> PeerIdentity {
        self.loaded.load().peer.clone()
    }

    /// Signs with the node's present key.
    pub fn signer(&self) -> Signer {
        Signer::new(self.registry.trust_store().load().own())
    }

    /// Verifies statements against the CAs and revocation lists that are current at each call.
    pub fn statement_verifier(&self) -> StatementVerifier {
        StatementVerifier::new(Arc::clone(self.registry.trust_store()), self.policy)
    }

    /// The expiries of the node's certificate and of its CAs.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.loaded.load().expiries.clone()
    }

    /// The trusted CAs and those of before, each with the number of certificates that it has revoked.
    pub fn authorities(&self) -> Vec<Authority> {
        self.loaded.load().authorities.clone()
    }

    /// The levels of wire encryption.
    pub fn levels(&self) -> &WireLevels {
        &self.clients.levels
    }

    /// The open connections to other nodes, dialled and accepted.
    pub fn open_peers(&self) -> Vec<OpenPeer> {
        self.registry.peers()
    }

    /// How many connections there are, by what was negotiated.
    pub fn negotiated(&self) -> BTreeMap<(&'static str, Negotiated), usize> {
        self.registry.negotiated()
    }

    /// The certificates directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of further revocation lists.
    pub fn crl_dir(&self) -> Option<&Path> {
        self.crl_dir.as_deref()
    }

    /// Which certificates of others are accepted.
    pub(crate) fn policy(&self) -> RolePolicy {
        self.policy
    }

    /// The registry of this node's connections.
    pub(crate) fn registry(&self) -> &Arc<ConnectionRegistry> {
        &self.registry
    }

    /// The TLS configuration for accepting; see [`super::accept::accept`].
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The TLS configurations for dialling.
    pub(crate) fn client_configs(&self) -> Arc<ClientConfigs> {
        Arc::clone(&self.clients)
    }
}

/// The reloads of certificates, one after the other.
#[derive(Debug)]
pub struct Reloads {
    registry: Arc<ConnectionRegistry>,
    changes: watch::Receiver<Arc<TrustStore>>,
}

impl Reloads {
    /// Waits for the next reload. Returns the connections that were accepted before it.
    pub async fn next(&mut self) -> Outdated {
        if self.changes.changed().await.is_err() {
            // The identity is gone, so there are no more reloads.
            std::future::pending::<()>().await;
        }
        let after = Arc::clone(&self.changes.borrow_and_update());
        Outdated { registry: Arc::clone(&self.registry), after }
    }
}

/// Connections that were accepted before a reload.
#[derive(Debug)]
pub struct Outdated {
    registry: Arc<ConnectionRegistry>,
    after: Arc<TrustStore>,
}

impl Outdated {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.registry.callers_before(&self.after)
    }

    /// Closes those of clients and operators. Returns how many. A node that is still trusted keeps its
    /// connection until its last call ends: a resync may take hours, and a reload must not restart it.
    pub fn close_clients(&self) -> usize {
        self.registry.close_clients_before(&self.after)
    }
}

fn read_node(
    dir: &Path,
    crl_dir: Option<&Path>,
    policy: RolePolicy,
    levels: &WireLevels,
) -> Result<(Loaded, TrustStore), TlsError> {
    // The fingerprint comes first: a change during the read then shows at the next refresh.
    let inventory = Inventory::of(dir)?.with_lists(crl_dir)?;
    let fingerprint = files::fingerprint(dir, crl_dir)?;
    let Roots { store, trusted, signers, mut present, revocations, history, mut expiries, mut warnings } =
        roots(&inventory)?;
    let certificate = match &inventory.node[..] {
        [] => return Err(TlsError::NoNodeCertificate { dir: dir.to_owned() }),
        [one] => one.clone(),
        several => {
            let names = files::names(several);
            return Err(TlsError::Several { dir: dir.to_owned(), kind: "node", names });
        }
    };
    let pairs = Pairs::load(certificate, inventory.node_second.as_deref(), policy, Purpose::Node)?;
    for pair in pairs.all() {
        let validities = pair.validities()?.into_iter().enumerate();
        expiries.extend(validities.map(|(index, validity)| Expiry::of(pair.path(), index, validity)));
        present.extend_from_slice(pair.chain());
    }
    let authorities = revocations.authorities(&signers, &present);
    warnings.extend(authorities.iter().filter_map(Authority::warning));
    let trust_store = pairs.trust_store(dir, (store, &trusted), revocations, Purpose::Node)?;
    let trust_store = trust_store.with_history(history);
    if levels.include(WireLevel::Bits256) && !trust_store.is_strong() {
        let (path, setting) = (pairs.first.path().to_owned(), levels.setting(WireLevel::Bits256));
        let reason = match trust_store.own_kind() {
            kind if WireLevel::Bits256.allows(kind) => "a certificate above it is too weak".to_owned(),
            kind => format!("its key is of the kind {kind}"),
        };
        return Err(TlsError::TooWeak { path, setting, reason });
    }
    Ok((Loaded { peer: pairs.peer, expiries, authorities, fingerprint, warnings }, trust_store))
}

fn revocation_lists(inventory: &Inventory) -> Result<Vec<ListFile>, TlsError> {
    let mut lists = Vec::new();
    for path in &inventory.crl {
        lists.extend(files::revocation_lists(path)?.into_iter().map(|list| (path.clone(), list)));
    }
    Ok(lists)
}

/// The credentials with which a client or an admin tool dials nodes.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    peer: Arc<PeerIdentity>,
    current: Arc<CurrentTrustStore>,
    client: Arc<ClientConfig>,
}

impl ClientIdentity {
    /// Loads `client.crt` (or the only `client*.crt`) of `dir` with its key, every `ca*.crt`, and every
    /// `*.crl`. Without a client certificate, the node's own certificate and key are used, so that the tool
    /// works on a node's machine.
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let inventory = Inventory::of(dir)?;
        let Roots { store, trusted, revocations, warnings, .. } = roots(&inventory)?;
        warnings.iter().for_each(|text| tracing::warn!(target: LOG_TARGET, "{text}"));
        let policy = RolePolicy::default();
        let (first, second) = choose_client(&inventory)?;
        let pairs = Pairs::load(first, second, policy, Purpose::Client)?;
        let trust_store = pairs.trust_store(dir, (store, &trusted), revocations, Purpose::Client)?;
        let current = CurrentTrustStore::new(trust_store);
        let client = handshake::client(&current, dir, policy, WireLevel::Default)?;
        Ok(Self { peer: Arc::new(pairs.peer), client, current })
    }

    /// The identity that the certificate states.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// Signs with the certificate's key.
    pub fn signer(&self) -> Signer {
        Signer::new(self.current.load().own())
    }

    /// The TLS configuration for dialling.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}

/// Verifies statements against every `ca*.crt`, `ca-history*.pem` and `*.crl` of `dir`, without a certificate of our
/// own.
pub fn statement_verifier(dir: &Path) -> Result<StatementVerifier, TlsError> {
    let Roots { store, revocations, history, .. } = roots(&Inventory::of(dir)?)?;
    let callers = handshake::callers_verifier(dir, store, handshake::provider())?;
    Ok(StatementVerifier::fixed(callers, history, revocations))
}

/// The certificate to show, and the post-quantum one beside it.
fn choose_client(inventory: &Inventory) -> Result<(PathBuf, Option<&Path>), TlsError> {
    let (client_second, node_second) = (inventory.client_second.as_deref(), inventory.node_second.as_deref());
    let plain = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "client.crt");
    if let Some(path) = inventory.client.iter().find(plain) {
        return Ok((path.clone(), client_second));
    }
    match (&inventory.client[..], &inventory.node[..]) {
        ([one], _) => Ok((one.clone(), client_second)),
        ([], [one]) => Ok((one.clone(), node_second)),
        ([], []) => Err(TlsError::NoClientCertificate { dir: inventory.dir.clone() }),
        ([], several) => {
            Err(TlsError::Several { dir: inventory.dir.clone(), kind: "node", names: files::names(several) })
        }
        (several, _) => Err(TlsError::Several {
            dir: inventory.dir.clone(),
            kind: "client",
            names: files::names(several),
        }),
    }
}

struct Roots {
    store: Arc<RootCertStore>,
    /// The CA certificates of the store.
    trusted: Vec<CertificateDer<'static>>,
    /// The same and the CAs of before.
    signers: Vec<CertificateDer<'static>>,
    /// The same and those that have expired.
    present: Vec<CertificateDer<'static>>,
    /// What the revocation lists revoke.
    revocations: Arc<Revocations>,
    /// CAs of before.
    history: History,
    /// The expiries of all CAs, including those that have expired.
    expiries: Vec<Expiry>,
    /// Problems of the CAs and of the lists that do not prevent the use.
    warnings: Vec<String>,
}

/// The CAs that have not expired. rustls does not check the dates of a root, so we do. A CA that is not
/// valid yet is kept: it was installed ahead of a rotation, and its leaves have dates too.
fn roots(inventory: &Inventory) -> Result<Roots, TlsError> {
    let (mut store, mut trusted, mut expiries) = (RootCertStore::empty(), Vec::new(), Vec::new());
    let mut present = Vec::new();
    let ca_key_warning = |path: &PathBuf| {
        format!(
            "a CA's key lies in the certificates directory, {}: anyone who takes over this machine can then issue \
             certificates of every role. Move it to a safe place",
            path.display()
        )
    };
    let mut warnings: Vec<String> = inventory.ca_keys.iter().map(ca_key_warning).collect();
    let mut expired = None;
    for (path, index, der) in inventory.roots()? {
        let validity = Validity::of(&path, &der)?;
        expiries.push(Expiry::of(&path, index, validity));
        files::check_ca(&path, &der)?;
        present.push(der.clone());
        if validity.has_expired() {
            warnings
                .push(format!("the CA certificate {} has expired: it is no longer trusted", path.display()));
            expired = validity.check(&path).err();
            continue;
        }
        trusted.push(der.clone());
        let unusable = |error| TlsError::NotTrusted { path, reason: errors::own_certificate(&error) };
        store.add(der).map_err(unusable)?;
    }
    if let Some(error) = expired.filter(|_| store.is_empty()) {
        return Err(error);
    }
    let (mut history, mut signers) = (History::default(), trusted.clone());
    for path in &inventory.ca_history {
        for der in files::certificates(path)? {
            files::check_ca(path, &der)?;
            signers.push(der.clone());
            history.add(path, der)?;
        }
    }
    // What a CA of before has revoked stays revoked.
    let (revocations, without_effect) = Revocations::new(&revocation_lists(inventory)?, &signers)?;
    warnings.extend(without_effect);
    // The list of the next CA may have taken the place of its file.
    let former = signers[trusted.len()..].iter().filter(|der| !revocations.has_list_of(der));
    warnings.extend(former.map(|der| history::warning_without_list(der)));
    let (store, revocations) = (Arc::new(store), Arc::new(revocations));
    Ok(Roots { store, trusted, signers, present, revocations, history, expiries, warnings })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

    use super::*;
    use crate::tls::{
        roles::Role,
        testing::{Dates, TestCa, kind_admin, kind_node},
    };

    fn load(dir: &Path) -> Result<Identity, TlsError> {
        Identity::load(dir, RolePolicy::default())
    }

    #[test]
    fn a_node_loads_its_pair_and_every_ca_and_ignores_client_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (TestCa::new(), TestCa::new());
        ca.write_ca(dir.path(), "ca.crt");
        other.write_ca(dir.path(), "ca-next.crt");
        ca.write_leaf(dir.path(), "node.eu1-1", &kind_node("eu1-1", &["localhost"]), Dates::now());
        ca.write_leaf(dir.path(), "client", &kind_admin("ops"), Dates::now());
        let identity = load(dir.path()).unwrap();
        assert_eq!(identity.peer().to_string(), "node eu1-1");
        assert_eq!(identity.peer().node_id(), Some("eu1-1".parse().unwrap()));
        let admin = ClientIdentity::load(dir.path()).unwrap();
        assert_eq!((admin.peer().role, admin.peer().to_string()), (Role::Admin, "admin ops".to_owned()));
        fs::remove_file(dir.path().join("client.crt")).unwrap();
        assert_eq!(ClientIdentity::load(dir.path()).unwrap().peer().role, Role::Node);
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = load(&dir.path().join("certs")).unwrap_err();
        assert!(matches!(error, TlsError::NoDirectory { .. }));
        assert!(error.to_string().contains("copy the cluster's ca.crt there"), "{error}");
        let error = load(dir.path()).unwrap_err();
        assert!(matches!(error, TlsError::NoCa { .. }), "{error}");
        let ca = TestCa::new();
        ca.write_ca(dir.path(), "ca.crt");
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("brock cert node --certs-dir"), "{error}");
        let error = ClientIdentity::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("brock cert admin --certs-dir"), "{error}");
        for name in ["node.a", "node.b"] {
            ca.write_leaf(dir.path(), name, &kind_node("a", &["localhost"]), Dates::now());
        }
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("node.a.crt, node.b.crt"), "{error}");
        for name in ["server.crt", "ca.CRL", "crl.pem", "ca-y.CRT"] {
            let ignored = dir.path().join(name);
            fs::write(&ignored, "").unwrap();
            assert!(matches!(load(dir.path()), Err(TlsError::UnexpectedFile { .. })), "{name}");
            fs::remove_file(&ignored).unwrap();
        }
    }

    #[test]
    fn a_ca_of_before_needs_its_revocation_list_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, before) = (TestCa::named("after"), TestCa::named("before"));
        ca.write_ca(dir.path(), "ca.crt");
        before.write_ca(dir.path(), "ca-history.pem");
        let write_list = |name: &str, of: &TestCa| {
            let base64 = data_encoding::BASE64.encode(&of.list(&[]));
            let pem = format!("-----BEGIN X509 CRL-----\n{base64}\n-----END X509 CRL-----\n");
            fs::write(dir.path().join(name), pem).unwrap();
        };
        ca.write_leaf(dir.path(), "node", &kind_node("a", &["localhost"]), Dates::now());
        let warnings = || roots(&Inventory::of(dir.path()).unwrap()).unwrap().warnings;
        // Nodes of which only some have its list can be told apart.
        let shown = || {
            let authorities = load(dir.path()).unwrap().authorities();
            authorities.into_iter().map(|authority| authority.name).collect::<Vec<_>>()
        };
        // As after a revocation by the CA of now, whose list has the name that the other one had.
        write_list("ca.crl", &ca);
        let [warning] = &warnings()[..] else { panic!("{:?}", warnings()) };
        assert!(warning.contains("CN=before") && warning.contains("ca-history.crl"), "{warning}");
        write_list("ca-history.crl", &before);
        assert_eq!(warnings(), Vec::<String>::new());
        let with_list = shown();
        assert!(with_list.contains(&"CN=before".to_owned()), "{with_list:?}");
        fs::remove_file(dir.path().join("ca-history.crl")).unwrap();
        assert_eq!(shown(), with_list);
    }

    #[test]
    fn a_pair_that_could_not_work_is_refused_at_load() {
        let ca = TestCa::new();
        let node = kind_node("a", &["localhost"]);
        let refused = |break_it: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            ca.write_ca(dir.path(), "ca.crt");
            ca.write_leaf(dir.path(), "node", &node, Dates::now());
            load(dir.path()).unwrap();
            break_it(dir.path());
            let error = load(dir.path()).unwrap_err();
            (format!("{error:?}").split([' ', '{']).next().unwrap().to_owned(), error.to_string())
        };
        let chmod = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        let day = Duration::from_secs(86_400);
        for (expected, word, break_it) in [
            ("KeyPermissions", "chmod 400", &(|dir: &Path| chmod(&dir.join("node.key"))) as &dyn Fn(&Path)),
            ("NoKey", "node.key", &|dir: &Path| fs::remove_file(dir.join("node.key")).unwrap()),
            ("NotACertificate", "node.crt", &|dir: &Path| fs::write(dir.join("node.crt"), "x").unwrap()),
            ("KeyMismatch", "different pairs", &|dir: &Path| {
                ca.write_leaf(dir, "client", &kind_admin("ops"), Dates::now());
                fs::rename(dir.join("client.key"), dir.join("node.key")).unwrap();
            }),
            ("NotValidNow", "expired", &|dir: &Path| {
                ca.write_leaf(dir, "node", &node, Dates::past(day));
            }),
            ("NotValidNow", "clock", &|dir: &Path| {
                ca.write_leaf(dir, "node", &node, Dates::future(day));
            }),
            ("NoSubjectAlternativeName", "--host", &|dir: &Path| {
                ca.write_leaf(dir, "node", &kind_node("a", &[]), Dates::now());
            }),
            ("Role", "admin ops", &|dir: &Path| {
                ca.write_leaf(dir, "node", &kind_admin("ops").with_host("localhost"), Dates::now());
            }),
            ("NotTrusted", "CA", &|dir: &Path| TestCa::new().write_ca(dir, "ca.crt")),
            ("Pem", "ca.crt, line", &|dir: &Path| {
                change(&dir.join("ca.crt"), |pem| format!("{}{}", pem.trim_end(), pem));
            }),
            ("Pem", "byte order mark", &|dir: &Path| {
                change(&dir.join("ca.crt"), |pem| format!("\u{feff}{pem}"));
            }),
            ("Pem", "PRIVATE KEY", &|dir: &Path| {
                let key = fs::read_to_string(dir.join("node.key")).unwrap();
                change(&dir.join("node.crt"), |pem| format!("{pem}{key}"));
            }),
            ("NotACa", "ca-admin.crt", &|dir: &Path| {
                ca.write_leaf(dir, "ca-admin", &kind_admin("ops"), Dates::now());
            }),
        ] {
            let (variant, text) = refused(break_it);
            assert_eq!(variant, expected, "{text}");
            assert!(text.contains(word), "{text}");
        }
    }

    fn change(file: &Path, how: impl Fn(String) -> String) {
        fs::write(file, how(fs::read_to_string(file).unwrap())).unwrap();
    }

    #[test]
    fn the_end_of_every_certificate_of_a_file_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (TestCa::new(), TestCa::named("Other CA"));
        ca.write_ca(dir.path(), "ca.crt");
        other.write_ca(dir.path(), "other");
        let second = fs::read_to_string(dir.path().join("other")).unwrap();
        change(&dir.path().join("ca.crt"), |first| format!("{first}{second}"));
        ca.write_leaf(dir.path(), "node", &kind_node("a", &["localhost"]), Dates::now());
        // An intermediate behind the leaf: nodes that need it fail when it ends.
        change(&dir.path().join("node.crt"), |leaf| format!("{leaf}{second}"));
        let files: Vec<_> = load(dir.path()).unwrap().expiries().into_iter().map(|e| e.file).collect();
        assert_eq!(files, ["ca.crt", "ca.crt#2", "node.crt", "node.crt#2"]);
    }

    #[test]
    fn an_expired_ca_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::with_dates(Dates::past(Duration::from_secs(60)));
        ca.write_ca(dir.path(), "ca.crt");
        ca.write_leaf(dir.path(), "node", &kind_node("a", &["localhost"]), Dates::now());
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("ca.crt is valid from"), "{error}");
    }
}
