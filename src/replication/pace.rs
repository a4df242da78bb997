//! The pace that a donor must keep in a resync.

use std::time::Duration;

use tokio::time::Instant;

use super::resync::ResyncError;
use crate::transfer::join::Joiner;
use brock_core::base::limits;

/// What a donor has delivered, against what it must.
pub(super) struct Pace {
    began: Instant,
    window_began: Instant,
    /// Within the window.
    items: u64,
    bytes: u64,
    /// Since the beginning.
    all_bytes: u64,
    /// Records that an earlier attempt had brought.
    records_before: u64,
}

impl Pace {
    /// A resync begins, after this many records of an earlier attempt.
    pub(super) fn new(now: Instant, records_before: u64) -> Self {
        Self { began: now, window_began: now, items: 0, bytes: 0, all_bytes: 0, records_before }
    }

    /// When [`Pace::check`] is due although nothing came.
    pub(super) fn window_ends(&self) -> Instant {
        self.window_began + limits::RESYNC_WINDOW
    }

    /// A message came. Without records or log entries in it, its bytes are no progress.
    pub(super) fn note(&mut self, items: u64, bytes: u64) {
        if items > 0 {
            self.items = self.items.saturating_add(items);
            self.bytes = self.bytes.saturating_add(bytes);
            self.all_bytes = self.all_bytes.saturating_add(bytes);
        }
    }

    /// Fails if the donor has delivered too little for the time, or more than it has announced.
    pub(super) fn check(&mut self, now: Instant, joiner: &Joiner) -> Result<(), ResyncError> {
        self.check_against(now, joiner.records, joiner.expected())
    }

    fn check_against(&mut self, now: Instant, records: u64, announced: u64) -> Result<(), ResyncError> {
        if records.saturating_sub(self.records_before)
            > announced.saturating_mul(2).saturating_add(limits::RESYNC_EXCESS_RECORDS)
        {
            return Err(ResyncError::Excess(announced));
        }
        if now >= self.window_ends() {
            if self.items < limits::RESYNC_WINDOW_ITEMS && self.bytes < limits::RESYNC_WINDOW_BYTES {
                return Err(ResyncError::Stalled);
            }
            (self.window_began, self.items, self.bytes) = (now, 0, 0);
        }
        let by_items = announced / limits::RESYNC_ITEMS_PER_SECOND;
        let by_bytes = self.all_bytes / limits::RESYNC_WINDOW_BYTES;
        let allowed = limits::RESYNC_GRACE
            .saturating_add(Duration::from_secs(by_items))
            .saturating_add(Duration::from_secs(by_bytes));
        if now.duration_since(self.began) > allowed {
            return Err(ResyncError::Late);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a donor gets with that sends `items` and `bytes` every second.
    fn outcome(items: u64, bytes: u64, announced: u64, seconds: u64) -> Result<(), ResyncError> {
        let began = Instant::now();
        let mut pace = Pace::new(began, 0);
        for second in 1..=seconds {
            pace.note(items, bytes);
            pace.check_against(began + Duration::from_secs(second), items * second, announced)?;
        }
        Ok(())
    }

    #[test]
    fn a_donor_that_drips_sends_nothing_or_never_ends_is_found_out() {
        assert!(
            matches!(outcome(0, 8 << 20, 1000, 100), Err(ResyncError::Stalled)),
            "empty pages are nothing"
        );
        assert!(matches!(outcome(1, 100, u64::MAX, 31), Err(ResyncError::Stalled)));
        assert!(matches!(outcome(20, 100, 10, 400), Err(ResyncError::Late)));
        assert!(matches!(outcome(2000, 1 << 20, 10, 100), Err(ResyncError::Excess(10))));
        assert!(outcome(300, 30_000, 300_000, 1000).is_ok());
        assert!(outcome(1, 1 << 20, 1000, 1000).is_ok(), "large records are few");
    }
}
