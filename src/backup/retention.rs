//! Which backups are kept: hourly ones for a day, daily ones for a week, weekly ones for a month, and always
//! the whole chain of a kept backup.

use std::collections::{HashMap, HashSet};

use super::manifest::{Kind, Manifest};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;

/// How long backups are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// All backups, incremental ones included, are kept for this long.
    pub hourly_ms: u64,
    /// One full backup a day is kept for this long.
    pub daily_ms: u64,
    /// One full backup a week is kept for this long.
    pub weekly_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { hourly_ms: DAY_MS, daily_ms: WEEK_MS, weekly_ms: 31 * DAY_MS }
    }
}

impl Retention {
    /// The longest time for which a backup is kept.
    pub fn longest_ms(&self) -> u64 {
        self.hourly_ms.max(self.daily_ms).max(self.weekly_ms)
    }

    /// The expired backups of one node, newest first: deleted in this order, they never leave an
    /// incomplete chain. The newest full backup and all that are based on it never expire.
    pub fn expired<'a>(&self, manifests: &'a [Manifest], now_ms: u64) -> Vec<&'a Manifest> {
        let mut newest_first: Vec<&Manifest> = manifests.iter().collect();
        newest_first.sort_by(|a, b| (b.created_at_unix_ms, &b.key).cmp(&(a.created_at_unix_ms, &a.key)));
        // For each full backup the time of the newest one that is kept of its chain.
        let mut kept: HashMap<&str, u64> = HashMap::new();
        let mut periods: HashSet<(u64, u64)> = HashSet::new();
        let mut newest_full = None;
        for manifest in &newest_first {
            let age = now_ms.saturating_sub(manifest.created_at_unix_ms);
            let is_wanted = match manifest.kind {
                Kind::Full if newest_full.is_none() => {
                    newest_full = Some(manifest.key.as_str());
                    true
                }
                _ if age <= self.hourly_ms => true,
                Kind::Full if age <= self.daily_ms => {
                    periods.insert((DAY_MS, manifest.created_at_unix_ms / DAY_MS))
                }
                Kind::Full if age <= self.weekly_ms => {
                    periods.insert((WEEK_MS, manifest.created_at_unix_ms / WEEK_MS))
                }
                Kind::Full => false,
                Kind::Incremental => newest_full.is_none(),
            };
            if is_wanted {
                kept.entry(root(manifest)).or_insert(manifest.created_at_unix_ms);
            }
        }
        newest_first.retain(|manifest| {
            kept.get(root(manifest)).is_none_or(|youngest| manifest.created_at_unix_ms > *youngest)
        });
        newest_first
    }
}

/// The full backup at the beginning of its chain. The chain is not followed link by link: a listing may
/// lack some of them, and the rest must not look unneeded then.
fn root(manifest: &Manifest) -> &str {
    manifest.full.as_deref().unwrap_or(&manifest.key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Just, Strategy, prop_assert, proptest};

    use super::*;
    use crate::backup::manifest::{FORMAT_VERSION, Previous};

    const NOW_MS: u64 = 1_700_000_000_000;

    fn manifest(number: usize, age_ms: u64, follows: Option<(usize, usize)>) -> Manifest {
        let (previous, full) = follows.unzip();
        let key = |number: usize| format!("{number:06}");
        Manifest {
            format_version: FORMAT_VERSION,
            key: key(number),
            node_id: "a".to_owned(),
            incarnation: 1,
            kind: if previous.is_some() { Kind::Incremental } else { Kind::Full },
            created_at_unix_ms: NOW_MS - age_ms,
            vector: BTreeMap::new(),
            folds: BTreeMap::new(),
            records_digest: String::new(),
            tombstones_digest: String::new(),
            has_collected: false,
            records: 0,
            tombstones: 0,
            parts: Vec::new(),
            recipients: Vec::new(),
            previous: previous.map(|previous| Previous { key: key(previous), sha256: String::new() }),
            full: full.map(key),
            public_key: String::new(),
        }
    }

    #[test]
    fn a_year_of_hourly_backups_leaves_a_day_of_hours_a_week_of_days_and_a_month_of_weeks() {
        let hours: Vec<Manifest> =
            (0..365 * 24).map(|hour| manifest(hour, (365 * 24 - 1 - hour as u64) * HOUR_MS, None)).collect();
        let gone = Retention::default().expired(&hours, NOW_MS).len();
        let left = hours.len() - gone;
        assert!((24 + 6 + 3..=25 + 7 + 5).contains(&left), "{left} are left");
    }

    #[test]
    fn the_newest_full_backup_stays_however_old_it_is() {
        let old = [manifest(0, 400 * DAY_MS, None), manifest(1, 399 * DAY_MS, Some((0, 0)))];
        assert_eq!(Retention::default().expired(&old, NOW_MS), Vec::<&Manifest>::new());
    }

    proptest! {
        #[test]
        fn nothing_that_a_kept_backup_needs_ever_goes(
            gaps in proptest::collection::vec((1..20 * HOUR_MS, 0..4u8), 1..60).prop_flat_map(Just),
        ) {
            let mut age = gaps.iter().map(|(gap, _)| gap).sum::<u64>();
            let mut manifests: Vec<Manifest> = Vec::new();
            let mut full = 0;
            for (number, (gap, kind)) in gaps.iter().enumerate() {
                age -= gap;
                if *kind == 0 || number == 0 {
                    full = number;
                }
                let follows = (full != number).then(|| (number - 1, full));
                manifests.push(manifest(number, age, follows));
            }
            let gone = Retention::default().expired(&manifests, NOW_MS);
            let mut left: HashSet<&str> = manifests.iter().map(|manifest| manifest.key.as_str()).collect();
            // One after the other, as they are deleted: every remaining chain is complete.
            for manifest in gone {
                left.remove(manifest.key.as_str());
                for kept in manifests.iter().filter(|kept| left.contains(kept.key.as_str())) {
                    let needs = kept.previous.as_ref().map(|previous| previous.key.as_str());
                    prop_assert!(needs.is_none_or(|key| left.contains(key)), "{} lacks {needs:?}", kept.key);
                }
            }
            prop_assert!(manifests.iter().any(|m| left.contains(m.key.as_str()) && m.kind == Kind::Full));
        }
    }
}
