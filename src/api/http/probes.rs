//! `/healthz`: whether the node keeps up with its peers, by thresholds in the query.

use std::time::Duration;

use crate::membership::compare::SyncStatus;
use brock_core::base::duration;

/// The limits that the caller calls healthy. `None`: not checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// Operations that a single peer has and this node lacks.
    max_lag_entries: Option<u64>,
    /// Time since the last message from any peer.
    max_gap: Option<Duration>,
}

impl Thresholds {
    /// Parses the query. Unknown and repeated parameters are errors: a misspelt check would otherwise
    /// always succeed.
    pub(crate) fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let mut read = Self::default();
        for (name, value) in query {
            let is_repeated = match name.as_str() {
                "max_lag" => {
                    let entries = count(value).ok_or_else(|| {
                        format!("max_lag={value} is not a whole number; write digits only, such as 1000")
                    })?;
                    read.max_lag_entries.replace(entries).is_some()
                }
                "max_gap" => {
                    let gap = duration::parse(value)
                        .map_err(|error| format!("max_gap={value} is not a duration; {error}"))?;
                    read.max_gap.replace(gap).is_some()
                }
                _ => return Err(format!("unknown parameter {name}; the parameters are max_lag and max_gap")),
            };
            if is_repeated {
                return Err(format!("{name} is given twice"));
            }
        }
        Ok(read)
    }

    /// Each exceeded threshold as a sentence; empty = healthy. A value that is not known yet exceeds its
    /// threshold. A node without peers is always healthy.
    pub(crate) fn exceeded(&self, sync: &SyncStatus) -> Vec<String> {
        let mut reasons = Vec::new();
        if sync.peers == 0 {
            return reasons;
        }
        if let Some(max) = self.max_lag_entries {
            match sync.lag_entries {
                None => reasons.push("no peer has said yet what it has".to_owned()),
                Some(lag) if lag > max => {
                    reasons
                        .push(format!("this node lacks {lag} operations that a peer has, more than {max}"));
                }
                Some(_) => {}
            }
        }
        if let Some(max) = self.max_gap {
            match sync.gap {
                None => reasons.push("nothing was heard from any peer yet".to_owned()),
                Some(gap) if gap > max => reasons.push(format!(
                    "nothing was heard from any peer for {}, longer than {}",
                    duration::format(Duration::from_secs(gap.as_secs())),
                    duration::format(max)
                )),
                Some(_) => {}
            }
        }
        reasons
    }
}

/// Digits only: the standard library would accept a leading '+'.
fn count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Thresholds, String> {
        let query: Vec<_> = query.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Thresholds::parse(&query)
    }

    #[test]
    fn a_query_that_is_not_a_threshold_is_refused() {
        assert_eq!(parse(&[]), Ok(Thresholds::default()));
        for (query, part) in [
            (&[("max_lag", "-1")][..], "max_lag=-1"),
            (&[("max_lag", "")], "max_lag="),
            (&[("max_gap", "30")], "max_gap=30"),
            (&[("max-gap", "30s")], "unknown parameter max-gap"),
            (&[("max_lag", "1"), ("max_lag", "2")], "max_lag is given twice"),
        ] {
            let problem = parse(query).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn a_node_is_healthy_up_to_the_thresholds_and_not_while_it_does_not_know() {
        let thresholds = parse(&[("max_lag", "10"), ("max_gap", "5s")]).unwrap();
        let reasons = |peers, lag_entries, gap_seconds: Option<u64>| {
            let gap = gap_seconds.map(Duration::from_secs);
            thresholds.exceeded(&SyncStatus { peers, lag_entries, gap })
        };
        assert!(reasons(2, Some(10), Some(5)).is_empty());
        assert!(reasons(0, None, None).is_empty(), "it has no peer to keep up with");
        assert_eq!(
            reasons(2, Some(11), Some(65)),
            [
                "this node lacks 11 operations that a peer has, more than 10",
                "nothing was heard from any peer for 1m5s, longer than 5s"
            ]
        );
        assert_eq!(reasons(2, None, None).len(), 2);
        assert!(
            Thresholds::default().exceeded(&SyncStatus { peers: 2, lag_entries: None, gap: None }).is_empty()
        );
    }
}
