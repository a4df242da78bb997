//! The calls of clients and operators.
//!
//! - `cluster_view`: the whole cluster as one node sees it.
//! - `console`: the console in a browser, and who is refused.
//! - `hostile_reports`: peers whose reports lie.
//! - `log_tail`: `log tail`: entries in the order in which they become visible.
//! - `operations`: invalidate, unpublish, delete, and their receipts.
//! - `protocol`: what the key-value service answers, to the letter.
//! - `roles`: every call with every role.
//! - `session`: pipelined Puts and Gets.

mod cluster_view;
mod console;
mod hostile_reports;
mod log_tail;
mod operations;
mod protocol;
mod roles;
mod session;
