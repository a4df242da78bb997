//! The node as a process.
//!
//! - `boot`: one function starts a node; `shutdown`: one function stops it.
//! - `frame`: what a node has from its first moment: tasks, readiness, the pages of its HTTP server.
//! - `prepare`: certificates, addresses and listeners, before the storage opens.
//! - [`certificate`]: the node's certificate, as its store sees it.
//! - `storage`: opens the storage; `first_start`: decides whether it may be empty.
//! - `application`: builds the application layer on the open storage.
//! - `services`: the gRPC services; `grpc_server`: serves them; `health`: when they are ready.
//! - `background`: starts the background tasks; `backups`: the tasks that make backups.
//! - `checkpoint`: writes the superblock and the members; `gauges`: records the gauges.
//! - `reload`: rotates certificates while the node runs; `revoked`: notices a revocation list that got shorter.
//! - `running`: the handle of a running node.
//! - [`systemd`]: notifies a supervisor.
//! - `error`: why a node does not start.

mod application;
mod background;
mod backups;
mod boot;
pub mod certificate;
mod checkpoint;
mod error;
mod first_start;
mod frame;
mod gauges;
mod grpc_server;
mod health;
mod prepare;
mod reload;
mod revoked;
mod running;
mod services;
mod shutdown;
mod storage;
pub mod systemd;

pub use error::StartError;
pub use prepare::check_certificates;
pub use running::Node;
pub use shutdown::Stopped;
