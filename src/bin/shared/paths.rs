//! Paths on the command line.

use std::path::PathBuf;

use brock_core::base::advice;

/// A path as it stands: `~` and variables are for a shell to replace, and `--dir=~/x` is not replaced by any.
pub(crate) fn literal(text: &str) -> Result<PathBuf, String> {
    match advice::on_path(text) {
        Some(mistake) => Err(format!("it {mistake}")),
        None => Ok(text.into()),
    }
}
