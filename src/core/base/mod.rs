//! The vocabulary that everything else is written in.
//!
//! - [`id`]: node id, incarnation, origin, key hash.
//! - [`vector`]: clock, stamp (also called a dot) and version vector.
//! - [`duration`]: durations as operators write them; [`time`]: the wall clock.
//! - [`limits`]: every bound that is not a setting; [`shares`]: those on what one identity may take.
//! - [`metrics`]: the name, unit and help text of every metric; [`claims`]: what of peers is refused, and counted.
//! - [`trust`]: what a node believes other nodes.
//! - [`planted`]: bugs that the tests must find.
//! - [`advice`]: what an operator can do about an error of the operating system.

pub mod advice;
pub mod claims;
pub mod duration;
pub mod id;
pub mod limits;
pub mod metrics;
pub mod planted;
pub mod shares;
pub mod time;
pub mod trust;
pub mod vector;
