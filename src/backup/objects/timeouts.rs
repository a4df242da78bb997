//! How long operations on objects may take, and retries.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::error::{Act, Attempts, ObjectError};
use crate::runtime::retry::{Retry, RetryPolicy};
use brock_core::base::{limits, metrics as names};

/// How long operations may take. The defaults are in `limits.rs`; tests use shorter times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The first delay after a transient fault.
    pub first_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// How long one attempt may take, plus the time for its bytes.
    pub attempt: Duration,
    /// How long one request may take with all its retries, plus the time for its bytes.
    pub total: Duration,
    /// How long all pages of a listing, or all batches of a delete, may take.
    pub scan: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_delay: limits::OBJECT_RETRY_FIRST,
            max_delay: limits::OBJECT_RETRY_MAX,
            attempt: limits::OBJECT_ATTEMPT_TIMEOUT,
            total: limits::OBJECT_TOTAL_TIMEOUT,
            scan: limits::OBJECT_SCAN_TIMEOUT,
        }
    }
}

impl Timeouts {
    /// How long one attempt that moves this many bytes may take.
    pub fn attempt_of(&self, size_bytes: u64) -> Duration {
        self.attempt + transfer_time(size_bytes)
    }

    /// How long a request that moves this many bytes may take with all its retries.
    pub fn total_of(&self, size_bytes: u64) -> Duration {
        self.total + transfer_time(size_bytes)
    }

    /// The one policy for retries of operations on objects.
    pub(super) fn retry(&self, size_bytes: u64) -> Retry {
        Retry::new(RetryPolicy {
            first_delay: self.first_delay,
            max_delay: self.max_delay,
            max_elapsed: Some(self.total_of(size_bytes)),
        })
    }

    /// Repeats `attempt` until it succeeds, fails for good, or its time is over.
    pub(super) async fn with_retries<T, F: Future<Output = Result<T, ObjectError>>>(
        &self,
        act: Act,
        place: &str,
        size_bytes: u64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ObjectError> {
        let started = Instant::now();
        let mut retry = self.retry(size_bytes);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let left = self.total_of(size_bytes).saturating_sub(started.elapsed());
            let error = match within(self.attempt_of(size_bytes).min(left), act, place, attempt()).await {
                Ok(done) => {
                    count(act, "ok");
                    return Ok(done);
                }
                Err(error) => error,
            };
            let left = self.total_of(size_bytes).saturating_sub(started.elapsed());
            let delay =
                if error.is_retryable() { retry.next_delay().filter(|delay| *delay < left) } else { None };
            let Some(delay) = delay else {
                count(act, "failed");
                return Err(error.after(attempts, started.elapsed()));
            };
            count(act, "retried");
            tracing::debug!(%error, attempts, ?delay, "retrying a request to the object store");
            tokio::time::sleep(delay).await;
        }
    }
}

/// Stops `work` after `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    act: Act,
    place: &str,
    work: impl Future<Output = Result<T, ObjectError>>,
) -> Result<T, ObjectError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(ObjectError::TimedOut {
            act,
            place: place.to_owned(),
            after: limit,
            attempts: Attempts::default(),
        })
    })
}

/// Counts an attempt.
pub(super) fn count(act: Act, outcome: &'static str) {
    metrics::counter!(names::OBJECT_REQUESTS, "operation" => act.name(), "outcome" => outcome).increment(1);
}

fn transfer_time(size_bytes: u64) -> Duration {
    Duration::from_secs(size_bytes / limits::OBJECT_MIN_BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> ObjectError {
        ObjectError::Transient {
            act: Act::Put,
            place: "s3://b/k".to_owned(),
            reason: "SlowDown".to_owned(),
            attempts: Attempts::default(),
        }
    }

    fn permanent() -> ObjectError {
        ObjectError::NotFound { place: "s3://b/k".to_owned() }
    }

    /// The result and the number of attempts, for attempts that end as scripted, and then never.
    async fn outcome(
        timeouts: Timeouts,
        script: Vec<Result<(), ObjectError>>,
    ) -> (Result<(), ObjectError>, u32) {
        let (mut attempts, mut script) = (0, script.into_iter());
        let attempt = || {
            attempts += 1;
            let next = script.next();
            async move {
                match next {
                    Some(result) => result,
                    None => std::future::pending().await,
                }
            }
        };
        let result = timeouts.with_retries(Act::Put, "s3://b/k", 0, attempt).await;
        (result, attempts)
    }

    #[tokio::test]
    async fn transient_errors_are_retried_and_others_are_returned_at_once() {
        let timeouts = Timeouts { first_delay: Duration::from_millis(1), ..Timeouts::default() };
        let (result, attempts) = outcome(timeouts, vec![Err(transient()), Err(transient()), Ok(())]).await;
        assert!(result.is_ok() && attempts == 3, "{result:?} {attempts}");
        let (result, attempts) = outcome(timeouts, vec![Err(permanent())]).await;
        assert!(
            matches!(result, Err(ObjectError::NotFound { .. })) && attempts == 1,
            "{result:?} {attempts}"
        );
    }

    #[tokio::test]
    async fn an_operation_that_never_ends_is_stopped_in_time() {
        let timeouts = Timeouts {
            first_delay: Duration::from_millis(1),
            attempt: Duration::from_millis(50),
            total: Duration::from_millis(300),
            ..Timeouts::default()
        };
        let started = Instant::now();
        let (result, attempts) = outcome(timeouts, Vec::new()).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ObjectError::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains(&format!("given up after {attempts} attempts")), "{error}");
        assert!(attempts >= 2 && started.elapsed() < Duration::from_secs(30), "{attempts}");
    }

    #[test]
    fn many_bytes_may_take_longer() {
        let timeouts = Timeouts::default();
        assert_eq!(timeouts.attempt_of(0), limits::OBJECT_ATTEMPT_TIMEOUT);
        assert!(timeouts.attempt_of(limits::OBJECT_PART_BYTES) > 2 * limits::OBJECT_ATTEMPT_TIMEOUT);
    }
}
