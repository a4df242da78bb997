//! An error with its causes, as text.

use std::error::Error;

use brock_net::task;

/// The messages of an error and its causes, each once. Bounded in length.
pub(super) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    task::bounded(&text)
}
