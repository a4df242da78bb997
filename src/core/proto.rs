//! The generated `brock.v1` messages and services.

#![allow(missing_docs, clippy::pedantic, clippy::all)]

tonic::include_proto!("brock.v1");

/// The descriptors of every `brock.v1` file, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
