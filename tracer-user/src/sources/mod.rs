//! Where observations come from: one folder per way to get them. What passes on is always
//! [`Observation`](crate::stream::Observation), whatever the source.

pub mod host;
pub mod passive;
pub mod probes;
pub mod starts;
pub mod transitions;
