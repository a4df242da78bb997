//! Jittered exponential backoff. Only this file uses the `backoff` crate, which is unmaintained.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

/// The delays between retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first delay, before jitter.
    pub first_delay: Duration,
    /// The longest delay, before jitter.
    pub max_delay: Duration,
    /// Stop after this long; `None` = never.
    pub max_elapsed: Option<Duration>,
}

/// The retries of one operation under a [`RetryPolicy`].
#[derive(Debug)]
pub struct Retry(ExponentialBackoff);

impl Retry {
    /// Starts the clock of the policy.
    pub fn new(policy: RetryPolicy) -> Self {
        let mut backoff = ExponentialBackoff {
            current_interval: policy.first_delay,
            initial_interval: policy.first_delay,
            randomization_factor: 0.5,
            multiplier: 2.0,
            max_interval: policy.max_delay,
            max_elapsed_time: policy.max_elapsed,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self(backoff)
    }

    /// How long to wait before the next attempt; `None` = stop.
    pub fn next_delay(&mut self) -> Option<Duration> {
        self.0.next_backoff()
    }

    /// Begins again with the first delay, after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_jitter_to_the_longest_and_begin_again_after_a_reset() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut retry = Retry::new(RetryPolicy { first_delay: first, max_delay: longest, max_elapsed: None });
        let delay = retry.next_delay().unwrap();
        assert!(delay >= first / 2 && delay <= first * 3 / 2, "{delay:?}");
        let late: Vec<_> = (0..20).filter_map(|_| retry.next_delay()).skip(10).collect();
        assert_eq!(late.len(), 10);
        assert!(late.iter().all(|delay| *delay >= longest / 2 && *delay <= longest * 3 / 2), "{late:?}");
        retry.reset();
        assert!(retry.next_delay().unwrap() <= first * 3 / 2);
    }

    #[test]
    fn a_bounded_policy_stops() {
        let policy = RetryPolicy {
            first_delay: Duration::from_secs(10),
            max_delay: Duration::from_secs(10),
            max_elapsed: Some(Duration::ZERO),
        };
        assert_eq!(Retry::new(policy).next_delay(), None);
    }
}
