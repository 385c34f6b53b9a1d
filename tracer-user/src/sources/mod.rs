//! Where observations come from: each source yields [`crate::stream::Observation`]s and nothing else.

pub mod kernel;
pub mod passive;
