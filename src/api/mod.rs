//! The protocols that the node speaks: decode, one call of `app`, encode.
//!
//! - [`grpc`]: the gRPC services, their authorisation and their audit log.
//! - [`http`]: probes, metrics and the console.

pub mod grpc;
pub mod http;
