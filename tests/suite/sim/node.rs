//! One node: a store, what knows its members and keeps it short, and the disk that outlives them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use brock::{
    maintenance::compact::{Compactor, Mode, Policy},
    membership::{members::Members, peer::PeerKey},
    replication::donor::{feed::Feed, session::Announced},
    store::{Options, SentBundles, Store, Totals},
    transfer::{feed::SnapshotFeed, join::Joiner, proof::Verifier},
};
use brock_core::{
    base::{
        id::{Incarnations, KeyHash, NodeId, Origin},
        time::WallClock,
        trust::TrustMode,
        vector::Vector,
    },
    domain::{digest::SetDigest, record::RecordState},
};

use super::liars::{Lie, Operator};
use crate::harness::identity::TestIdentity;

/// Longer than any run, so that only an operator ends a membership.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// How long the stores keep what has expired, in seconds.
pub const MARGIN_SECONDS: u64 = 60;

/// What is known of a disk from outside, as of the last look.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Which one: another after a loss, and after an old copy was put back.
    pub life: u32,
    /// What the store itself said of what follows.
    pub account: Option<(Vector, SetDigest)>,
    pub applied: Vector,
    /// What it has frozen, and does not list any more.
    pub frozen: Vec<Origin>,
    /// The births of what it lists.
    pub born: BTreeSet<Origin>,
    /// What it listed on a donor's word alone.
    pub retracted: BTreeSet<Origin>,
    pub states: BTreeMap<KeyHash, RecordState>,
    /// What it has ever shown as deleted.
    pub deleted: BTreeSet<KeyHash>,
    /// The members that the node retired, and what it had applied then: in memory, and as it is written down.
    pub retired: BTreeMap<usize, Vector>,
    pub remembered_retired: BTreeMap<usize, Vector>,
}

/// Everything that must survive a crash.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub states: BTreeMap<KeyHash, RecordState>,
    vectors: [Vector; 4],
    totals: Totals,
    frozen: Vec<Origin>,
}

/// A puller's end of a stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// What it has told the donor.
    pub announced: Vector,
    /// The origins of whose logs it takes nothing more from the donor.
    pub declined: BTreeSet<Origin>,
    /// Whether the donor has shown a history that is not proven: it is not asked about them any more.
    pub lies_of_history: bool,
}

/// A donor's end of a stream.
#[derive(Debug)]
pub struct Feeding {
    pub feed: Feed,
    pub told: Announced,
}

/// A resync of this node; paused without a feed.
pub struct Resync {
    pub donor: usize,
    pub joiner: Joiner,
    pub feed: Option<SnapshotFeed>,
    pub pages: u64,
    /// What its donor says that it has applied.
    pub said: Vector,
    /// A lie of the donor's that must come out.
    pub owes: Option<Lie>,
}

/// A process.
pub struct Running {
    pub store: Store,
    /// Until the last who holds the store has let go of it, and the database is closed.
    alive: Weak<()>,
    pub members: Members,
    pub wall_clock: WallClock,
    pub compactor: Compactor,
    pub streams: BTreeMap<usize, Stream>,
    pub feeds: BTreeMap<usize, Feeding>,
    pub resync: Option<Resync>,
    /// How far the clocks of the donors were from this one's when last heard.
    pub skews: BTreeMap<usize, i64>,
    /// When it began: in truth, and by its own clock.
    pub began: (u64, u64),
    /// Whether a peer has claimed to know more of this life than there is.
    pub has_heard_a_rumour: bool,
    /// The origin that it began with.
    pub first: Origin,
    /// What it verifies by where nothing is believed without proof.
    pub verifier: Verifier,
    /// Donors whose resync it has refused, and until when they are not asked.
    pub aside: BTreeMap<usize, u64>,
}

impl Running {
    /// While the resync under way removes records, nothing else may be brought in.
    pub fn is_removing(&self) -> bool {
        let removes = |resync: &Resync| resync.feed.is_some() && !resync.joiner.is_resumable();
        self.resync.as_ref().is_some_and(removes)
    }

    /// Whether a resync is under way.
    pub fn is_resyncing(&self) -> bool {
        self.resync.as_ref().is_some_and(|resync| resync.feed.is_some())
    }

    pub async fn image(&self) -> Image {
        let store = &self.store;
        Image {
            states: states(store).await,
            vectors: [store.vector(), store.folds(), store.floors(), store.collected()],
            totals: store.totals(),
            frozen: store.forks().iter().map(|fork| fork.origin()).collect(),
        }
    }
}

/// All records of a store.
pub async fn states(store: &Store) -> BTreeMap<KeyHash, RecordState> {
    let (mut all, mut after) = (BTreeMap::new(), None);
    loop {
        let page = store.record_page(after, SentBundles::default()).await.expect("the store reads").0;
        all.extend(page.states);
        if !page.more {
            return all;
        }
        after = Some(page.through);
    }
}

/// A node, up or down.
pub struct Node {
    pub id: NodeId,
    pub address: String,
    /// `None` = in RAM.
    home: Option<PathBuf>,
    /// By its own clock, in milliseconds.
    clock: Arc<AtomicU64>,
    incarnations: Incarnations,
    pub clock_offset: i64,
    pub running: Option<Running>,
    pub disk: Disk,
    /// What had to survive when it was last stopped.
    pub left: Option<Image>,
    /// An old copy of the disk, and what was known of that.
    pub copy: Option<Disk>,
}

