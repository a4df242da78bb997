//! Alarms: what an operator must look into. They are logged, and kept until an operator clears them.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use brock_core::base::{limits, time::WallClock};

/// An event that should not have happened, or needs an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// When it was raised, seconds since the Unix epoch.
    pub at_unix: i64,
    /// What has happened, and what to do.
    pub text: String,
}

/// The newest [`limits::ALARMS_MAX`] alarms of a node. They are not durable: after a restart the node raises
/// an alarm again if its cause persists. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Alarms {
    kept: Arc<Mutex<VecDeque<Alarm>>>,
    wall_clock: WallClock,
}

impl Alarms {
    /// None yet. The clock tells when one is raised.
    pub fn new(wall_clock: WallClock) -> Self {
        Self { kept: Arc::default(), wall_clock }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Alarm>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs and keeps an alarm.
    pub fn raise(&self, text: String) {
        tracing::error!("{text}");
        let at_unix = self.wall_clock.now();
        let mut kept = self.lock();
        if kept.len() == limits::ALARMS_MAX {
            kept.pop_front();
        }
        kept.push_back(Alarm { at_unix, text });
    }

    /// The kept alarms, oldest first.
    pub fn list(&self) -> Vec<Alarm> {
        self.lock().iter().cloned().collect()
    }

    /// Removes and returns all kept alarms. An alarm that is raised at the same time is returned or kept.
    pub fn clear(&self) -> Vec<Alarm> {
        mem::take(&mut *self.lock()).into()
    }
}
