//! What a client of a Brock cluster needs: reaching nodes, and the JSON that tools and the console show.
//!
//! It compiles neither the database nor the S3 client.

#![forbid(unsafe_code)]

pub mod view;
