//! Captures as typed data: the types of the JSON, which all outputs read.
//!
//! A [`capture::Capture`] is built from what was observed ([`build`]), and written as JSON or rendered as text: no
//! output shows what is not in it.

pub mod answer;
pub mod blocked;
pub mod build;
pub mod by_name;
pub mod capture;
pub mod cause_estimate;
pub mod causes;
pub mod followed;
pub mod full;
pub mod gauges;
pub mod hist;
pub mod init;
pub mod inspection;
pub mod interval;
pub mod named;
pub mod ongoing;
pub mod overhead;
pub mod slow;
pub mod tally;

#[cfg(test)]
pub(crate) mod fixtures;
