//! How long operations on objects may take, and trying again.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::{Act, ObjectError, error::Tried};
use crate::runtime::retry::{Retry, RetryPolicy};
use brock_core::base::{limits, metrics as names};

/// How long things may take. The default is what `limits.rs` says; tests are less patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first delay after a passing fault.
    pub first_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// How long one attempt may take, besides the time for its bytes.
    pub attempt: Duration,
    /// How long one request may take with all its retries, besides the time for its bytes.
    pub total: Duration,
    /// How long all pages of a listing, or all batches of a delete, may take.
    pub scan: Duration,
}

impl Default for Patience {
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

impl Patience {
    /// How long one attempt that moves this many bytes may take.
    pub fn attempt_of(&self, size_bytes: u64) -> Duration {
        self.attempt + transfer_time(size_bytes)
    }

    /// How long it may take with all its retries.
    pub fn total_of(&self, size_bytes: u64) -> Duration {
        self.total + transfer_time(size_bytes)
    }

    /// The one policy by which anything about objects is tried again.
    pub(super) fn retry(&self, size_bytes: u64) -> Retry {
        Retry::new(RetryPolicy {
            first_delay: self.first_delay,
            max_delay: self.max_delay,
            max_elapsed: Some(self.total_of(size_bytes)),
        })
    }

    /// Attempts something until it succeeds, fails for good, or its time is over.
    pub(super) async fn persevere<T, F: Future<Output = Result<T, ObjectError>>>(
        &self,
        act: Act,
        place: &str,
        size_bytes: u64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ObjectError> {
        let started = Instant::now();
        let mut retry = self.retry(size_bytes);
        let mut tries = 0;
        loop {
            tries += 1;
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
                return Err(error.after(tries, started.elapsed()));
            };
            count(act, "retried");
            tracing::debug!(%error, tries, ?delay, "the object store is tried again");
            tokio::time::sleep(delay).await;
        }
    }
}

/// Gives something this long.
pub(super) async fn within<T>(
    limit: Duration,
    act: Act,
    place: &str,
    work: impl Future<Output = Result<T, ObjectError>>,
) -> Result<T, ObjectError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(ObjectError::TimedOut { act, place: place.to_owned(), after: limit, tried: Tried::default() })
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

    fn passing() -> ObjectError {
        ObjectError::Passing {
            act: Act::Put,
            place: "s3://b/k".to_owned(),
            reason: "SlowDown".to_owned(),
            tried: Tried::default(),
        }
    }

    fn lasting() -> ObjectError {
        ObjectError::NotFound { place: "s3://b/k".to_owned() }
    }

    /// The result and the attempts, for attempts that end as they are told, and then never again.
    async fn outcome(
        patience: Patience,
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
        let result = patience.persevere(Act::Put, "s3://b/k", 0, attempt).await;
        (result, attempts)
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_what_will_not_is_told_at_once() {
        let patience = Patience { first_delay: Duration::from_millis(1), ..Patience::default() };
        let (result, attempts) = outcome(patience, vec![Err(passing()), Err(passing()), Ok(())]).await;
        assert!(result.is_ok() && attempts == 3, "{result:?} {attempts}");
        let (result, attempts) = outcome(patience, vec![Err(lasting())]).await;
        assert!(
            matches!(result, Err(ObjectError::NotFound { .. })) && attempts == 1,
            "{result:?} {attempts}"
        );
    }

    #[tokio::test]
    async fn what_never_answers_is_given_up_in_time() {
        let patience = Patience {
            first_delay: Duration::from_millis(1),
            attempt: Duration::from_millis(50),
            total: Duration::from_millis(300),
            ..Patience::default()
        };
        let started = Instant::now();
        let (result, attempts) = outcome(patience, Vec::new()).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ObjectError::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains(&format!("given up after {attempts} attempts")), "{error}");
        assert!(attempts >= 2 && started.elapsed() < Duration::from_secs(30), "{attempts}");
    }

    #[test]
    fn many_bytes_may_take_longer() {
        let patience = Patience::default();
        assert_eq!(patience.attempt_of(0), limits::OBJECT_ATTEMPT_TIMEOUT);
        assert!(patience.attempt_of(limits::OBJECT_PART_BYTES) > 2 * limits::OBJECT_ATTEMPT_TIMEOUT);
    }
}
