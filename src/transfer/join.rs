//! The puller's end of a snapshot, of a donor's or of a backup's: joins its messages, durably.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::{
    bundles::{Bundles, named},
    claimed::Header,
    proof::{ProofError, Verifier},
    work,
};
use crate::{
    runtime::planted::{self, Bug},
    store::{HeldBundles, Page, RecordPage, Store, Stretch},
};
use brock_core::{
    base::{
        id::{KeyHash, NodeId, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        birth::SignedBirth, bundle::Tip, codec, leaves::Leaves, order::Chain, record::RecordState,
        segment::Segment,
    },
    proto::{self, snapshot_response::Message},
};

pub use super::{
    claimed::Declines,
    join_error::{JoinError, Unproven},
};

/// What is taken on the donor's word.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// How many records its pages may drop, because it has deleted and forgotten them; `None` = this node
    /// collects no tombstones, and nothing is taken from a donor that does.
    pub may_drop: Option<u64>,
    /// Origins that nodes write to now: they are not over, whatever the donor says.
    pub present: Vec<Origin>,
}

impl Terms {
    /// Of a backup that was made here: everything.
    pub fn own_backup() -> Self {
        Self { may_drop: Some(u64::MAX), present: Vec::new() }
    }
}

/// The states of a page as far as they are believed.
#[derive(Default)]
struct BelievedPage {
    states: Vec<(KeyHash, RecordState)>,
    /// What is to be kept with them.
    bundles: Vec<(Origin, Leaves)>,
    /// The operations that were left out, of those that the donor's vector covers.
    unproven: Unproven,
    /// Whether any at all was left out.
    has_gaps: bool,
}

/// The puller's end. Remembers how far it came, so that an interrupted snapshot can continue.
pub struct Joiner {
    store: Store,
    donor: NodeId,
    /// Who the donor is, as far as its certificate proves it.
    holder: String,
    terms: Terms,
    /// `None`: the messages are those of a backup, which is signed as a whole.
    verifier: Option<Verifier>,
    header: Option<Header>,
    after: Option<KeyHash>,
    is_in_log: bool,
    after_stamp: Option<Stamp>,
    /// The last bundles of the donor's logs, as it shows them.
    shown: HashMap<Origin, Tip>,
    /// The last bundle of each log that was copied.
    tips: HashMap<Origin, Tip>,
    /// Of its records, verified.
    bundles: Bundles,
    /// Bundles that came with earlier pages of this stream stay in the store, whether or not a record names them yet.
    held: Option<HeldBundles>,
    /// Whether the donor has collected tombstones.
    drops: bool,
    /// Records dropped.
    pub dropped: u64,
    unproven: Unproven,
    declines: Option<Declines>,
    /// Origins of the donor that this node does not take.
    declined: BTreeSet<Origin>,
    /// Records joined.
    pub records: u64,
    /// Log entries copied.
    pub log_entries: u64,
}

impl Joiner {
    /// At the beginning.
    pub fn new(store: Store, donor: NodeId, terms: Terms, verifier: Option<Verifier>) -> Self {
        Self {
            held: None,
            bundles: Bundles::default(),
            store,
            holder: donor.to_string(),
            donor,
            terms,
            verifier,
            unproven: Unproven::default(),
            header: None,
            after: None,
            is_in_log: false,
            after_stamp: None,
            shown: HashMap::new(),
            tips: HashMap::new(),
            drops: false,
            declines: None,
            declined: BTreeSet::new(),
            dropped: 0,
            records: 0,
            log_entries: 0,
        }
    }

    /// The same with a peer: `holder` is who it is, as far as its certificate proves it; `declines` decides which of
    /// its origins are not taken.
    pub fn from_peer(
        store: Store,
        (donor, holder): (NodeId, String),
        terms: Terms,
        verifier: Verifier,
        declines: Declines,
    ) -> Self {
        Self { holder, declines: Some(declines), ..Self::new(store, donor, terms, Some(verifier)) }
    }

    /// Whether it may continue where it was interrupted. Not with a donor that has collected
    /// tombstones: records that its pages removed may have come back from elsewhere meanwhile.
    pub fn is_resumable(&self) -> bool {
        !self.drops
    }

    /// Whether taking the message may remove records: nothing that could bring them back may be applied from then
    /// on, until the last message was taken.
    pub fn may_drop(&self, message: &proto::SnapshotResponse) -> bool {
        let collected = match &message.message {
            Some(Message::Records(page)) => &page.collected,
            Some(Message::End(end)) => &end.collected,
            _ => &None,
        };
        self.drops || collected.as_ref().is_some_and(|collected| !collected.clocks.is_empty())
    }

