//! The record, its operations, how its states merge, and how they are encoded.
//!
//! Pure: no I/O, no async, no RocksDB, no tonic.
//!
//! - [`record`]: the state of a key hash, and its merge; [`proofs`]: what of it is proven; [`payload`]: the content
//!   that clients put.
//! - [`operation`]: what is logged; [`segment`]: a stretch of a log; [`quarantined`]: an entry that could not
//!   be applied; [`order`]: what an operator signs; [`relog`]: what of a state is not proven, as operations.
//! - [`birth`]: the key of an incarnation; [`bundle`]: how its operations are signed; [`evidence`]: what proves one of
//!   them, with the [`leaves`] of its bundle; [`inclusion`]: what proves it by itself;
//!   [`fork`]: proof that it has signed two histories; [`head`]: how far its log goes, with a time.
//! - [`acknowledgement`]: what a member signs of another's log; [`receipt`]: who holds an operation, with the proof.
//! - [`digest`]: digests of record sets; [`codec`]: the bytes of all of it, on disk and on the wire.

pub mod acknowledgement;
pub mod birth;
pub mod bundle;
pub mod codec;
pub mod digest;
pub mod evidence;
pub mod fork;
pub mod head;
pub mod inclusion;
pub mod leaves;
pub mod operation;
pub mod order;
pub mod payload;
pub mod proofs;
pub mod quarantined;
pub mod receipt;
pub mod record;
pub mod relog;
pub mod segment;
