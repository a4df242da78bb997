//! Heads that peers pass on: verified, compared with the log here, kept.

use std::collections::BTreeSet;

use super::{proof::Verifier, work};
use crate::{
    runtime::planted::{self, Bug},
    store::StoreError,
};
use brock_core::{base::limits, domain::head::Head, proto};

impl Verifier {
    /// Keeps those of a peer's heads that go further than what is known, are genuine and not from the future, and
    /// freezes the origins whose heads are of another history than the log here, or than each other. Returns how many
    /// are refused.
    ///
    /// Contract: only such heads are verified, one of each origin, and nothing behind the first that is not genuine: no
    /// honest peer passes that on. A head of an origin whose birth is not known here, or beyond the end that an
    /// operator has set, is left.
    pub async fn take_heads(&self, heads: Vec<proto::Head>, now_unix_ms: u64) -> Result<usize, StoreError> {
        let mut refused = usize::from(heads.len() > limits::HEADS_MAX);
        let latest = now_unix_ms.saturating_add(limits::CLOCK_SKEW_MAX_SECONDS * 1000);
        let (mut wanted, mut origins) = (Vec::new(), BTreeSet::new());
        for head in heads.iter().take(limits::HEADS_MAX) {
            match Head::from_proto(head).filter(|head| head.at_unix_ms <= latest) {
                Some(head) if origins.insert(head.origin) && self.wants(&head) => wanted.push(head),
                Some(_) => {}
                None => refused += 1,
            }
        }
        if !wanted.is_empty() {
            let this = self.clone();
            let count = wanted.len();
            let is_genuine = move |head: &Head| {
                let born = this.store().born(&head.origin);
                let is_skipped = planted::is(Bug::SkipVerifyHead);
                born.is_some_and(|born| is_skipped || head.is_genuine(&this.cluster(), &born.key))
            };
            let genuine = work(move || wanted.into_iter().take_while(is_genuine).collect::<Vec<_>>()).await?;
            refused += usize::from(genuine.len() < count);
            for head in genuine {
                self.take_head(head).await?;
            }
        }
        for head in self.store().approached_heads() {
            self.compare_head(&head).await?;
        }
        Ok(refused)
    }

    fn wants(&self, head: &Head) -> bool {
        let store = self.store();
        head.origin != store.origin()
            && store.head(&head.origin).is_none_or(|known| known.clock() < head.clock())
            && store.born(&head.origin).is_some()
            && !store.is_frozen(&head.origin)
            && self.end_of(&head.origin).is_none_or(|end| head.clock() <= end)
    }

    async fn take_head(&self, head: Head) -> Result<(), StoreError> {
        let known = self.store().head(&head.origin).filter(|known| known.tip.contradicts(&head.tip));
        if let Some(known) = known {
            self.prove_fork(head.origin, known.tip, head.tip).await?;
            return Ok(());
        }
        self.store().keep_head(head);
        self.compare_head(&head).await
    }

    /// As far as the log is here. Of one that is here on a donor's word, it may be the last bundle.
    async fn compare_head(&self, head: &Head) -> Result<(), StoreError> {
        match self.store().contradiction(head.origin, head.tip).await? {
            Some(_) if planted::is(Bug::IgnoreOtherHead) => {}
            Some(here) => {
                self.prove_fork(head.origin, here, head.tip).await?;
            }
            None => {
                self.learn_tip(head.origin, head.tip).await?;
            }
        }
        Ok(())
    }
}
