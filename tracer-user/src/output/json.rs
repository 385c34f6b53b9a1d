//! Writes documents as JSON.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::escape::escape_json;

/// Returns `value` as one line of JSON with its newline, with every control character escaped.
///
/// # Errors
/// `serde_json` cannot write it, which does not happen to a document: its maps have string keys.
pub fn line(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(value).map_err(unwritable)?;
    Ok(format!("{}\n", escape_json(&json)))
}

/// Returns `value` as indented JSON with its last newline, with every other control character escaped.
///
/// # Errors
/// See [`line()`].
pub fn pretty(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string_pretty(value).map_err(unwritable)?;
    // Each newline is serde_json's own: it has escaped those within strings.
    Ok(json
        .lines()
        .map(|line| format!("{}\n", escape_json(line)))
        .collect())
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::failed(format!("the result cannot be written as JSON: {e}"))
}
