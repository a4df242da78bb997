//! The wall clock. It orders nothing; it decides expiry, and tells people when.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::duration;

/// Where the time comes from.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::new(|| {
            let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            duration::milliseconds(elapsed)
        })
    }

    /// Another one: milliseconds since the Unix epoch.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }

    /// Seconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        i64::try_from(Duration::from_millis(self.now_ms()).as_secs()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// Seconds since the Unix epoch, by the system's clock.
pub fn unix_now() -> i64 {
    WallClock::system().now()
}
