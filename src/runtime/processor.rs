//! What this build needs of the processor.

/// The features that the linked RocksDB was compiled for, separated by spaces. build.rs takes them from the
/// library that deploy/rocksdb.sh makes; empty for a library that runs everywhere.
const REQUIRED: &str = env!("BROCK_PROCESSOR_FEATURES");

/// Refuses a processor that lacks a required feature, as an instruction that it does not know would
/// end the process without a word. To be called first in `main`.
///
/// # Errors
///
/// Says which features are missing and what to do.
pub fn check() -> Result<(), String> {
    check_with(REQUIRED, has)
}

fn check_with(required: &str, has: fn(&str) -> bool) -> Result<(), String> {
    let missing: Vec<_> = required.split_whitespace().filter(|feature| !has(feature)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this build needs a processor with {}, which this one lacks: run it on another machine, or build it \
         with ROCKSDB_COMPILE=1, which does without",
        missing.join(" and ")
    ))
}

/// Knows the names that deploy/rocksdb.sh writes.
#[cfg(target_arch = "x86_64")]
fn has(feature: &str) -> bool {
    match feature {
        "sse4.2" => std::arch::is_x86_feature_detected!("sse4.2"),
        "pclmulqdq" => std::arch::is_x86_feature_detected!("pclmulqdq"),
        _ => false,
    }
}

/// On other architectures RocksDB itself detects what it uses.
#[cfg(not(target_arch = "x86_64"))]
fn has(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_lacks_a_feature_is_refused_with_its_name() {
        let error = check_with("sse4.2 pclmulqdq", |feature| feature == "sse4.2").unwrap_err();
        assert!(error.contains("with pclmulqdq, which"), "{error}");
        let error = check_with("sse4.2 pclmulqdq", |_| false).unwrap_err();
        assert!(error.contains("with sse4.2 and pclmulqdq, which"), "{error}");
    }

    #[test]
    fn a_processor_that_has_all_is_accepted() {
        assert_eq!(check_with("sse4.2 pclmulqdq", |_| true), Ok(()));
        assert_eq!(check_with("", |_| false), Ok(()));
        assert_eq!(check(), Ok(()), "the machine that runs the tests");
    }
}
