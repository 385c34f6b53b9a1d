//! Renders the answer of a capture.

use crate::document::answer;
use crate::document::capture::Capture;
use crate::output::text::layout::{hang, keep_units};

/// Columns by which all but the first line of a sentence are indented.
const INDENT: usize = 2;

/// Renders the answer; an empty text where there is none. A capture of an earlier version has none in its JSON, and gets
/// it here.
pub fn render(capture: &Capture) -> String {
    let mut lines = capture.answer.clone();
    if lines.is_empty() {
        lines = answer::of(capture);
    }
    let lines: String = lines
        .iter()
        .map(|line| hang("", &keep_units(&line.to_string()), INDENT))
        .collect();
    match lines.is_empty() {
        true => lines,
        false => format!("\n{lines}"),
    }
}
