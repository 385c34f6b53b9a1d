//! A capture as JSON.

use serde::Serialize;

use super::escape::escape_json;

/// `value` as one line of JSON with its newline, with every control character escaped.
///
/// # Errors
/// What `serde_json` cannot write, which is nothing that this crate hands it: its maps have string keys.
pub fn line(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string(value)?;
    Ok(format!("{}\n", escape_json(&json)))
}
