//! Writes documents: as text or JSON, to a terminal, a pipe or a file.

pub mod json;
pub mod notice;
pub mod options;
pub mod printer;
pub mod progress;
pub mod sink;
pub mod text;
