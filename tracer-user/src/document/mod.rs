//! A capture as typed data: what its JSON is, and what every output reads.
//!
//! A [`capture::Capture`] is built from what was observed ([`build`]) and written as it is, or rendered: no output says
//! what is not in it.

pub mod blocked;
pub mod build;
pub mod by_name;
pub mod capture;
pub mod followed;
pub mod full;
pub mod gauges;
pub mod hist;
pub mod init;
pub mod inspection;
pub mod interval;
pub mod named;
pub mod slow;
pub mod tally;

#[cfg(test)]
pub(crate) mod fixtures;
