//! Nothing to generate here: `src/core/build.rs` makes the messages.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
