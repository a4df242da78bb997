//! Generates the `brock.v1` types and services from `proto/`, without needing `protoc`, and tells the
//! code what processor the linked RocksDB needs.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    require_processor();
    println!("cargo::rerun-if-changed=proto");
    let files =
        ["record", "kv", "status", "replication", "admin"].map(|name| format!("brock/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost_encode(&descriptors))?;
    tonic_prost_build::configure().bytes(".brock.v1").compile_fds(descriptors)?;
    Ok(())
}

/// deploy/rocksdb.sh lists the features beside the library that it makes; others need nothing.
fn require_processor() {
    println!("cargo::rerun-if-env-changed=ROCKSDB_LIB_DIR");
    let list = env::var_os("ROCKSDB_LIB_DIR").map(|directory| PathBuf::from(directory).join("cpu-features"));
    let features = list.and_then(|list| fs::read_to_string(list).ok()).unwrap_or_default();
    println!("cargo::rustc-env=BROCK_PROCESSOR_FEATURES={}", features.trim());
}

fn prost_encode(descriptors: &protox::prost_reflect::prost_types::FileDescriptorSet) -> Vec<u8> {
    use protox::prost_reflect::prost::Message;
    descriptors.encode_to_vec()
}
