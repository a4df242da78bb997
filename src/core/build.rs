//! Generates the `brock.v1` types and services from `proto/`, without needing `protoc`.

use std::{error::Error, fs, path::PathBuf};

/// From this crate's directory.
const PROTO: &str = "../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let files = ["record", "kv", "status", "trust", "replication", "admin"]
        .map(|name| format!("brock/v1/{name}.proto"));
    let descriptors = protox::compile(files, [PROTO])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost_encode(&descriptors))?;
    tonic_prost_build::configure().build_transport(false).bytes(".brock.v1").compile_fds(descriptors)?;
    Ok(())
}

fn prost_encode(descriptors: &protox::prost_reflect::prost_types::FileDescriptorSet) -> Vec<u8> {
    use protox::prost_reflect::prost::Message;
    descriptors.encode_to_vec()
}
