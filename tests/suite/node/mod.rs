//! Boot, shutdown, crashes.
//!
//! - `crash`: processes that are killed while clients write.
//! - `restarts`: nodes that stop and come back.
//! - `start`: starts that must fail, and what a running node says over HTTP.
//! - `supervised`: what systemd sees.
//! - `survival`: partitions, jumping clocks, rolled back directories.

mod crash;
mod restarts;
mod start;
mod supervised;
mod survival;
