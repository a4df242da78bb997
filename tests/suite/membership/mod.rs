//! How a node finds its peers and learns about itself.
//!
//! - `duplicates`: two nodes with one id.
//! - `first_start`: `node.first-start auto`: new nodes and lost disks.
//! - `identity`: incarnations after a lost disk or a lost end.
//! - `joining`: `node.join`: lists, and names in DNS.

mod duplicates;
mod first_start;
mod identity;
mod joining;
