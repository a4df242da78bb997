//! How long operations take from their commit at their origin until they are visible here.
//!
//! No two wall clocks are compared. The origin says how old each entry was, by its own clock, when it
//! read it for this puller; the puller adds half a round trip and the time until its own commit. What
//! a relay sends has no age: the relay knows when it got an entry, not when the entry was made.

use std::time::Duration;

use tokio::time::Instant;

use brock_core::{
    base::{
        id::{NodeId, Origin},
        limits, metrics as names,
        vector::Clock,
    },
    proto,
};

/// The ages of a batch's entries when it arrived.
#[derive(Debug)]
pub(crate) struct Ages {
    arrived: Instant,
    /// By clock, ascending.
    ages: Vec<(Clock, Duration)>,
}

impl Ages {
    /// Takes them out of a batch from the node `donor`, which has travelled for `travelled`. None if the
    /// donor does not say, is not the origin, or says what cannot be.
    pub(crate) fn take(
        batch: &mut proto::Batch,
        donor: &NodeId,
        arrived: Instant,
        travelled: Duration,
    ) -> Self {
        let ages_ms = std::mem::take(&mut batch.ages_ms);
        let is_origin = Origin::try_from(batch.origin.as_ref()).is_ok_and(|origin| origin.is_of(donor));
        if !is_origin || ages_ms.len() != batch.entries.len() {
            return Self { arrived, ages: Vec::new() };
        }
        let age = |(entry, age_ms): (&proto::Entry, u64)| {
            (Clock(entry.clock), Duration::from_millis(age_ms).saturating_add(travelled))
        };
        let mut ages: Vec<_> = batch.entries.iter().zip(ages_ms).map(age).collect();
        ages.retain(|(_, age)| *age <= limits::VISIBLE_AGE_MAX);
        Self { arrived, ages }
    }

    /// Now they are visible here. What lies at or below `before` was visible earlier, by another way.
    pub(crate) fn record(self, address: &str, before: Clock) {
        let held = self.arrived.elapsed();
        if self.ages.last().is_none_or(|(clock, _)| *clock <= before) {
            return;
        }
        let seconds = metrics::histogram!(names::VISIBLE, "address" => address.to_owned());
        for (_, age) in self.ages.iter().filter(|(clock, _)| *clock > before) {
            seconds.record(age.saturating_add(held).as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::id::Incarnation;

    #[test]
    fn only_what_the_origin_itself_says_and_what_can_be_counts_as_an_age() {
        let donor: NodeId = "donor".parse().unwrap();
        let batch = |node: &str, ages_ms: &[u64]| proto::Batch {
            origin: bytes::Bytes::copy_from_slice(
                Origin::new(&node.parse().unwrap(), Incarnation(1)).as_bytes(),
            ),
            entries: (1..=3).map(|clock| proto::Entry { clock, ..proto::Entry::default() }).collect(),
            ages_ms: ages_ms.to_vec(),
            ..proto::Batch::default()
        };
        let travelled = Duration::from_millis(5);
        let ages = |mut batch: proto::Batch| {
            let taken = Ages::take(&mut batch, &donor, Instant::now(), travelled).ages;
            taken.iter().map(|(clock, age)| (clock.0, age.as_millis())).collect::<Vec<_>>()
        };
        assert_eq!(ages(batch("donor", &[10, 20, 0])), [(1, 15), (2, 25), (3, 5)]);
        assert_eq!(ages(batch("donor", &[10, u64::MAX, 0])), [(1, 15), (3, 5)]);
        assert_eq!(ages(batch("donor", &[])), [], "an older version says nothing");
        assert_eq!(ages(batch("donor", &[1, 2])), [], "of which entries?");
        assert_eq!(ages(batch("other", &[10, 20, 0])), [], "a relay cannot know");
    }
}
