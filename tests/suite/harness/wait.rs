//! Waiting for a condition, with a deadline. These are the only sleeps of tests that wait.

use std::{
    future::Future,
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take to become true before a test fails. Generous: the machine may be
/// busy, and a passing test never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is checked.
const PACE: Duration = Duration::from_millis(10);

/// Waits until `check` returns a value. Panics with `what` after [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl FnMut() -> F) -> T {
    within(PATIENCE, check).await.unwrap_or_else(|| panic!("still not so after {PATIENCE:?}: {what}"))
}

/// Waits until `check` returns a value. `None` after `limit`.
pub async fn within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check().await {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// [`eventually`] for tests without a runtime: blocks this thread.
pub fn eventually_here<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    within_here(PATIENCE, check).unwrap_or_else(|| panic!("still not so after {PATIENCE:?}: {what}"))
}

/// [`within`] for tests without a runtime: blocks this thread.
pub fn within_here<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PACE);
    }
}

/// Panics with `what` unless `check` holds for the whole of `duration`. For claims that something
/// does not happen, which no event can end.
pub async fn stays<F: Future<Output = bool>>(what: &str, duration: Duration, mut check: impl FnMut() -> F) {
    let broken = within(duration, || {
        let holds = check();
        async move { (!holds.await).then_some(()) }
    });
    assert!(broken.await.is_none(), "it did not stay so for {duration:?}: {what}");
}
