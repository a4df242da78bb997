//! Tells the code what processor the linked RocksDB needs. `src/core/build.rs` generates the messages.

use std::{env, fs, path::PathBuf};

/// deploy/rocksdb.sh lists the features beside the library that it makes; other libraries need none.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ROCKSDB_LIB_DIR");
    println!("cargo::rerun-if-env-changed=ROCKSDB_COMPILE");
    // The crate librocksdb-sys then ignores the library.
    let compiles = env::var("ROCKSDB_COMPILE").is_ok_and(|v| v == "1" || v.eq_ignore_ascii_case("true"));
    let directory = env::var_os("ROCKSDB_LIB_DIR").filter(|_| !compiles);
    let list = directory.map(|directory| PathBuf::from(directory).join("cpu-features"));
    let features = list.and_then(|list| fs::read_to_string(list).ok()).unwrap_or_default();
    println!("cargo::rustc-env=BROCK_PROCESSOR_FEATURES={}", features.trim());
}
