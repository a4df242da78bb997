//! Resyncs, message by message: they break off, continue where they were, change donors and restart,
//! as in `replication/resync.rs`.

use super::{
    node::{Resync, verifier},
    world::World,
};
use brock::{
    store::StoreError,
    transfer::{
        feed::{SnapshotError, SnapshotFeed},
        join::{JoinError, Joiner, Terms},
    },
};
use brock_core::{
    base::{limits, trust::TrustMode, vector::Vector},
    proto::{out_of_sync::Reason, snapshot_response::Message},
};
use rand::Rng;

impl World {
    /// A donor has said that its log is not enough.
    pub async fn begin_resync(&mut self, puller: usize, donor: usize, reason: Reason) {
        if !self.are_connected(puller, donor) {
            return;
        }
        let (name, source) = (self.nodes[donor].id.clone(), self.store(donor));
        let may_drop = self.profile.collects().then_some(limits::RESYNC_DROPS_MIN);
        let Some(running) = self.running_mut(puller) else { return };
        if running.is_resyncing() {
            return;
        }
        let known = running.resync.take();
        let had_another = known.as_ref().is_some_and(|known| known.donor != donor);
        let known = known.filter(|known| known.donor == donor && known.joiner.is_resumable());
        let is_resumed = known.is_some();
        let store = running.store.clone();
        let terms = Terms { may_drop, present: running.members.present() };
        let verifier = verifier(&store, TrustMode::Centralized);
        let fresh = || match self.is_strict() {
            true => self.doubted_resync(puller, donor),
            false => {
                let joiner = Joiner::new(store, name, terms, Some(verifier));
                Some(Resync { donor, joiner, feed: None, pages: 0, said: Vector::default(), owes: None })
            }
        };
        let Some(mut resync) = known.or_else(fresh) else { return };
        let request = resync.joiner.request();
        let Some(source) = source else { return };
        let puller_applied = self.running(puller).map(|running| running.store.applied()).unwrap_or_default();
        let caller = self.nodes[puller].id.to_string();
        if source.check_rollback(&puller_applied, &caller).await.is_err() {
            return;
        }
        match SnapshotFeed::begin(source, request) {
            Ok(feed) => resync.feed = Some(feed),
            Err(SnapshotError::Restarted) => {
                self.tally.add("resyncs begun anew", 1);
                return;
            }
            Err(error) => panic!("{donor} does not understand {puller}'s cursor: {error}"),
        }
        self.tally.add("resyncs resumed", u64::from(is_resumed));
        self.tally.add("resyncs that changed donors", u64::from(had_another));
        self.note(format!("{puller} resyncs from {donor}: {reason:?}, resumed: {is_resumed}"));
        if let Some(running) = self.running_mut(puller) {
            running.resync = Some(resync);
        }
    }

    /// Some message of each resync comes, or the stream breaks.
    pub async fn go_on_with_resyncs(&mut self) {
        for puller in 0..self.nodes.len() {
            let Some(donor) = self.donor_of(puller) else { continue };
            for _ in 0..self.random.random_range(1..=3) {
                if !self.are_connected(puller, donor) || self.random.random_bool(0.04) {
                    self.break_off(puller);
                }
                if self.go_on_with_resync(puller).await {
                    break;
                }
            }
        }
    }

    fn donor_of(&self, puller: usize) -> Option<usize> {
        let resync = self.running(puller)?.resync.as_ref()?;
        resync.feed.is_some().then_some(resync.donor)
    }

    pub fn break_off(&mut self, puller: usize) {
        let Some(resync) = self.running_mut(puller).and_then(|running| running.resync.as_mut()) else {
            return;
        };
        if resync.feed.take().is_some() {
            resync.joiner.pause();
            self.tally.add("resyncs broken off", 1);
            self.note(format!("{puller}'s resync breaks off"));
        }
    }

    pub fn break_a_resync(&mut self) {
        let puller = self.any_node();
        self.break_off(puller);
    }

    /// One message of a resync. Returns whether that was the last.
    pub async fn go_on_with_resync(&mut self, puller: usize) -> bool {
        let Some(running) = self.nodes[puller].running.as_mut() else { return false };
        let Some(resync) = running.resync.as_mut() else { return false };
        let Some(feed) = resync.feed.as_mut() else { return false };
        let message = feed.next().await.expect("the donor reads").expect("the end is the last message");
        match &message.message {
            Some(Message::Log(page)) => self.history.note_batch(page.batch.as_ref().expect("a batch")),
            Some(Message::Records(_)) => resync.pages += 1,
            _ => {}
        }
        let before = running.store.applied();
        let what = format!("{:?}", message.message.as_ref().map(std::mem::discriminant));
        let Some(message) = self.sent_page(puller, message) else { return false };
        let Some(resync) = self.running_mut(puller).and_then(|running| running.resync.as_mut()) else {
            return false;
        };
        let (donor, pages) = (resync.donor, resync.pages);
        let outcome = resync.joiner.take(message).await;
        self.touched.insert(puller);
        self.note(format!("{puller} takes {what}: {outcome:?}"));
        if self.is_strict() {
            self.check_resynced(puller, donor, &outcome);
            self.check_adopted(puller, &before);
        }
        if matches!(outcome, Ok(true) | Err(JoinError::Unsigned(_))) {
            // What it has claimed may be told to others and retracted before the next look.
            self.look(puller).await;
        }
        match outcome {
            Ok(false) => false,
            Ok(true) => {
                self.tally.add("resyncs", 1);
                self.tally.add("resyncs of several pages", u64::from(pages > 1));
                self.forget_resync(puller);
                true
            }
            Err(JoinError::Store(StoreError::RolledBack { .. })) => {
                self.break_off(puller);
                false
            }
            Err(error)
                if self.is_strict()
                    && (error.kind().is_some() || matches!(error, JoinError::Unsigned(_))) =>
            {
                self.tally.add("resyncs refused", 1);
                true
            }
            // A snapshot that was resumed shows the last bundles of now. Another one begins from the start.
            Err(JoinError::Unsigned(_)) => {
                self.tally.add("claims of logs left out", 1);
                self.forget_resync(puller);
                true
            }
            Err(error) => panic!("{puller} cannot join: {error}"),
        }
    }

    fn forget_resync(&mut self, puller: usize) {
        if let Some(running) = self.running_mut(puller) {
            running.resync = None;
        }
    }
}
