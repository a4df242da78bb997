//! The gRPC services. A handler has three beats: decode, one call of `app`, encode.
//!
//! - [`authorise`]: the role that each method requires, deny by default.
//! - `audit`: operators' calls in the audit log; `arguments`: which arguments it shows.
//! - [`kv`], [`replication`], [`admin`], [`recognition`]: the handlers.

pub mod admin;
mod arguments;
mod audit;
pub mod authorise;
pub mod kv;
pub mod recognition;
pub mod replication;
