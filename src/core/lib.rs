//! What every Brock program shares: identifiers, records and how they merge, encodings, limits and
//! the generated messages. Nothing here does I/O.
//!
//! - [`base`]: identifiers, version vectors, durations, limits, metric names.
//! - [`domain`]: the record and its merge, operations, segments, digests, encodings.
//! - [`proto`]: the generated `brock.v1` messages and services.

#![forbid(unsafe_code)]

pub mod base;
pub mod domain;
pub mod proto;
