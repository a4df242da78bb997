//! What an operator should know about and look into: told in the log, and kept until it is dealt with.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use brock_core::base::limits;

/// Something that should not have happened, or needs somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// When it was raised, seconds since the Unix epoch.
    pub at_unix: i64,
    /// What it is and what to do.
    pub text: String,
}

/// The newest [`limits::ALARMS_MAX`]. They are not durable: a restart forgets them, and finds again what
/// has stayed as it was.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<VecDeque<Alarm>>);

impl Alarms {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Alarm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs it and keeps it.
    pub fn raise(&self, at_unix: i64, text: String) {
        tracing::error!("{text}");
        let mut kept = self.lock();
        if kept.len() == limits::ALARMS_MAX {
            kept.pop_front();
        }
        kept.push_back(Alarm { at_unix, text });
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<Alarm> {
        self.lock().iter().cloned().collect()
    }

    /// Forgets them, and returns which: one that is raised meanwhile is among those, or stays.
    pub fn clear(&self) -> Vec<Alarm> {
        mem::take(&mut *self.lock()).into()
    }
}