    /// Before it waits to be continued: what it has of bundles is not needed, because the donor sends all again.
    pub fn pause(&mut self) {
        self.bundles = Bundles::default();
        self.held = None;
    }

    /// How many records there will be, estimated.
    pub fn expected(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.records)
    }

    /// The request to the donor.
    pub fn request(&self) -> proto::SnapshotRequest {
        let cursor = self.header.as_ref().map(|header| proto::SnapshotCursor {
            incarnation: header.incarnation,
            after_key_hash: self.after.map(|after| Bytes::copy_from_slice(&after.0)).unwrap_or_default(),
            log: self.is_in_log || self.after == Some(RecordPage::END),
            after_stamp: self.after_stamp.map(codec::stamp_to_proto),
            vector: Some(codec::vector_to_proto(&header.said)),
        });
        proto::SnapshotRequest {
            node_id: self.store.node_id().to_string(),
            cursor,
            applied: Some(codec::vector_to_proto(&self.store.applied())),
        }
    }

    /// Joins one message, durably. Returns whether it was the last.
    ///
    /// Contract: before the last message, states are joined, which is always safe, and log entries are
    /// kept, which are not visible yet. Of a record of which something is not proven, no create is joined. The last
    /// message raises the vector over everything that the pages held, but for the origins that are declined: their
    /// records are joined, and nothing of them counts as applied, so what was left out comes later, by the log or by
    /// another resync.
    pub async fn take(&mut self, message: proto::SnapshotResponse) -> Result<bool, JoinError> {
        let message = message.message.ok_or_else(|| JoinError::Protocol("an empty message".to_owned()))?;
        match message {
            Message::Header(header) => self.take_header(header).await?,
            Message::Births(births) => self.take_births(births).await?,
            Message::Records(page) => self.take_records(page).await?,
            Message::Log(page) => {
                let batch = page.batch.unwrap_or_default();
                let entries = batch.entries.len() as u64;
                let sent_through = Clock(batch.covered_through);
                let segment = match self.check(batch).await {
                    // The records that it has made are left out too: there is nothing to relay.
                    Err(JoinError::Proof(ProofError::Closed(origin))) => {
                        self.is_in_log = true;
                        self.after_stamp = Some(Stamp { origin, clock: sent_through });
                        return Ok(false);
                    }
                    checked => checked?,
                };
                let last = Stamp { origin: segment.origin, clock: segment.covered_through };
                if self.declined.contains(&segment.origin) {
                    self.is_in_log = true;
                    self.after_stamp = Some(last);
                    return Ok(false);
                }
                let through = self.header.as_ref().map(|header| header.vector.get(&segment.origin));
                if through.is_none_or(|through| segment.covered_through > through) {
                    return Err(JoinError::Protocol("its log goes beyond its header".to_owned()));
                }
                self.compare_history(&segment).await?;
                self.store.import_log(segment).await?;
                self.is_in_log = true;
                self.after_stamp = Some(last);
                self.log_entries += entries;
            }
            Message::End(end) => {
                let Some(header) = &mut self.header else {
                    return Err(JoinError::Protocol("its end came before its header".to_owned()));
                };
                if self.after != Some(RecordPage::END) {
                    return Err(JoinError::Protocol("its end came before its last record".to_owned()));
                }
                if self.unproven.operations > 0 {
                    return Err(JoinError::Unproven(self.unproven));
                }
                if let Some(declines) = &self.declines {
                    // What another donor has supplied meanwhile counts too.
                    header.leave_out(declines, true);
                }
                let mut adoption = header.adoption();
                (adoption.collected, _) = self.collected(end.collected)?;
                adoption.tips = self.genuine_tips().await?;
                let unsigned = match &self.verifier {
                    Some(verifier) => verifier.leave_unsigned(&mut adoption, &self.terms.present),
                    None => Vec::new(),
                };
                self.store.adopt(adoption).await?;
                return if unsigned.is_empty() { Ok(true) } else { Err(JoinError::Unsigned(unsigned)) };
            }
        }
        Ok(false)
    }

    /// The last bundles of the donor's logs, as far as their origins have signed them. In a backup, which is signed as
    /// a whole, all.
    async fn genuine_tips(&mut self) -> Result<HashMap<Origin, Tip>, JoinError> {
        let mut shown = std::mem::take(&mut self.shown);
        let applied = self.store.applied();
        shown.retain(|origin, tip| tip.bundle.last() > applied.get(origin));
        let mut tips = match &self.verifier {
            Some(verifier) => verifier.genuine_tips(shown).await?,
            None => shown,
        };
        for (origin, copied) in std::mem::take(&mut self.tips) {
            let tip = tips.entry(origin).or_insert(copied);
            // At its end, the log that is here now counts, whatever else was shown.
            if tip.bundle.last() <= copied.bundle.last() {
                *tip = copied;
            }
        }
        Ok(tips)
    }

    /// A log that does not continue what is here of it proves that its origin has signed two histories, and freezes it:
    /// then nothing of it is kept. Otherwise this node would pass on a log of which each bundle is genuine, and the
    /// whole is not.
    async fn compare_history(&mut self, segment: &Segment) -> Result<(), JoinError> {
        let origin = segment.origin;
        let (Some(verifier), Some(proof)) = (&self.verifier, &segment.proof) else { return Ok(()) };
        if self.after_stamp.is_some_and(|after| Stamp { origin, clock: segment.after } < after) {
            return Err(JoinError::Protocol("its log is out of order".to_owned()));
        }
        // What is applied here may go further than the page before, and the other way round.
        let ends = [self.tips.get(&origin).copied(), self.store.tip(&origin)];
        for here in ends.into_iter().flatten() {
            if let Some(theirs) = proof.bundles().iter().find(|theirs| here.contradicts(theirs))
                && !verifier.prove_fork(origin, here, *theirs).await?
            {
                return Err(JoinError::Protocol("its log does not continue the one that is here".to_owned()));
            }
        }
        self.tips.extend(proof.bundles().last().map(|tip| (origin, *tip)));
        Ok(())
    }

    /// What the donor says it has collected, and how many records may still be dropped because of that.
    fn collected(&self, said: Option<proto::Vector>) -> Result<(Vector, u64), JoinError> {
        let collected = codec::vector_from_proto(&said.unwrap_or_default())?;
        match self.terms.may_drop {
            Some(may_drop) => Ok((collected, may_drop.saturating_sub(self.dropped))),
            None if collected.is_empty() => Ok((collected, 0)),
            None => Err(JoinError::Collected),
        }
    }

    async fn take_header(&mut self, header: proto::SnapshotHeader) -> Result<(), JoinError> {
        if header.node_id != self.donor.as_str() {
            return Err(JoinError::Protocol("it is another node's".to_owned()));
        }
        let said = codec::vector_from_proto(&header.vector.unwrap_or_default())?;
        let mut fresh = Header {
            incarnation: header.incarnation,
            vector: said.clone(),
            said,
            folds: codec::folds_from_proto(header.folds.unwrap_or_default())?,
            records: header.records,
            donors: self.donors(&header.unconfirmed),
        };
        // An origin that is written to is applied up to there, and not over.
        for origin in &self.terms.present {
            fresh.vector.raise(*origin, fresh.folds.get(origin));
            fresh.folds.remove(origin);
        }
        // If the donor has more of this node's operations than this node, the storage was rolled back,
        // and the donor's clocks must not be used again.
        let theirs = fresh.vector.get(&self.store.origin()).max(fresh.folds.get(&self.store.origin()));
        self.store.rolled_back(theirs, &self.holder).await?;
        if planted::is(Bug::AdoptFirst) {
            self.store.adopt(fresh.adoption()).await?;
        }
        match &self.header {
            Some(known) if known.incarnation == fresh.incarnation && known.said == fresh.said => {}
            Some(_) => return Err(JoinError::Protocol("it continued with another snapshot".to_owned())),
            None => {
                if let Some(declines) = &self.declines {
                    self.declined = fresh.leave_out(declines, false);
                }
                self.header = Some(fresh);
            }
        }
        Ok(())
    }

    /// The donor, unless it is a backup of this node, and those that have filled it and are not confirmed there. What a
    /// node has once given to another, it does not get back on its own word alone.
    fn donors(&self, unconfirmed: &[String]) -> Vec<NodeId> {
        let own = self.store.node_id();
        let others = unconfirmed.iter().filter_map(|donor| donor.parse().ok());
        let others = others.filter(|donor: &NodeId| donor != own && *donor != self.donor);
        let donor = self.verifier.as_ref().map(|_| self.donor.clone());
        donor.into_iter().chain(others.take(limits::FILLS_MAX)).collect()
    }

    async fn take_births(&mut self, births: proto::Births) -> Result<(), JoinError> {
        let Some(header) = &self.header else {
            return Err(JoinError::Protocol("its births came before its header".to_owned()));
        };
        let expected = header.covered();
        let shown = births.tips.iter().filter_map(Tip::with_origin);
        // A snapshot that continues shows later ones, if the log has grown.
        self.shown.extend(shown.filter(|(origin, tip)| expected.get(origin) == tip.bundle.last()));
        match &self.verifier {
            Some(verifier) => Ok(verifier.learn(births.births, &expected).await?),
            None => {
                let births = births.births.into_iter().map(SignedBirth::from_proto);
                Ok(self.store.keep_births(births.collect::<Result<_, _>>()?, &expected).await?)
            }
        }
    }

    /// Checks a stretch of the log, with every order in it: the records decide what is in effect here, and may not show
    /// what it destroys, but this node would pass the log on.
    async fn check(&self, mut batch: proto::Batch) -> Result<Segment, JoinError> {
        let (donor, verifier) = (self.donor.clone(), self.verifier.clone());
        let checking = work(move || {
            let Some(verifier) = verifier else {
                let chains = Chain::take(&mut batch);
                return Ok::<_, JoinError>((Segment::check(batch)?, chains));
            };
            let checked = verifier.check_batch(&donor, batch, |_| Clock::default())?;
            match checked.refused {
                Some(refused) => Err(JoinError::Order(Box::new(refused))),
                None => Ok((checked.segment, checked.chains)),
            }
        });
        let (segment, chains) = checking.await??;
        self.store.keep_chains(chains).await?;
        Ok(segment)
    }

    async fn believe(
        &mut self,
        claimed: Vec<(KeyHash, proto::RecordState)>,
        bundles: Vec<proto::Leaves>,
        received: Vec<Chain>,
    ) -> Result<BelievedPage, JoinError> {
        let (verifier, store) = (self.verifier.clone(), self.store.clone());
        let covered = self.header.as_ref().map(Header::covered);
        // What is above the vector comes by the log.
        let counts = move |stamp: &Stamp| covered.as_ref().is_none_or(|covered| covered.has(*stamp));
        let mut known = std::mem::take(&mut self.bundles);
        // Hashes every payload, and verifies signatures.
        let believing = work(move || {
            let verifier = verifier.as_ref().filter(|_| !planted::is(Bug::SkipVerifyPage));
            let states =
                claimed.into_iter().map(|(key_hash, state)| Ok((key_hash, codec::foreign_state(state)?)));
            let states: Vec<_> = states.collect::<Result<_, JoinError>>()?;
            let mut page = BelievedPage::default();
            let Some(verifier) = verifier else {
                page.bundles = named(&bundles, states.iter().map(|(_, state)| state));
                page.states = states;
                return Ok::<_, JoinError>((page, known, received));
            };
            let (believed, kept) = verifier.believe_all(states, (&bundles, &received), &mut known);
            page.bundles = kept;
            let mut chains = Vec::new();
            let joinable = believed.into_iter().map(|(key_hash, mut believed)| {
                chains.append(&mut believed.chains);
                page.has_gaps |= !believed.unproven.is_empty();
                believed.unproven.retain(&counts);
                for lacking in &believed.unproven {
                    page.unproven.add(*lacking, store.born(&lacking.origin).is_some());
                }
                (key_hash, believed.joinable())
            });
            page.states = joinable.collect();
            Ok((page, known, chains))
        });
        let (page, known, chains) = believing.await??;
        self.bundles = known;
        self.store.keep_chains(chains).await?;
        Ok(page)
    }

    async fn take_records(&mut self, page: proto::RecordPage) -> Result<(), JoinError> {
        if self.header.is_none() {
            return Err(JoinError::Protocol("its records came before its header".to_owned()));
        }
        let malformed = |_| JoinError::Protocol("a record's key hash is malformed".to_owned());
        let through = KeyHash::try_from(page.through.as_ref()).map_err(malformed)?;
        let mut claimed = Vec::with_capacity(page.records.len());
        let mut last = self.after;
        for record in page.records {
            let key_hash = KeyHash::try_from(record.key_hash.as_ref()).map_err(malformed)?;
            if last.is_some_and(|last| key_hash <= last) || key_hash > through {
                return Err(JoinError::Protocol("a page has a record out of order".to_owned()));
            }
            last = Some(key_hash);
            let state = record.state.unwrap_or_default();
            claimed.push((key_hash, state));
        }
        if self.after.is_some_and(|after| through <= after) {
            return Err(JoinError::Protocol("a page ends before it begins".to_owned()));
        }
        if self.held.is_none() {
            self.held = Some(self.store.hold_bundles().await);
        }
        let (collected, may_drop) = self.collected(page.collected)?;
        let received = Chain::read(page.chains, limits::STATES_CHAINS_READ);
        let believed = self.believe(claimed, page.bundles, received).await?;
        let BelievedPage { states, bundles, unproven, has_gaps } = believed;
        self.unproven.join(unproven);
        self.records += states.len() as u64;
        // What the donor has and this node does not believe, the donor has not forgotten.
        let collected = if has_gaps { Vector::default() } else { collected };
        self.drops |= !collected.is_empty();
        let stretch = Stretch { after: self.after, through, collected, may_drop };
        let joined = self.store.join(Page { states, bundles, complete: Some(stretch) }).await?;
        self.dropped += joined.dropped as u64;
        self.after = Some(through);
        Ok(())
    }
}
