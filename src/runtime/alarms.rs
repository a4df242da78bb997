//! Alarms: what an operator must look into. They are logged, and kept until an operator clears them.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use brock_core::base::limits;

/// An event that should not have happened, or needs an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// When it was raised, seconds since the Unix epoch.
    pub at_unix: i64,
    /// What has happened, and what to do.
    pub text: String,
}

/// The newest [`limits::ALARMS_MAX`] alarms. They are not durable: after a restart the node raises an alarm
/// again if its cause persists.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<VecDeque<Alarm>>);

impl Alarms {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Alarm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs and keeps an alarm.
    pub fn raise(&self, at_unix: i64, text: String) {
        tracing::error!("{text}");
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
