//! What everything else stands on. Imports nothing of this crate but itself.

pub mod advice;
pub mod alarms;
pub mod clock;
pub mod duration;
pub mod id;
pub mod limits;
pub mod metrics;
pub mod planted;
pub mod processor;
pub mod retry;
pub mod spans;
pub mod task;
pub mod time;
