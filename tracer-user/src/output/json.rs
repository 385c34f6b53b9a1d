//! A capture as JSON.

use serde::Serialize;

use crate::escape::escape_json;

/// `value` as one line of JSON with its newline, with every control character escaped.
///
/// # Errors
/// What `serde_json` cannot write, which is nothing that this crate hands it: its maps have string keys.
pub fn line(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string(value)?;
    Ok(format!("{}\n", escape_json(&json)))
}

/// `value` as indented JSON with its last newline, with every other control character escaped.
///
/// # Errors
/// As [`line`].
pub fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string_pretty(value)?;
    // The newlines between its parts are its own: those in strings serde_json has escaped.
    Ok(json
        .lines()
        .map(|line| format!("{}\n", escape_json(line)))
        .collect())
}
