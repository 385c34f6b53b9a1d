//! The JSON that a capture wrote, printed as text or as JSON again.

use std::io::BufRead;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Replayed, can_be_split};
use crate::{
    document::{
        capture::{Capture, CaptureMode, SCHEMA},
        interval::{Interval, StartsInterval},
    },
    error::{Error, Result},
    escape::Untrusted,
    output::printer::Printer,
    plan::Mode,
    session::options::ReplayOptions,
    stream::Flow,
};

/// Most bytes that are read: no capture of ours comes near it.
const MOST_BYTES: u64 = 1 << 30;
/// Most fields of a later gmpscope that are named.
const MOST_NAMED: usize = 5;

/// Whether a file that begins like this holds JSON. A recording begins with a byte that no text has.
pub(super) fn looks_like_json(begin: &[u8]) -> bool {
    begin.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Prints the intervals and the capture that `file` holds, with the printer that `open` makes once the file was
/// understood.
///
/// # Errors
/// It is not JSON that gmpscope writes, or holds no capture; or it cannot be printed.
pub(super) fn print(
    file: impl BufRead,
    name: &str,
    options: &ReplayOptions,
    open: impl FnOnce() -> Result<Printer>,
) -> Result<(Printer, Replayed)> {
    if options.interval.is_some() {
        return Err(Error::usage(format!(
            "--interval needs a recording, and {name} is the JSON of a capture, which has the intervals that it was \
             made with: record with `gmpscope attach --record FILE`"
        )));
    }
    let documents = read(file, name)?;
    if let Some(by) = options.by {
        for document in &documents {
            if let Document::Capture(capture) = document {
                can_be_split_by(by, capture.capture.mode, name)?;
            }
        }
    }
    let mut printer = open()?;
    let mut is_complete = None;
    for document in documents {
        let flow = match document {
            Document::Interval(interval) => printer.print_interval(&interval)?,
            Document::Starts(interval) => printer.print_starts(&interval)?,
            Document::Capture(capture) => {
                is_complete = Some(printer.print_capture(*capture)?);
                Flow::Written
            }
        };
        if flow == Flow::ReaderGone {
            return Ok((printer, Replayed::ReaderGone));
        }
    }
    match is_complete {
        Some(is_complete) => Ok((printer, Replayed::Concluded { is_complete })),
        None => Err(Error::failed(format!(
            "{name} holds intervals and no capture: it was cut off before the capture ended"
        ))),
    }
}

/// An object of the file.
enum Document {
    Interval(Box<Interval>),
    Starts(StartsInterval),
    Capture(Box<Capture>),
}

fn read(file: impl BufRead, name: &str) -> Result<Vec<Document>> {
    let mut file = file.take(MOST_BYTES);
    let mut documents = Vec::new();
    let mut unknown = Vec::new();
    for value in serde_json::Deserializer::from_reader(&mut file).into_iter::<Value>() {
        let value = value.map_err(|e| {
            Error::failed(format!(
                "{name} is neither a recording nor the JSON of a capture: {e}; `gmpscope attach --record FILE` makes a \
                 recording, `--format json` the JSON"
            ))
        })?;
        let schema = value.get("schema").and_then(Value::as_str).unwrap_or_default();
        documents.push(match schema {
            SCHEMA => Document::Capture(Box::new(typed(&value, name, &mut unknown)?)),
            Interval::SCHEMA => Document::Interval(Box::new(typed(&value, name, &mut unknown)?)),
            StartsInterval::SCHEMA => Document::Starts(typed(&value, name, &mut unknown)?),
            other => {
                return Err(Error::failed(format!(
                    "{name} holds JSON with the schema `{}`, and this gmpscope prints {SCHEMA}, {} and {}",
                    Untrusted::from(other),
                    Interval::SCHEMA,
                    StartsInterval::SCHEMA
                )));
            }
        });
    }
    if file.limit() == 0 {
        return Err(Error::failed(format!(
            "{name} is not the JSON of a capture: it is larger than {} MiB",
            MOST_BYTES >> 20
        )));
    }
    if !unknown.is_empty() {
        let named: Vec<String> = unknown.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        log::warn!(
            "{name} was written by another version: {} of its fields are not understood, and are left out: {}{}",
            unknown.len(),
            named.join(", "),
            if unknown.len() > MOST_NAMED { ", …" } else { "" }
        );
    }
    Ok(documents)
}

/// Returns the object as what it says that it is; the paths of what is lost by that are added to `unknown`.
fn typed<T: DeserializeOwned + Serialize>(
    value: &Value,
    name: &str,
    unknown: &mut Vec<Untrusted>,
) -> Result<T> {
    let foreign = |e: serde_json::Error| {
        Error::failed(format!(
            "{name} is not the JSON of a capture as this gmpscope writes it: {}",
            Untrusted::from(e.to_string())
        ))
    };
    let typed = T::deserialize(value).map_err(foreign)?;
    let again = serde_json::to_value(&typed).map_err(foreign)?;
    add_missing(value, &again, "", unknown);
    Ok(typed)
}

/// Adds the paths of the fields of `value` that `again` does not have.
fn add_missing(value: &Value, again: &Value, path: &str, missing: &mut Vec<Untrusted>) {
    match (value, again) {
        (Value::Object(fields), Value::Object(again)) => {
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                match again.get(key) {
                    Some(again) => add_missing(value, again, &path, missing),
                    // Another program has written `null` for an absent field.
                    None if value.is_null() => {}
                    None => missing.push(path.trim_start_matches('.').into()),
                }
            }
        }
        (Value::Array(values), Value::Array(again)) => {
            for (value, again) in values.iter().zip(again) {
                add_missing(value, again, path, missing);
            }
        }
        _ => {}
    }
}

fn can_be_split_by(by: super::SplitBy, mode: CaptureMode, name: &str) -> Result<()> {
    let mode = match mode {
        CaptureMode::Passive => Mode::Passive,
        CaptureMode::Sampled => Mode::Sampled,
        CaptureMode::Exact => Mode::Exact,
        CaptureMode::Full => Mode::Full,
        CaptureMode::Init => {
            return Err(Error::usage(format!(
                "{name} is of run or attach --next: --by cannot split how a program started"
            )));
        }
    };
    can_be_split(Some(by), mode, name)
}

#[cfg(test)]
mod tests;
