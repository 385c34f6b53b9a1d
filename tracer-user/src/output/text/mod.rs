//! Renders a capture as text of at most 80 columns, like bcc's `runqlat`: what was traced, the answer, what stands out,
//! and then the figures behind it.

mod answer;
mod bar;
mod blocked;
mod cause_estimate;
mod causes;
mod cost;
mod facts;
mod findings;
mod followed;
mod full;
mod gauges;
mod header;
mod histogram;
pub mod init;
mod inspection;
pub mod interval;
pub mod layout;
mod ongoing;
mod slow;
mod style;
pub mod table;
mod undecided;
pub mod units;
mod waits;

pub use slow::{slow_header, slow_line};
pub use style::{Style, wants_colour};

use crate::document::capture::Capture;
use crate::output::options::SplitBy;

/// Renders a capture.
pub fn render(capture: &Capture, style: Style) -> String {
    let by = style.by.unwrap_or(match capture.by_origin.is_empty() {
        true => SplitBy::CreationSite,
        false => SplitBy::Origin,
    });
    let mut text = header::render(capture, by);
    text.push_str(&answer::render(capture));
    text.push_str(&findings::render(&capture.findings, style));
    if let Some(init) = &capture.init {
        let rendered = match &init.tree {
            Some(tree) => followed::render(init, tree),
            None => init::render(init),
        };
        // A timeline stands directly below the header where nothing is between.
        if text.contains("\n\n") && !rendered.starts_with('\n') {
            text.push('\n');
        }
        text.push_str(&rendered);
    }
    text.push_str(&waits::render(capture, by, style));
    text.push_str(&causes::render(capture, style));
    text.push_str(&cause_estimate::render(capture, style));
    text.push_str(&ongoing::render(capture));
    text.push_str(&full::render(capture, by));
    text.push_str(&slow::render(capture));
    text.push_str(&facts::render(capture));
    text.push_str(&undecided::render(capture));
    text
}

#[cfg(test)]
mod tests;
