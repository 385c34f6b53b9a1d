//! What people and programs read: text and JSON.
//!
//! A [`capture::Capture`] is built from what was observed ([`build`]) and then written as it is (JSON) or
//! rendered ([`text`]): the text says nothing that the JSON does not hold.

pub use crate::escape;

pub mod blocked;
mod blocked_text;
pub mod build;
pub mod capture;
pub mod followed;
mod followed_text;
pub mod full;
mod full_text;
pub mod gauges;
pub mod histogram;
pub mod init;
pub mod init_text;
pub mod inspection;
mod inspection_text;
pub mod interval;
pub mod json;
pub mod layout;
pub mod progress;
pub mod sink;
pub mod starts_interval;
pub mod table;
pub mod text;
pub mod units;

#[cfg(test)]
mod fixtures;
