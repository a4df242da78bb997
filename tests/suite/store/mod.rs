//! What a storage directory keeps, through full disks and repetition.
//!
//! - `adopted`: how far logs go on a donor's word, and which last bundle they have then.
//! - `bundles`: what proves records, kept once for all that name it.
//! - `conflicts`: payloads that lost, and the note that they are dealt with.
//! - `disk_full`: a full disk, and room again.
//! - `forked`: origins that sign two histories.
//! - `mutations`: random mutations of what nodes tell each other of logs beside the logs.
//! - `opening`: what a storage directory may hold when a node starts, and which incarnation follows.
//! - `repetition`: calls and messages that arrive twice.
//! - `signed`: a signed log, and what of an altered one is believed.
//! - `storage`: what the store keeps, counts and merges.
//! - `vanished`: a data directory that disappears, is replaced or becomes read-only under a running node.

mod adopted;
mod bundles;
mod conflicts;
mod disk_full;
mod forked;
mod mutations;
mod opening;
mod repetition;
mod signed;
mod storage;
mod vanished;
