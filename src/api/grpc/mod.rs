//! The gRPC services. A handler has three beats: decode, one call of `app`, encode.
//!
//! - [`calls`]: every call, the roles that may make it, and what the audit log records of it.
//! - [`authorise`]: the layer that applies them, deny by default; `audit`: operators' calls in the audit log;
//!   `shown`: what it shows of their messages.
//! - [`kv`], [`replication`], [`admin`], [`recognition`]: the handlers.
//! - `convert`: messages to the types of `app` and back; `status`: errors to gRPC statuses.

pub mod admin;
mod audit;
pub mod authorise;
pub mod calls;
mod convert;
pub mod kv;
pub mod recognition;
pub mod replication;
mod shown;
mod status;
