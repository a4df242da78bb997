//! Receipts: as JSON, and `receipt verify`.

mod json;
mod verify;

pub(crate) use json::{Holder, Proof};
pub(crate) use verify::run;
