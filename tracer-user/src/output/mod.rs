//! How a document reaches people and programs: text and JSON, to a terminal, a pipe or a file.

pub mod interval;
pub mod json;
pub mod progress;
pub mod sink;
pub mod starts_interval;
pub mod text;
