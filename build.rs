//! Tells the code what processor the linked RocksDB needs. `src/core/build.rs` generates the messages.

use std::{env, fs, path::PathBuf};

/// deploy/rocksdb.sh lists the features beside the library that it makes; other libraries need none.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ROCKSDB_LIB_DIR");
    let list = env::var_os("ROCKSDB_LIB_DIR").map(|directory| PathBuf::from(directory).join("cpu-features"));
    let features = list.and_then(|list| fs::read_to_string(list).ok()).unwrap_or_default();
    println!("cargo::rustc-env=BROCK_PROCESSOR_FEATURES={}", features.trim());
}
