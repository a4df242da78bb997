//! A client of a Brock cluster, and the JSON that the tools and the console show.
//!
//! - [`client`]: [`Client`], which asks one node after the other until one answers, and [`Connection`].
//! - [`calls`]: the key-value and admin calls of both.
//! - [`failover`]: [`Answered`], the outcome of asking one node after the other.
//! - [`error`]: why a call failed, and whether the node may have carried it out.
//! - [`orders`]: signs what destroys, with an operator's certificate.
//! - [`view`]: the status of nodes and traces of records as JSON.
//!
//! The crate compiles neither the database nor the S3 client.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//!
//! use brock_client::Client;
//! use brock_core::proto;
//! use brock_net::tls::credentials::ClientIdentity;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = ClientIdentity::load(Path::new("certs"))?;
//! let addresses = vec!["node1.example.com:20004".parse()?, "node2.example.com:20004".parse()?];
//! let client = Client::new(&credentials, addresses, Duration::from_secs(5));
//! let request = proto::GetRequest { key_hash: vec![7; 32].into(), local: false };
//! let record = client.get(request).await.outcome?.record;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod calls;
pub mod client;
pub mod error;
pub mod failover;
pub mod orders;
pub mod view;

pub use client::{Client, Connection};
pub use error::{CallError, ClientError, Miss};
pub use failover::Answered;
pub use orders::Orders;
