//! Boot, shutdown, crashes.
//!
//! - `crash`: processes that are killed while clients write.
//! - `descriptors`: few file descriptors, and callers that take many.
//! - `hanging`: directories and files that do not answer.
//! - `probes`: what a running node answers over HTTP.
//! - `restarts`: nodes that stop and come back.
//! - `start`: starts that must fail.
//! - `supervised`: what systemd sees.
//! - `survival`: partitions, jumping clocks, rolled back directories.

mod crash;
mod descriptors;
mod hanging;
mod probes;
mod restarts;
mod start;
mod supervised;
mod survival;
