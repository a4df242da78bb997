//! The time from an operation's commit at its origin until it is visible here.
//!
//! No two wall clocks are compared. The origin says how old each entry was, by its own clock, when it read
//! the entry for this puller. The puller adds half a round trip and the time until its own commit. Entries
//! from a relay have no age: the relay knows when it received an entry, not when the entry was made.

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
    /// Takes the ages out of a batch from the node `donor` that was on its way for `travelled`. There are none
    /// if the donor is not the origin or does not give one age for each entry; ages above
    /// [`limits::VISIBLE_AGE_MAX`] are left out.
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

    /// Records the ages: the entries are visible now. Entries up to `before` arrived earlier by another path.
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
