//! Sources of observations: one folder per way to get them. Every source yields
//! [`Observation`](crate::stream::Observation)s.

pub mod causes;
pub mod execs;
pub mod host;
pub mod ongoing;
pub mod passive;
pub mod plugins;
pub mod probes;
pub mod programs;
pub mod starts;
pub mod transitions;
