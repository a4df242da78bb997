//! What a client of this node may ask the store to change, and what becomes of it.

use bytes::Bytes;

use brock_core::{
    base::{id::KeyHash, vector::Stamp},
    domain::{operation::Operation, record::UnixSeconds},
};

/// A record to be created.
#[derive(Clone)]
pub struct NewRecord {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When it expires; `None` = never.
    pub expires_at: Option<UnixSeconds>,
    /// Whether it may be used without authentication.
    pub public: bool,
    /// The encoded payload.
    pub payload: Bytes,
}

/// What became of one create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// It is durable, and this is its place in the log.
    Created(Stamp),
    /// This node knows the key hash already, perhaps as deleted or expired. Nothing changed.
    Exists,
}

/// An invalidate, unpublish or delete to be made.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// What it is about.
    pub key_hash: KeyHash,
    /// What is to be done.
    pub operation: Operation,
    /// Also if nobody created it, as far as is known here.
    pub ahead: bool,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationOutcome {
    /// It is durable, and this is its place in the log.
    Done(Stamp),
    /// That operation had the same effect already. Nothing changed.
    Already(Stamp),
    /// The record is deleted, and can only be deleted again. Nothing changed.
    Deleted,
    /// This node does not know the key hash. Nothing changed.
    Unknown,
}
