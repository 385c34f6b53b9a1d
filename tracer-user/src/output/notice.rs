//! Single messages on stderr while a capture runs.

use crate::escape::{escape, lines};
use crate::output::text::layout;
use crate::writing::stderr;

/// Writes a message in one line.
pub fn line(text: &str) {
    stderr::write(format!("{}\n", escape(text)).as_bytes());
}

/// Writes a message in lines of at most 80 columns, and waits until they are written if somebody reads them: for what
/// must come before the output of a command that starts now.
pub fn paragraph(text: &str) {
    stderr::write(format!("{}\n", lines(&layout::wrap(&escape(text), 0))).as_bytes());
    stderr::settle();
}