impl Node {
    pub fn new(index: usize, home: Option<&Path>, incarnations: Incarnations) -> Self {
        let id = format!("store-{index}");
        Self {
            home: home.map(|home| home.join(&id)),
            address: format!("{id}:20000"),
            id: id.parse().expect("a node id"),
            clock: Arc::default(),
            incarnations,
            clock_offset: 0,
            running: None,
            disk: Disk::default(),
            left: None,
            copy: None,
        }
    }

    /// By its own clock, in seconds.
    pub fn wall_clock(&self) -> i64 {
        i64::try_from(self.clock.load(Ordering::SeqCst) / 1000).expect("a time in this era")
    }

    pub fn set_time(&self, now: u64) {
        let own = now.checked_add_signed(self.clock_offset).expect("a time in this era");
        self.clock.store(own * 1000, Ordering::SeqCst);
    }

    /// `alive` is let go of when the store is.
    fn options(&self, alive: Arc<()>) -> Options {
        let clock = Arc::clone(&self.clock);
        let time = move || {
            let _ = &alive;
            clock.load(Ordering::SeqCst)
        };
        Options {
            path: self.home.clone(),
            cache_bytes: 512 * 1024,
            memtables_bytes: 512 * 1024,
            expiry_margin: Duration::from_secs(MARGIN_SECONDS),
            wall_clock: WallClock::new(time),
            incarnations: self.incarnations.clone(),
            identity: Some(Arc::new(TestIdentity::new(self.id.clone()))),
            ..Options::ram(self.id.clone())
        }
    }

    /// Begins a process. Finds what the last one left, unless that was lost.
    pub async fn start(&mut self, join: &[String], grace: Option<Duration>, now: u64) {
        let alive = Arc::new(());
        let (options, alive) = (self.options(Arc::clone(&alive)), Arc::downgrade(&alive));
        let store = Store::open(&options).unwrap_or_else(|error| panic!("the store does not open: {error}"));
        let remembered = store.members().await.expect("the store reads");
        let join: Vec<PeerKey> = join.iter().map(|address| address.as_str().into()).collect();
        let members = Members::new(self.id.clone(), (&join, false), remembered, RETENTION)
            .expect("what was remembered");
        let policy = Policy {
            mode: Mode::Never,
            factor: 0.4,
            size_bytes: 1 << 30,
            timer: Duration::from_secs(3600),
            tombstone_grace: grace,
        };
        let verifier = Operator::get().verifier(&store, &options.wall_clock);
        let running = Running {
            first: store.origin(),
            verifier,
            aside: BTreeMap::new(),
            compactor: Compactor::new(store.clone(), members.clone(), policy, options.wall_clock.clone()),
            store,
            members,
            wall_clock: options.wall_clock,
            alive,
            streams: BTreeMap::new(),
            feeds: BTreeMap::new(),
            resync: None,
            skews: BTreeMap::new(),
            began: (now, now.checked_add_signed(self.clock_offset).expect("a time in this era")),
            has_heard_a_rumour: false,
        };
        if let Some(left) = self.left.take() {
            let found = running.image().await;
            let id = &self.id;
            assert!(found == left, "{id} has lost something over a restart: {left:#?} became {found:#?}");
        }
        self.running = Some(running);
    }

    /// Ends the process, in order or not. What is in RAM is gone. Whoever else holds the store must
    /// have let go of it.
    pub async fn stop(&mut self, in_order: bool) {
        let Some(running) = self.running.take() else { return };
        self.left = Some(running.image().await).filter(|_| self.home.is_some());
        if in_order {
            let store = running.store.clone();
            let closed = tokio::task::spawn_blocking(move || store.close()).await;
            closed.expect("closing does not panic").expect("the store closes");
        }
        let alive = running.alive.clone();
        drop(running);
        while alive.strong_count() > 0 {
            thread::yield_now();
        }
        self.disk.retired = self.disk.remembered_retired.clone();
        if self.home.is_none() {
            self.begin_life(Disk::default());
        }
    }

    fn begin_life(&mut self, disk: Disk) {
        let life = self.disk.life + 1;
        self.disk = Disk { life, ..disk };
    }

    /// Takes the disk of a stopped node away.
    pub fn lose_disk(&mut self) {
        self.left = None;
        let Some(home) = &self.home else { return };
        if home.exists() {
            fs::remove_dir_all(home).expect("the directory can be removed");
        }
        self.begin_life(Disk::default());
    }

    /// Copies the disk of a node that was stopped in order.
    pub fn copy_disk(&mut self) {
        let Some(home) = &self.home else { return };
        copy_directory(home, &home.with_extension("copy"));
        self.copy = Some(self.disk.clone());
    }

    /// Puts the old copy in the place of a stopped node's disk.
    pub fn restore_disk(&mut self) {
        let (Some(home), Some(copy)) = (&self.home, self.copy.clone()) else { return };
        copy_directory(&home.with_extension("copy"), home);
        self.left = None;
        self.begin_life(copy);
    }
}

fn copy_directory(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("the directory can be removed");
    }
    fs::create_dir_all(to).expect("the directory can be made");
    for entry in fs::read_dir(from).expect("the directory can be read") {
        let entry = entry.expect("the directory can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}

/// Verifies what a store takes. The ghost has no birth and does not sign.
pub fn verifier(store: &Store, mode: TrustMode) -> Verifier {
    Verifier::new(store.clone(), mode, None)
}
